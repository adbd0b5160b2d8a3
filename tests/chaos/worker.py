"""A worker process of the campaign: ``wfq worker ...``, with a mutation where one is named."""

from __future__ import annotations

import os
import sys

from tests.chaos.mutations import MUTATIONS
from wfq_cli.app import main

if __name__ == "__main__":
    mutation = os.environ.get("CHAOS_MUTATION", "")
    if mutation:
        MUTATIONS[mutation]()
    sys.exit(main())

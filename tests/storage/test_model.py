"""Random steps of clients, workers and faults; after each, every invariant holds.

`MODEL_EXAMPLES` and `MODEL_STEPS` make the search longer, `MODEL_SHRINK=1` makes it shrink what
it finds.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.storage.machine import Engine

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "10"))
STEPS = int(os.environ.get("MODEL_STEPS", "40"))
SHRINK = bool(os.environ.get("MODEL_SHRINK"))


def explore(url: str, machine: type[Engine] = Engine, *, examples: int = EXAMPLES) -> None:
    """Search for a sequence of steps after which an invariant fails."""

    class Here(machine):  # type: ignore[misc, valid-type]
        pass

    Here.url = url
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # Shrinking takes minutes, and the steps are printed anyway.
            phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
            print_blob=False,
        ),
    )


def test_no_sequence_of_steps_breaks_an_invariant(valkey_url: str) -> None:
    explore(valkey_url)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_longer_search_breaks_none_either(valkey_url: str) -> None:
    explore(valkey_url, examples=5 * EXAMPLES)

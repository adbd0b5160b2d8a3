"""``python -m wfq_cli.tether ARGUMENTS``: the `wfq` command, for as long as its parent lives.

`wfq dev` and `wfq demo` hold the other end of its stdin. When they go, even by SIGKILL, the pipe
closes and the child stops in order: no worker is left behind that nobody knows of.
"""

from __future__ import annotations

import os
import signal
import threading
import time

#: Seconds for an orderly stop after the parent has gone.
_GRACE_S = 10.0


def _follow_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Tie this process to its stdin, then run the command."""
    threading.Thread(target=_follow_parent, name="wfq-tether", daemon=True).start()
    from wfq_cli.app import main as run

    run()


if __name__ == "__main__":
    main()

"""Whether live workers can run what is meant, told in one line where they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from wfq.storage import membership
from wfq.storage.membership import WorkerInfo
from wfq_cli.session import Session


def live(session: Session) -> list[WorkerInfo]:
    """The live workers of the namespace."""
    return membership.live_workers(session.link, session.namespace)


def lack(workers: Sequence[WorkerInfo], queue: str, workflow: str) -> str | None:
    """What keeps an instance of this application and workflow from running; None for nothing."""
    orchestrators = [info.details for info in workers if _serves(info.details, queue)]
    served = {name for details in orchestrators for name in details["workflows"]}
    if not orchestrators:
        return f"no worker of {queue!r} is running; {workflow!r} waits for one ('wfq worker APP')"
    if workflow not in served:
        near = get_close_matches(workflow, served, 1)
        known = f"; known: {', '.join(sorted(served)[:10])}" if served else ""
        hint = f"; did you mean {near[0]!r}?" if near else known
        return f"no live worker of {queue!r} has registered {workflow!r}: it waits{hint}"
    return None


def unobeyed(workers: Sequence[WorkerInfo], queue: str) -> str | None:
    """How a lifecycle command gets to an application without orchestrators; None: as usual."""
    if any(_serves(info.details, queue) for info in workers):
        return None
    if any("scheduler" in info.details.get("roles", ()) for info in workers):
        return f"no worker of {queue!r} is running; a scheduler obeys it within about 20 s"
    return f"no worker of {queue!r}, and no scheduler, is running; it is obeyed when one does"


def _serves(details: dict[str, Any], queue: str) -> bool:
    return "workflows" in details and details.get("app_id", queue) == queue

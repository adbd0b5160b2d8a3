"""``wfq worker --processes N``: N worker processes under one that starts them again."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from wfq.storage.membership import forget_worker
from wfq_cli.session import Session
from wfq_workers.activities.store import release_worker
from wfq_workers.orchestrating.orchestrator import release_dead_worker
from wfq_workers.supervisor import Supervisor


def supervise(session: Session, arguments: Sequence[str], queues: Sequence[str]) -> int:
    """Run the processes until the end is asked for; returns the exit code."""
    settings = session.settings
    app_id = settings.app_id

    def release(worker_id: str) -> None:
        # What it held is free at once; without this, when its leases run out.
        release_dead_worker(session.link, session.namespace, app_id, worker_id)
        release_worker(session.link, session.namespace, tuple(queues) or (app_id,), worker_id)
        forget_worker(session.link, session.namespace, worker_id)

    supervisor = Supervisor(
        [sys.executable, "-m", "wfq_cli", *arguments],
        settings.processes,
        grace_s=settings.drain_s,
        release=release,
        env={**os.environ, **session.environment()},
        # Port 0 is a free one for each.
        numbered={"WFQ_METRICS_PORT": settings.metrics_port} if settings.metrics_port else None,
    )
    return supervisor.run()

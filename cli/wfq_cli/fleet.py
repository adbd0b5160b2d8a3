"""``wfq workers`` and ``wfq queues``: who is at work, and on what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from wfq.storage import membership
from wfq.storage.scripts import Argument
from wfq_cli import exits, render
from wfq_cli.render import Column, Row
from wfq_cli.session import Session, open_session
from wfq_cli.target import Target, output_option, target_options


def _slots(row: Row) -> str:
    """Slots that are taken, and how many there are; "" for one that runs no activities."""
    if "concurrency" not in row:
        return ""
    return f"{row.get('busy', '?')}/{row['concurrency']}"


_WORKER_COLUMNS = (
    Column("WORKER", lambda row: row["worker_id"]),
    Column("HOST", lambda row: str(row.get("host", ""))),
    Column("PID", lambda row: str(row.get("pid", "")), right=True),
    Column("ROLES", lambda row: ",".join(row.get("roles") or ())),
    Column("QUEUES", lambda row: ",".join(row.get("queues") or ())),
    Column("SLOTS", _slots, right=True),
    Column("SEEN", lambda row: render.age(row["seen_at"]), right=True),
    Column("WORKFLOWS", lambda row: ", ".join(row.get("workflows") or ())),
)

_QUEUE_COLUMNS = (
    Column("QUEUE", lambda row: row["queue"]),
    Column("WORKERS", lambda row: str(row["workers"]), right=True),
    Column("EVENTS", lambda row: str(row["events"]), right=True),
    Column("ACTIVITIES", lambda row: str(row["activities"]), right=True),
    Column("RUNNING", lambda row: str(row["running"]), right=True),
)


@click.command()
@output_option
@target_options
def workers() -> None:
    """List live workers: those that reported within the last seconds."""
    target = Target.current()
    with open_session(target) as session:
        count = render.print_rows(
            _workers(session), target.output, _WORKER_COLUMNS, ident="worker_id"
        )
        if not count:
            exits.hint(f"no live worker in namespace {session.settings.namespace!r}")


def _workers(session: Session) -> Iterator[Row]:
    for info in membership.live_workers(session.link, session.namespace):
        seen = datetime.fromtimestamp(info.seen_ms / 1000, UTC)
        yield {"worker_id": info.worker_id, "seen_at": seen, **info.details}


@click.command()
@output_option
@target_options
def queues() -> None:
    """List queues: live workers, events and activities that wait, activities that run."""
    target = Target.current()
    with open_session(target) as session:
        count = render.print_rows(_queues(session), target.output, _QUEUE_COLUMNS, ident="queue")
        if not count:
            exits.hint(f"no queue was used in namespace {session.settings.namespace!r} yet")


def _queues(session: Session) -> Iterator[Row]:
    live = membership.live_workers(session.link, session.namespace)
    for queue in membership.known_queues(session.link, session.namespace):
        serving = sum(queue in (info.details.get("queues") or ()) for info in live)
        yield {"queue": queue, "workers": serving, **_depths(session, queue)}


def _depths(session: Session, queue: str) -> dict[str, int]:
    """Return what waits and runs in all partitions of a queue, from one round trip."""
    namespace = session.namespace
    commands: list[tuple[Argument, ...]] = []
    for partition in range(namespace.partitions):
        activities = namespace.activities(partition, queue)
        commands += (
            ("XLEN", namespace.events(partition, queue)),
            ("XLEN", activities),
            ("XPENDING", activities, "activities"),
        )
    replies = session.link.try_commands(commands)
    events = sum(map(_number, replies[0::3]))
    entries = sum(map(_number, replies[1::3]))
    running = sum(map(_number, replies[2::3]))
    return {"events": events, "activities": max(entries - running, 0), "running": running}


def _number(reply: Any) -> int:
    """Return a count; a stream without its group (nothing was ever scheduled) has none."""
    match reply:
        case int():
            return reply
        case {"pending": int(pending)}:
            return pending
        case [int(pending), *_]:
            return pending
        case _:
            return 0

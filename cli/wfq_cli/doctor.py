"""``wfq doctor`` and ``wfq explain``: is everything whole, and what is an instance waiting for?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click

from wfq.checker import Report, check_namespace
from wfq.checker.explain import explain_instance, told_in_full
from wfq.checker.repair import repair_namespace
from wfq.errors import InstanceNotFound, StorageError
from wfq.storage.membership import live_workers
from wfq.storage.opening import is_memory
from wfq_cli import exits, render
from wfq_cli.render import Column, Row
from wfq_cli.session import Session, open_session
from wfq_cli.target import Target, output_option, target_options

#: Milliseconds for one answer, above which Redis is too far away or too busy.
SLOW_MS = 20.0

_COLUMNS = (
    Column("CHECK", lambda row: row["check"]),
    Column("RESULT", lambda row: row["result"]),
    Column("DETAIL", lambda row: row["detail"]),
)


@click.command()
@click.option("--deep", is_flag=True, help="Verify the invariants of every instance.")
@click.option("--repair", is_flag=True, help="Put back what is missing; implies --deep.")
@output_option
@target_options
def doctor(deep: bool = False, repair: bool = False) -> None:
    """Check the server's settings and, with --deep, every instance.

    Exits with 1 when something is wrong. --repair changes nothing that is right, and may be
    run while workers work.
    """
    target = Target.current()
    with open_session(target) as session:
        rows = [*_server(session), *_fleet(session)]
        if repair:
            mended, report = repair_namespace(session.link, session.namespace)
            rows += (
                _row("repair", "mended", f"{m.instance_id}: {', '.join(m.what)}") for m in mended
            )
            rows += _instances(report)
        elif deep:
            rows += _instances(check_namespace(session.link, session.namespace))
        render.print_rows(iter(rows), target.output, _COLUMNS, ident="check")
    if any(row["result"] == "wrong" for row in rows):
        click.get_current_context().exit(exits.UNEXPECTED)


@click.command()
@click.argument("instance_id", metavar="ID")
@output_option
@target_options
def explain(instance_id: str) -> None:
    """Say in words what an instance is waiting for, or how it ended."""
    target = Target.current()
    with open_session(target) as session:
        state = session.state(instance_id)
        status = state.runtime_status.name
        told = explain_instance(session.link, session.namespace, instance_id, status)
        if told is None:
            raise InstanceNotFound(f"no workflow instance {instance_id!r} any more", instance_id)
        pairs = [("instance", instance_id), ("status", status), *told_in_full(told)]
        render.print_one(told.document(), target.output, pairs, ident=instance_id)


def _row(check: str, result: str, detail: str) -> Row:
    return {"check": check, "result": result, "detail": detail}


def _server(session: Session) -> Iterator[Row]:
    """The server as it is set up; what it does not let us ask is said, not guessed."""
    link = session.link
    begin = time.perf_counter()
    for _ in range(5):
        link.command("PING")
    answer_ms = (time.perf_counter() - begin) * 200
    yield _row("latency", "slow" if answer_ms > SLOW_MS else "ok", f"{answer_ms:.1f} ms an answer")
    if is_memory(link.url):
        yield _row("persistence", "warning", "memory:// keeps nothing")
        return
    try:
        info: dict[str, Any] = link.redis.info()
    except Exception as exc:
        yield _row("server", "unknown", f"INFO is refused: {exc}")
        return
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version")
    yield _row("server", "ok", f"{name} {version}, {info.get('role')}")
    policy = info.get("maxmemory_policy", "unknown")
    evicts = info.get("maxmemory") and policy != "noeviction"
    yield _row("eviction", "wrong" if evicts else "ok", f"maxmemory-policy {policy}")
    appends = bool(info.get("aof_enabled"))
    yield _row(
        "persistence",
        "ok" if appends else "warning",
        "append-only file" if appends else "no append-only file: a crash loses what came last",
    )


def _fleet(session: Session) -> Iterator[Row]:
    try:
        workers = live_workers(session.link, session.namespace)
    except StorageError as exc:
        yield _row("workers", "unknown", str(exc))
        return
    detail = f"{len(workers)} live" if workers else "none live: instances wait for one"
    yield _row("workers", "ok" if workers else "warning", detail)


def _instances(report: Report) -> Iterator[Row]:
    for violation in report.violations:
        yield _row("instances", "wrong", str(violation))
    counts = ", ".join(f"{count} {name}" for name, count in sorted(report.counts.items()))
    yield _row("instances", "ok" if report.ok else "summary", counts or "none")

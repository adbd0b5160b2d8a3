"""``wfq doctor`` and ``wfq explain``: is everything whole, and what is an instance waiting for?"""

from __future__ import annotations

from collections.abc import Iterator

import click

from wfq.checker import Report, check_namespace
from wfq.checker.explain import explain_instance
from wfq.checker.explanation import told_in_full
from wfq.checker.repair import repair_namespace
from wfq.errors import InstanceNotFound
from wfq_cli import exits, health, render
from wfq_cli.health import row
from wfq_cli.render import Column, Row
from wfq_cli.session import open_session
from wfq_cli.target import Target, output_option, target_options

_COLUMNS = (
    Column("CHECK", lambda row: row["check"]),
    Column("RESULT", lambda row: row["result"]),
    Column("DETAIL", lambda row: row["detail"], whole=True),
)


@click.command()
@click.option("--deep", is_flag=True, help="Verify the invariants of every instance.")
@click.option("--repair", is_flag=True, help="Put back what is missing; implies --deep.")
@output_option
@target_options
def doctor(deep: bool = False, repair: bool = False) -> None:
    """Check server, streams, workers and app, and with --deep every instance.

    Exits with 1 when something is wrong. --repair changes nothing that is right, and may be
    run while workers work.
    """
    target = Target.current()
    with open_session(target) as session:
        rows = [*health.look(session)]
        if repair:
            mended, report = repair_namespace(session.link, session.namespace)
            rows += (
                row("repair", "mended", f"{m.instance_id}: {', '.join(m.what)}") for m in mended
            )
            rows += _instances(report)
        elif deep:
            rows += _instances(check_namespace(session.link, session.namespace))
        render.print_rows(iter(rows), target.output, _COLUMNS, ident="check")
    if any(one["result"] == "wrong" for one in rows):
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


def _instances(report: Report) -> Iterator[Row]:
    for violation in report.violations:
        yield row("instances", "wrong", str(violation))
    counts = ", ".join(f"{count} {name}" for name, count in sorted(report.counts.items()))
    yield row("instances", "ok" if report.ok else "summary", counts or "none")

"""Verbs for many instances: ``ID...`` or ``--where FILTERS [--dry-run] [--yes]``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import wraps
from typing import Any

import click

from wfq.client import WorkflowClient
from wfq.errors import StorageError, WfqError
from wfq.management.operations import SETTLE_S
from wfq_cli import completing, exits, render, serving
from wfq_cli.filters import FILTER_HELP, Filter, parse_where
from wfq_cli.listing import matching
from wfq_cli.render import Column, Row
from wfq_cli.session import Session, open_session
from wfq_cli.states import LIST_COLUMNS, summary
from wfq_cli.target import Target, output_option, target_options

Verb = Callable[[WorkflowClient, str], None]

#: The statuses in which each verb can do something; a filter that names none means these.
LIVE = ("PENDING", "RUNNING", "SUSPENDED", "STALLED")
ENDED = ("COMPLETED", "FAILED", "TERMINATED")

_COLUMNS = (
    Column("ID", lambda row: row["instance_id"]),
    Column("RESULT", lambda row: row["result"]),
)


@dataclass(frozen=True, slots=True)
class Bulk:
    """Which instances a verb was given, and whether it may go ahead."""

    ids: tuple[str, ...]
    where: Filter | None
    dry_run: bool
    yes: bool

    @property
    def settle_s(self) -> float:
        """Seconds to wait for the effect on each: for many it adds up."""
        return SETTLE_S if len(self.ids) == 1 else 0.0


def bulk_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the arguments of a bulk verb; it receives them as `bulk`.

    An option `older_than` of the command's own becomes a part of the filter.
    """

    @wraps(function)
    def command(
        ids: tuple[str, ...],
        terms: tuple[str, ...],
        dry_run: bool,
        yes: bool,
        older_than: datetime | None = None,
        **rest: Any,
    ) -> Any:
        if bool(ids) == bool(terms or older_than):
            raise click.UsageError(
                "give either ids or --where FILTERS", click.get_current_context()
            )
        where = parse_where(terms) if terms else None
        if older_than is not None:
            where = replace(where or Filter(), ended_before=older_than)
        return function(bulk=Bulk(ids, where, dry_run, yes), **rest)

    # click shows what is put on last first: the verb's own options, then the shared ones.
    command = output_option(target_options(command))
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask before acting on a filter."),
        click.option("--dry-run", is_flag=True, help="Only print which instances it would be."),
        click.option("--where", "terms", multiple=True, metavar="FILTERS", help=FILTER_HELP),
        click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=completing.ids),
    ):
        command = option(command)
    return command


def run_bulk(verb: str, bulk: Bulk, act: Verb, statuses: Sequence[str]) -> None:
    """Apply a verb to every instance that is meant, printing one row for each.

    `statuses` are those in which it makes sense: a filter without a status means them. One that
    cannot be done is reported on stderr and does not hold up the others; the exit code is that of
    the first such.
    """
    target = Target.current()
    with open_session(target) as session:
        if bulk.where is None:
            if bulk.dry_run:
                found = (summary(session.state(one)) for one in bulk.ids)
                render.print_rows(found, target.output, LIST_COLUMNS, ident="instance_id")
                return
            ids = list(dict.fromkeys(bulk.ids))
        else:
            where = (
                bulk.where if bulk.where.statuses else replace(bulk.where, statuses=tuple(statuses))
            )
            if bulk.dry_run:
                found = (summary(state) for state in matching(session, where))
                count = render.print_rows(found, target.output, LIST_COLUMNS, ident="instance_id")
                exits.note(f"{_instances(count)}; nothing was done (--dry-run)")
                return
            # Collected first: the verb changes what the filter finds.
            ids = [state.instance_id for state in matching(session, where)]
            if not _confirmed(verb, ids, bulk.yes):
                return
        failures: list[int] = []
        rows = _act(session, verb, ids, act, failures)
        render.print_rows(rows, target.output, _COLUMNS, ident="instance_id")
        if len(ids) == 1 and not failures and verb in _COMMANDS:
            _say_if_unobeyed(session, ids[0])
        if failures:
            click.get_current_context().exit(failures[0])


def _say_if_unobeyed(session: Session, instance_id: str) -> None:
    state = session.client.get_workflow_state(instance_id, fetch_payloads=False)
    if state is not None and not state.runtime_status.is_final:
        how = serving.unobeyed(serving.live(session), state.app_id)
        if how:
            exits.warn(how)


def _confirmed(verb: str, ids: list[str], yes: bool) -> bool:
    """Ask before acting on a filter. Raises: click.UsageError where nobody can be asked."""
    if not ids:
        exits.note("no instance fits")
        return False
    if yes:
        return True
    some = _instances(len(ids))
    if not sys.stdin.isatty():
        raise click.UsageError(f"--where fits {some}; pass --yes to {verb} them, or --dry-run")
    if click.confirm(
        f"{verb} {some} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})?", err=True
    ):
        return True
    exits.note("nothing was done")
    return False


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"


def _act(
    session: Session, verb: str, ids: Sequence[str], act: Verb, failures: list[int]
) -> Iterator[Row]:
    done = _PARTICIPLES[verb]
    for instance_id in ids:
        try:
            act(session.client, instance_id)
        except StorageError:
            # The next one would fail alike.
            raise
        except WfqError as exc:
            code, line = exits.explain(exc)
            failures.append(code)
            exits.warn(line, colour="red")
            continue
        yield {"instance_id": instance_id, "result": done}


#: Suspending, resuming and terminating take effect with the instance's next turn.
_COMMANDS = frozenset(("suspend", "resume", "terminate"))
_PARTICIPLES = {
    "suspend": "suspend requested",
    "resume": "resume requested",
    "terminate": "terminate requested",
    "purge": "purged",
    "raise": "raised",
}

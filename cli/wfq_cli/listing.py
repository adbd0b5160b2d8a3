"""``wfq list`` and ``wfq count``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import wraps
from itertools import islice
from typing import Any, NoReturn

import click

from wfq.storage.instances import INDEXED
from wfq_cli import exits, render
from wfq_cli.endings import State
from wfq_cli.filters import Filter, check_status
from wfq_cli.parsing import ago, parse_tags
from wfq_cli.render import Column
from wfq_cli.screen import Screen
from wfq_cli.session import Session, open_session
from wfq_cli.states import LIST_COLUMNS, summary
from wfq_cli.target import Target, output_option, target_options

#: Rows of a list unless `--limit` says otherwise.
DEFAULT_LIMIT = 100

#: Rows read at a time.
_PAGE = 200

#: Seconds between two looks of `--watch`; longer where one takes long.
_BEAT_S = 1.0
_REST = 5

_COUNT_COLUMNS = (
    Column("STATUS", lambda row: row["runtime_status"]),
    Column("INSTANCES", lambda row: str(row["count"]), right=True),
)


def _filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a filter; it receives them as `wanted`."""

    @wraps(function)
    def command(
        statuses: tuple[str, ...],
        name: str | None,
        since: datetime | None,
        until: datetime | None,
        id_part: str | None,
        tags: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        chosen = tuple(check_status(status) for text in statuses for status in text.split(","))
        wanted = Filter(chosen, name, since, until, id_part, parse_tags(tags))
        return function(wanted=wanted, **rest)

    # click shows what is put on last first: the filters, then the shared options.
    command = output_option(target_options(command))
    for option in (
        click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="With this tag."),
        click.option("--id", "id_part", metavar="TEXT", help="With this in their id."),
        click.option("--until", type=ago, metavar="AGE|TIME", help="Created before then."),
        click.option("--since", type=ago, metavar="AGE|TIME", help="Created since then."),
        click.option("--name", metavar="NAME", help="Of this workflow."),
        click.option(
            "--status",
            "statuses",
            multiple=True,
            metavar="STATUS",
            help="In this status; repeatable.",
            shell_complete=lambda *_: list(INDEXED),
        ),
    ):
        command = option(command)
    return command


@click.command("list")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=DEFAULT_LIMIT,
    show_default=True,
    metavar="N",
    help="Rows at most; 0 for all.",
)
@click.option("--watch", is_flag=True, help="Redraw until Ctrl-C.")
@_filter_options
def list_instances(wanted: Filter, limit: int, watch: bool) -> None:
    """List instances, newest first.

    \b
    wfq list --status failed --since 2h
    wfq list --watch
    wfq list --name purchase -o ids | xargs wfq terminate
    """
    with open_session() as session:
        if watch:
            _watch(session, wanted, limit)
        found = matching(session, wanted)
        rows = (summary(state) for state in (islice(found, limit) if limit else found))
        count = render.print_rows(rows, Target.current().output, LIST_COLUMNS, ident="instance_id")
        if not count:
            exits.hint(f"no instance fits in namespace {session.settings.namespace!r}")
        elif count == limit and next(found, None) is not None:
            exits.note(f"there are more than {limit}; '--limit 0' shows all")


def _watch(session: Session, wanted: Filter, limit: int) -> NoReturn:
    """Draw the list, with the counts above it, until Ctrl-C."""
    screen = Screen()
    while True:
        began = time.monotonic()
        rows = [summary(state) for state in islice(matching(session, wanted), limit or None)]
        totals = [f"{number} {name}" for name, number in counts(session, wanted).items() if number]
        head = f"{datetime.now():%H:%M:%S}  {', '.join(totals) or 'no instance fits'}"
        screen.show([head, *render.table_lines(rows, LIST_COLUMNS)])
        time.sleep(max(_BEAT_S, _REST * (time.monotonic() - began)))


@click.command()
@_filter_options
def count(wanted: Filter) -> None:
    """Count instances by status."""
    with open_session() as session:
        found = counts(session, wanted)
        rows: list[render.Row] = [
            {"runtime_status": status, "count": number} for status, number in found.items()
        ]
        output = Target.current().output
        if render.chosen(output, rows=True) == "table":
            rows.append({"runtime_status": "all", "count": sum(found.values())})
        render.print_rows(rows, output, _COUNT_COLUMNS, ident="runtime_status")


def matching(session: Session, wanted: Filter) -> Iterator[State]:
    """Yield the instances that fit, newest first, a page at a time."""
    cursor: str | None = None
    while True:
        page = session.client.list_workflows(**_filters(wanted), limit=_PAGE, cursor=cursor)
        yield from (state for state in page if _has_ended(state, wanted.ended_before))
        cursor = page.cursor
        if cursor is None:
            return


def _has_ended(state: State, before: datetime | None) -> bool:
    """Whether an instance ended before then, where that is asked for."""
    if before is None:
        return True
    # The last change of one that has ended is its end; states tell naive UTC.
    ended = state.last_updated_at.replace(tzinfo=UTC)
    return state.runtime_status.is_final and ended <= before


def counts(session: Session, wanted: Filter) -> dict[str, int]:
    """Return how many instances fit, by status."""
    found = session.client.count_workflows(**_filters(wanted))
    return {status.name: number for status, number in found.items()}


def _filters(wanted: Filter) -> dict[str, Any]:
    """Return a filter in the client's words; `--app-id` narrows down only where it was given."""
    return {
        "status": wanted.statuses or None,
        "name": wanted.name,
        "app_id": Target.current().app_id,
        "created_after": wanted.since,
        # Nothing ends before it was created.
        "created_before": wanted.until or wanted.ended_before,
        "tags": wanted.tags or None,
        "id_contains": wanted.id_part,
    }

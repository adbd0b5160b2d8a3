"""``wfq replay``: histories against code, and one history looked at from within."""

from __future__ import annotations

import contextlib
import pdb
import sys
from types import FrameType
from typing import Any

import click

from wfq.apps import load_app
from wfq.logs import plain_text
from wfq.registry import Registry
from wfq.testing.histories import SavedHistory
from wfq.testing.replaying import Replayed
from wfq.testing.replaying import replay as replay_one
from wfq.testing.timetravel import Stopped, stop_before, what_if
from wfq_cli import exits, render
from wfq_cli.histories import find_histories, split_app
from wfq_cli.parsing import parse_json
from wfq_cli.render import Column, Row
from wfq_cli.target import Target, output_option, target_options
from wfq_cli.watchdog import TIMEOUT_S, given_up_after

_COLUMNS = (
    Column("INSTANCE", lambda row: str(row["instance_id"])),
    Column("WORKFLOW", lambda row: str(row["workflow"])),
    Column("RESULT", lambda row: str(row["result"])),
    Column("EVENT", lambda row: str(row.get("event", "")), right=True),
    Column("SOURCE", lambda row: str(row.get("source", ""))),
)


@click.command()
@click.argument("words", metavar="ID|FILE|FOLDER... [APP]", nargs=-1, required=True)
@click.option("--app", metavar="APP", help="The app; else the last word, else as in 'wfq worker'.")
@click.option("--at", type=click.IntRange(min=0), metavar="N", help="Stop before event N.")
@click.option("--pdb", "debug", is_flag=True, help="With --at: open the debugger there.")
@click.option("--what-if", "other", metavar="N=JSON", help="Let event N have another result.")
@output_option
@target_options
@click.pass_context
def replay(
    ctx: click.Context,
    words: tuple[str, ...],
    app: str | None,
    at: int | None,
    debug: bool,
    other: str | None,
) -> None:
    """Run the code of APP over histories again and say whether it still fits.

    A history is that of an instance (its id), or a file that 'wfq history ID --save FILE' wrote,
    or every such file in a folder. No activity runs and nothing is written. Exit code 8: at least
    one does not fit; the difference is on stderr.

    With --at N (numbers are those of 'wfq history') the workflow is stopped before event N and its
    variables are printed. With --what-if N=JSON event N, a result, is another one (N=!TEXT: it
    failed), and the decisions that follow are compared.

    \b
    wfq replay order-7 app.py
    wfq replay tests/histories app.py
    wfq replay order-7 app.py --at 9 --pdb
    wfq replay order-7 app.py --what-if '9={"approved": false}'
    """
    targets, chosen = split_app(words, app)
    if debug and at is None:
        raise click.UsageError("--pdb goes with --at N")
    if at is not None and other is not None:
        raise click.UsageError("give --at or --what-if, not both")
    tried = None if other is None else _parse_what_if(other)
    registry = load_app(chosen).runtime.registry
    histories = list(find_histories(targets))
    if at is None and other is None:
        if not _replay_all(registry, histories):
            ctx.exit(exits.NONDETERMINISM)
        return
    if len(histories) != 1:
        raise click.UsageError("--at and --what-if look at one history")
    if tried is not None:
        _what_if(registry, histories[0], *tried)
    elif at is not None:
        _stop(registry, histories[0], at, debug)


def _replay_all(registry: Registry, histories: list[SavedHistory]) -> bool:
    """Replay and print; returns whether all fit."""
    results = [_guarded(registry, history) for history in histories]
    rows = [result.to_json() for result in results]
    render.print_rows(iter(rows), Target.current().output, _COLUMNS, ident="instance_id")
    wrong = [result for result in results if not result.ok]
    for result in wrong:
        click.echo(result.explain(), err=True)
    if wrong:
        exits.warn(f"{len(wrong)} of {len(results)} histories no longer fit the code", colour="red")
    return not wrong


def _guarded(registry: Registry, history: SavedHistory) -> Replayed:
    # What workflows print is not what this command says.
    with contextlib.redirect_stdout(sys.stderr), given_up_after(TIMEOUT_S):
        return replay_one(registry, history)


# -- stopping


def _stop(registry: Registry, history: SavedHistory, index: int, debug: bool) -> None:
    def open_debugger(frames: list[FrameType]) -> None:
        if debug and frames:
            # On a terminal it edits lines; what is piped into it is read as it is.
            if sys.stdin.isatty():
                debugger = pdb.Pdb(nosigint=True)
            else:
                debugger = pdb.Pdb(nosigint=True, stdin=sys.stdin, stdout=sys.stdout)
            debugger.reset()
            debugger.interaction(frames[0], None)

    if debug:
        stopped = stop_before(registry, history, index, open_debugger)
    else:
        with contextlib.redirect_stdout(sys.stderr), given_up_after(TIMEOUT_S):
            stopped = stop_before(registry, history, index)
    if debug:
        if not stopped.frames:
            exits.warn(f"no workflow code runs before event {index}")
        return
    event = stopped.event.to_json()
    document = {"event": event, "frames": [_frame(frame) for frame in stopped.frames]}
    if render.chosen(Target.current().output, rows=False) in ("table", "ids"):
        _print_stop(stopped)
    else:
        render.print_one(document, Target.current().output, [], ident=str(index))


def _frame(frame: Any) -> dict[str, Any]:
    names = ("function", "file", "line", "text", "locals")
    return {name: getattr(frame, name) for name in names}


def _print_stop(stopped: Stopped) -> None:
    event = stopped.event
    name = f" {event.name!r}" if event.name else ""
    click.secho(f"before event {event.index}, {event.event_type.value}{name}", bold=True)
    if not stopped.frames:
        click.echo("  no code of the workflow has begun")
    for frame in stopped.frames:
        click.echo(f"{frame.file}:{frame.line} in {frame.function}")
        click.secho(f"  > {frame.text}", dim=True)
        width = max((len(local) for local in frame.locals), default=0)
        for local, value in frame.locals.items():
            click.echo(f"  {local.ljust(width)} = {plain_text(value)}")


# -- what if


class WhatIfFailed(Exception):
    """The failure that ``--what-if N=!TEXT`` lets a task have."""


def _parse_what_if(text: str) -> tuple[int, Any]:
    """Return the number of the event and its other result. Raises: click.UsageError."""
    number, sign, given = text.partition("=")
    if not sign or not number.strip().isdecimal():
        raise click.UsageError(f"--what-if takes N=JSON, such as 9='\"ok\"', not {text!r}")
    if given.startswith("!"):
        return int(number), WhatIfFailed(given[1:])
    return int(number), parse_json(given, "other result")


def _what_if(registry: Registry, history: SavedHistory, index: int, value: Any) -> None:
    with contextlib.redirect_stdout(sys.stderr), given_up_after(TIMEOUT_S):
        found = what_if(registry, history, index, value)
    document: Row = {
        "event": found.event.to_json(),
        "differs": found.differs,
        "before": found.before,
        "after": found.after,
        "ending": found.ending,
    }
    output = Target.current().output
    if render.chosen(output, rows=False) not in ("table", "ids"):
        render.print_one(document, output, [], ident=str(index))
        return
    colours = {"-": "red", "+": "green"}
    for line in found.diff if found.differs else [f" {line}" for line in found.after]:
        click.secho(plain_text(line), fg=colours.get(line[:1]))
    what = "the decisions differ" if found.differs else "the same decisions"
    click.secho(f"{what}; {found.ending}", bold=True)
    if found.differs and found.event.is_rerunnable:
        exits.hint("'wfq rerun' makes it so")

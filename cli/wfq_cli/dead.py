"""``wfq dead``: what could not be delivered, to look at, send again, or drop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from wfq.errors import WfqError
from wfq_cli import exits, render
from wfq_cli.render import Column, Row
from wfq_cli.session import Session, open_session
from wfq_cli.target import Target, output_option, target_options

#: Characters of a message that a list shows.
_SHOWN = 200

_COLUMNS = (
    Column("LETTER", lambda row: row["letter"]),
    Column("AGE", lambda row: render.age(row["at"]), right=True),
    Column("KIND", lambda row: row["kind"]),
    Column("FROM", lambda row: row["from"]),
    Column("INSTANCE", lambda row: row["instance_id"]),
    Column("REASON", lambda row: row["reason"]),
)


@click.group()
def dead() -> None:
    """Dead letters: messages and tasks that could not be delivered, and why."""


@dead.command("list")
@output_option
@target_options
def list_dead() -> None:
    """List dead letters, oldest first."""
    target = Target.current()
    with open_session(target) as session:
        if not render.print_rows(_rows(session), target.output, _COLUMNS, ident="letter"):
            exits.hint("there are no dead letters")


def _rows(session: Session) -> Iterator[Row]:
    from wfq_workers.listening.dead_letters import list_letters

    for letter in list_letters(session.link, session.namespace):
        yield {
            "letter": letter.address,
            "at": letter.at,
            "kind": letter.text("kind"),
            "from": letter.text("source") or letter.text("queue"),
            "instance_id": letter.text("id"),
            "reason": letter.text("reason"),
            "message": letter.text("message")[:_SHOWN],
        }


def _letter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command LETTER arguments, ``--all`` and the shared options."""
    for decorate in (
        target_options,
        click.option("--all", "everything", is_flag=True, help="Every dead letter."),
        click.argument("letters", nargs=-1, metavar="LETTER..."),
    ):
        function = decorate(function)
    return function


@dead.command()
@_letter_options
@click.pass_context
def retry(ctx: click.Context, letters: Sequence[str], everything: bool) -> None:
    """Send messages of listeners again; those that arrive are dropped from the dead letters."""
    from wfq_workers.listening.dead_letters import Kept, drop_letter, send_again
    from wfq_workers.listening.listener import ListenerClient

    with open_session() as session:
        settings = session.settings_here
        client = ListenerClient(settings=settings)
        limit = int(settings.limits.payload_bytes)

        def one(letter: Kept) -> None:
            send_again(letter, client, settings.listeners, limit=limit)
            drop_letter(session.link, session.namespace, letter.address)

        try:
            ctx.exit(_each(session, letters, everything, one, "sent"))
        finally:
            client.close()


@dead.command()
@_letter_options
@click.pass_context
def drop(ctx: click.Context, letters: Sequence[str], everything: bool) -> None:
    """Remove dead letters for good."""
    from wfq_workers.listening.dead_letters import Kept, drop_letter

    with open_session() as session:

        def one(letter: Kept) -> None:
            drop_letter(session.link, session.namespace, letter.address)

        ctx.exit(_each(session, letters, everything, one, "dropped"))


def _each(
    session: Session,
    addresses: Sequence[str],
    everything: bool,
    work: Callable[[Any], None],
    done: str,
) -> int:
    """Do `work` to each letter, tell of each that fails, and return the exit code."""
    from wfq_workers.listening.dead_letters import list_letters

    if everything == bool(addresses):
        raise click.UsageError("name the letters, or give --all; 'wfq dead list' shows them")
    known = {letter.address: letter for letter in list_letters(session.link, session.namespace)}
    failed = 0
    for address in addresses or known:
        try:
            if address not in known:
                raise WfqError("there is no such dead letter; 'wfq dead list' shows them")
            work(known[address])
        except WfqError as exc:
            failed += 1
            exits.warn(f"{address}: {exc}")
        else:
            click.echo(f"{address} {done}")
    return exits.UNEXPECTED if failed else exits.OK

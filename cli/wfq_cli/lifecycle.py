"""``suspend``, ``resume``, ``terminate``, ``purge`` (by id or by filter) and ``rerun``."""

from __future__ import annotations

import click

from wfq.client import WorkflowClient
from wfq_cli import completing, exits
from wfq_cli.bulk import ENDED, LIVE, Bulk, bulk_options, run_bulk
from wfq_cli.endings import finish, wait_for_end
from wfq_cli.follow import follow
from wfq_cli.parsing import ago, duration, read_payload
from wfq_cli.session import open_session
from wfq_cli.start import print_id
from wfq_cli.target import output_option, target_options


@click.command()
@bulk_options
def suspend(bulk: Bulk) -> None:
    """Suspend instances: they keep their events and run no code until they are resumed."""

    def one(client: WorkflowClient, instance_id: str) -> None:
        client.pause_workflow(instance_id, settle_in_seconds=bulk.settle_s)

    run_bulk("suspend", bulk, one, ("PENDING", "RUNNING", "STALLED"))


@click.command()
@bulk_options
def resume(bulk: Bulk) -> None:
    """Resume suspended instances: what came meanwhile is delivered in order."""

    def one(client: WorkflowClient, instance_id: str) -> None:
        client.resume_workflow(instance_id, settle_in_seconds=bulk.settle_s)

    run_bulk("resume", bulk, one, ("SUSPENDED",))


@click.command()
@click.option("--result", metavar="JSON|@FILE|-", help="The output that they end with.")
@click.option("--no-recursive", is_flag=True, help="Leave their child workflows alone.")
@bulk_options
def terminate(bulk: Bulk, result: str | None, no_recursive: bool) -> None:
    """Terminate instances and their child workflows."""
    given = read_payload(result, "result")

    def one(client: WorkflowClient, instance_id: str) -> None:
        client.terminate_workflow(
            instance_id, output=given.value if given else None, recursive=not no_recursive
        )

    run_bulk("terminate", bulk, one, LIVE)


@click.command()
@click.option("--no-recursive", is_flag=True, help="Keep their child workflows.")
@click.option(
    "--older-than", type=ago, metavar="AGE|TIME", help="All that ended before then, such as 30d."
)
@bulk_options
def purge(bulk: Bulk, no_recursive: bool) -> None:
    """Remove ended instances with their history. Live ones are refused."""

    def one(client: WorkflowClient, instance_id: str) -> None:
        client.purge_workflow(instance_id, recursive=not no_recursive)

    run_bulk("purge", bulk, one, ENDED)


@click.command()
@click.argument("instance_id", metavar="ID", shell_complete=completing.ids)
@click.option(
    "--from-event", type=click.IntRange(min=0), metavar="N", help="Keep what was before event N."
)
@click.option("--new-id", metavar="ID", help="Run it as a new instance of this id.")
@click.option("--input", "text", metavar="JSON|@FILE|-", help="Another input than last time.")
@click.option("--wait", is_flag=True, help="Wait for its end and print the final state.")
@click.option("--follow", "live", is_flag=True, help="As --wait, with progress on stderr.")
@click.option("--timeout", type=duration, metavar="DURATION", help="Wait no longer.")
@output_option
@target_options
@click.pass_context
def rerun(
    ctx: click.Context,
    instance_id: str,
    from_event: int | None,
    new_id: str | None,
    text: str | None,
    wait: bool,
    live: bool,
    timeout: float | None,
) -> None:
    """Run an ended instance again; prints the id.

    N is the number of an event in 'wfq history': what happened before it is kept. With it, --input
    is that of the activity or child which event N schedules.
    """
    if timeout is not None and not (wait or live):
        raise click.UsageError("--timeout needs --wait or --follow", ctx)
    given = read_payload(text, "input")
    with open_session() as session:
        before = session.client.get_workflow_state(instance_id, fetch_payloads=False)
        if before is not None and not before.runtime_status.is_final and new_id != instance_id:
            status = before.runtime_status.name
            exits.warn(f"{instance_id!r} is {status}; the new instance runs beside it")
        made = session.client.rerun_workflow(
            instance_id,
            from_event=from_event,
            new_instance_id=new_id,
            **({} if given is None else {"input": given.value}),
        )
        if not (wait or live):
            print_id(made)
            exits.hint(f"running again; 'wfq get {made}' shows how it is doing")
            return
        waiting = follow if live else wait_for_end
        finish(ctx, waiting(session, made, timeout))

"""Commands that run until they are stopped: ``worker``, ``server`` and ``listen``."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Any

import click
from pydantic import ValidationError

from wfq.analysis.linting import lint_functions
from wfq.apps import App, load_app
from wfq.rules import ListenerRule
from wfq.storage import preflight
from wfq.storage.keys import check_queue
from wfq_cli import logs
from wfq_cli.session import Session, open_session
from wfq_cli.target import Target, target_options
from wfq_workers.loops import CODE_ROLES, DEFAULT_ROLES, ROLES, Job, Place, make_loops
from wfq_workers.process import new_worker_id, run_worker

log = logging.getLogger("wfq.worker")


@click.command()
@click.argument("app", required=False)
@click.option("--processes", type=click.IntRange(1, 1024), metavar="N", help="Default 1.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Activities at once.",
)
@click.option("--only", "roles", multiple=True, metavar="ROLE", help="Of: " + ", ".join(ROLES))
@click.option("--queue", "queues", multiple=True, metavar="Q", help="Activities of these queues.")
@click.option("--check", is_flag=True, hidden=True, help="Only see whether the app can be loaded.")
@click.option("--lint", is_flag=True, hidden=True, help="Warn of what workflows must not call.")
@target_options
@click.pass_context
def worker(
    ctx: click.Context,
    app: str | None,
    processes: int | None,
    concurrency: int | None,
    roles: tuple[str, ...],
    queues: tuple[str, ...],
    check: bool,
    lint: bool,
) -> None:
    """Run workers for APP: a file or module, such as app.py or shop.flows:app.

    Without APP: WFQ_APP, then app.py, workflows.py or main.py. SIGTERM or Ctrl-C lets running
    activities finish; the second one ends the worker at once.
    """
    wanted = _roles(roles)
    served = tuple(check_queue(queue) for text in queues for queue in text.split(","))
    found = load_app(app) if CODE_ROLES.intersection(wanted) else None
    if check:
        return
    flags = {"processes": processes, "concurrency": concurrency}
    with open_session(_program_target(found), **_program_settings(found, flags)) as session:
        logs.set_up(session.settings)
        if lint and found:
            _warn_of_what_replays_cannot_repeat(found)
        if session.settings.processes > 1:
            from wfq_cli.supervise import supervise

            ctx.exit(supervise(session, _one_process(ctx), served))
        registry = found.runtime.registry if found else None
        ctx.exit(_run(session, Job(wanted, registry, served)))


def _warn_of_what_replays_cannot_repeat(app: App) -> None:
    """Log one line for each call in workflow code that makes replays differ."""
    functions = (entry.function for entry in app.runtime.registry.workflows())
    for finding in lint_functions(functions):
        path = os.path.relpath(finding.path)
        shown = finding.path if path.startswith(os.pardir) else path
        log.warning("%s", replace(finding, path=shown))


def _roles(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the roles to fill, each once. Raises: click.UsageError."""
    named = {role for text in given for role in text.split(",")}
    unknown = named.difference(ROLES)
    if unknown:
        raise click.UsageError(f"no role {min(unknown)!r}; there are {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in named) or DEFAULT_ROLES


def _one_process(ctx: click.Context) -> list[str]:
    """Return the arguments of one process among several: as given, without the number."""
    arguments = ["worker"]
    for name, value in ctx.params.items():
        if name == "app" and value:
            arguments.append(value)
        elif name == "concurrency" and value is not None:
            arguments += ["--concurrency", str(value)]
        elif name in ("roles", "queues"):
            flag = "--only" if name == "roles" else "--queue"
            arguments += [word for one in value for word in (flag, one)]
    return [*arguments, "--processes", "1"]


def _program_target(found: App | None) -> Target:
    """Return the shared options; what was not given, the program may have given itself."""
    target = Target.current()
    given = found.runtime.given if found else {}
    return Target(
        target.redis_url or given.get("redis_url"),
        target.namespace or given.get("namespace"),
        target.app_id or given.get("app_id"),
    )


def _program_settings(found: App | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Return the flags, and below them the program's own settings."""
    own = found.runtime.given if found else {}
    names = {"concurrency"}
    return {**{k: v for k, v in own.items() if k in names}, **_given(flags)}


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


@click.command()
@click.option("--host", metavar="HOST", help="Where to listen; default 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="Default 3500.")
@click.option("--read-only", is_flag=True, default=None, help="Refuse all that changes something.")
@target_options
@click.pass_context
def server(ctx: click.Context, host: str | None, port: int | None, read_only: bool | None) -> None:
    """Run the HTTP API and the dashboard.

    It listens on this machine only; another --host needs WFQ_API_TOKEN.
    """
    from wfq_server.serving import make_server

    flags: dict[str, Any] = {"api_host": host, "api_port": port, "api_read_only": read_only}
    with open_session(**flags) as session:
        logs.set_up(session.settings)
        # One that is too new for this wfq is refused now, not by every request.
        _ = session.namespace
        loop = make_server(session.settings_here)

        def ready() -> None:
            click.echo(f"HTTP API on {loop.url}", err=True)
            click.echo(f"dashboard at {loop.url}/ui/", err=True)

        ctx.exit(run_worker([loop], grace_s=session.settings.drain_s, on_ready=ready))


@click.command()
@click.option("--channel", metavar="C", help="A pub/sub channel; at most once by nature.")
@click.option("--pattern", metavar="P", help="All channels whose name fits, such as orders.*")
@click.option("--stream", metavar="S", help="A Redis stream; at least once.")
@click.option("--group", metavar="G", help="Consumer group on the stream; default wfq.")
@click.option("--event", metavar="E", help="Name of the event.")
@click.option("--event-from", metavar="PATH", help="Where the message has the name.")
@click.option("--workflow", metavar="NAME", help="Start this workflow instead.")
@click.option("--instance-id-from", metavar="PATH", help="Where the message has the id: $.order.id")
@click.option("--data-from", metavar="PATH", help="Where it has the data; default: all of it.")
@click.option("--event-id-from", metavar="PATH", help="Where it has an id that counts once.")
@target_options
@click.pass_context
def listen(ctx: click.Context, /, **given: str | None) -> None:
    """Turn messages into events: from a channel, a pattern or a stream.

    Without a source, the rules are those of [[listeners]] in wfq.toml.

    \b
    wfq listen --channel approvals --event approval --instance-id-from $.order_id
    """
    rule = _rule(_given(given))
    with open_session() as session:
        logs.set_up(session.settings)
        if rule is None and not session.settings.listeners:
            raise click.UsageError(
                "nothing to listen to; give --channel or --stream, or [[listeners]] in wfq.toml"
            )
        ctx.exit(_run(session, Job(("listener",), rules=(rule,) if rule else ())))


def _rule(given: dict[str, Any]) -> ListenerRule | None:
    """Return the rule that the options make, None without any. Raises: click.UsageError."""
    if not given:
        return None
    try:
        return ListenerRule(**given)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        said = first["msg"].removeprefix("Value error, ")
        raise click.UsageError(said.replace("_", "-")) from exc


def _run(session: Session, job: Job) -> int:
    """Fill the roles of a job in this process until it is told to end; returns the exit code."""
    settings = session.settings_here
    preflight.look(session.link, session.namespace)
    place = Place(settings, session.url, session.namespace, new_worker_id())
    loops = make_loops(place, job, own_process=True)

    def ready() -> None:
        log.info("ready as %s: %s", place.worker_id, _words(job))

    return run_worker(loops, grace_s=settings.drain_s, on_ready=ready)


def _words(job: Job) -> str:
    """Return what a process does, for its first log line."""
    parts = [", ".join(job.roles)]
    if job.registry is not None:
        names = sorted({entry.name for entry in job.registry.workflows()})
        parts.append(f"workflows {', '.join(names) or 'none'}")
    return "; ".join(parts)

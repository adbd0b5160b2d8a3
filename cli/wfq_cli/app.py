"""The `wfq` command: which commands there are, and how each run ends.

Commands are loaded when they are called: this module imports nothing but click, so that
``wfq --help`` answers at once and without Redis or pydantic.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from wfq_cli import exits
from wfq_cli.target import output_option, target_options


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is not loaded yet: where it is defined and what the help says of it."""

    module: str
    function: str
    help: str
    aliases: tuple[str, ...] = ()


#: Commands by section, in the order of the help.
SECTIONS: dict[str, dict[str, Entry]] = {
    "First steps": {
        "demo": Entry("demo.command", "demo", "Run the five patterns on an embedded server."),
        "dev": Entry("dev", "dev", "Run your app here: workers, API, reload on change."),
    },
    "Instances": {
        "start": Entry("start", "start", "Start a workflow instance."),
        "raise": Entry("instances", "raise_event", "Raise an event to an instance."),
        "get": Entry("instances", "get", "Show an instance.", ("query", "status")),
        "wait": Entry("instances", "wait", "Wait until an instance has ended."),
        "list": Entry("listing", "list_instances", "List instances, newest first."),
        "count": Entry("listing", "count", "Count instances by status."),
        "history": Entry("instances", "history", "Show what happened in an instance."),
        "trace": Entry("trace", "trace", "Show an instance as a tree with bars."),
        "explain": Entry("doctor", "explain", "Say what an instance is waiting for."),
        "suspend": Entry("lifecycle", "suspend", "Suspend instances."),
        "resume": Entry("lifecycle", "resume", "Resume suspended instances."),
        "terminate": Entry("lifecycle", "terminate", "Terminate instances."),
        "purge": Entry("lifecycle", "purge", "Remove ended instances."),
        "rerun": Entry("lifecycle", "rerun", "Run an ended instance again."),
    },
    "Processes": {
        "worker": Entry("run", "worker", "Run workers for an app."),
        "server": Entry("run", "server", "Run the HTTP API."),
        "listen": Entry("run", "listen", "Turn messages into events."),
        "workers": Entry("fleet", "workers", "List live workers."),
        "queues": Entry("fleet", "queues", "List queues and what waits in them."),
        "dead": Entry("dead", "dead", "Look at what could not be delivered."),
    },
    "Tests and deploys": {
        "lint": Entry("lint", "lint", "Find what a replay cannot repeat."),
        "check": Entry("check", "check", "Would this code break what is under way?"),
        "replay": Entry("replay", "replay", "Run code over histories again; go back in one."),
        "fuzz": Entry("fuzz", "fuzz", "Try a workflow in thousands of orders."),
    },
    "Setup": {
        "doctor": Entry("doctor", "doctor", "Check the server and every instance."),
        "bench": Entry("bench", "bench", "Say how fast workflows are here."),
        "graph": Entry("graph", "graph", "Draw a workflow from its source."),
        "config": Entry("config", "config", "Show the settings and where they come from."),
        "completion": Entry("completion", "completion", "Print a shell completion script."),
    },
}

COMMANDS: dict[str, Entry] = {
    name: entry for section in SECTIONS.values() for name, entry in section.items()
}
ALIASES: dict[str, str] = {
    alias: name for name, entry in COMMANDS.items() for alias in entry.aliases
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        command = getattr(import_module(f"wfq_cli.{entry.module}"), entry.function)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in COMMANDS or name in ALIASES or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if name.startswith("-"):
            raise click.NoSuchOption(name, ctx=ctx)
        near = difflib.get_close_matches(name, [*COMMANDS, *ALIASES], 1)
        hint = f"did you mean '{near[0]}'?" if near else "'wfq --help' lists them"
        raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # The group's own way would import every command for its help.
        commands = [
            CompletionItem(name, help=entry.help)
            for name, entry in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(_label(name, e), e.help) for name, e in section.items()])

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        extra.setdefault("color", exits.emphasis())
        with exits.reader_may_leave():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with exits.reader_may_leave():
            return super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command. In standalone mode every end is an exit code and at most one line."""

        def run() -> Any:
            # click's own standalone mode prints several lines and knows exit codes 1 and 2 only.
            # Named, since `python -m` would show a path in the usage.
            name = prog_name or "wfq"
            return super(LazyGroup, self).main(
                args=args,
                prog_name=name,
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )

        return exits.run(run) if standalone_mode else run()


def _label(name: str, entry: Entry) -> str:
    return f"{name} ({', '.join(entry.aliases)})" if entry.aliases else name


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"wfq {version('wfq')}")
        ctx.exit()


@click.group(
    "wfq",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    invoke_without_command=True,
    no_args_is_help=False,
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
@output_option
@target_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Durable workflows in Python on Redis.

    New here? 'wfq demo' shows everything in half a minute, 'wfq dev app.py' runs your own.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """Entry point of the `wfq` script."""
    cli.main()
    sys.exit(0)


if __name__ == "__main__":
    main()

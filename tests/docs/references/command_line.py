"""docs/cli.md, from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from tests.docs.references.tables import code, table
from wfq_cli import exits, target
from wfq_cli.app import SECTIONS, cli

_INTRO = """\
# Command line

This page is made from the commands; `wfq COMMAND --help` says the same.

Data goes to stdout, everything else to stderr, and an error is one line: what, which, what next.
On a terminal results are tables; piped, one object is one JSON document and a list is one JSON
line per row. `-o` asks for a format: {formats}. The last prints ids alone, for
`xargs`.

INPUT, DATA and `--result` are JSON as an argument, `@file`, or `-` for stdin. Durations are
written `30s`, `1h30m`, `250ms` or `PT5S`; times `2026-03-01T09:00Z`, without a zone UTC.

## Options of every command

They may stand before the command or behind it.

{shared}

## Exit codes

{codes}
"""


def page() -> str:
    """Return the page."""
    context = click.Context(cli, info_name="wfq")
    shared = [parameter for parameter in _options(cli) if parameter.name in _SHARED]
    parts = [
        _INTRO.format(
            formats=", ".join(map(code, target.FORMATS)),
            shared=_option_table(shared, context),
            codes=table(("code", "meaning"), _exit_codes()),
        )
    ]
    for title, section in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name, entry in section.items():
            command = cli.get_command(context, name)
            assert command is not None
            parts += _described(command, click.Context(command, context, name), entry.aliases)
    return "\n".join(parts).rstrip() + "\n"


_SHARED = frozenset(("redis_url", "namespace", "app_id", "output"))


def _exit_codes() -> list[tuple[str, str]]:
    return re.findall(r"^(\d+) +(\S.*)$", inspect.getdoc(exits) or "", re.M)


def _described(
    command: click.Command, context: click.Context, aliases: tuple[str, ...] = ()
) -> Iterator[str]:
    yield f"### {context.command_path}\n"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"{code(usage)}\n"
    about, examples = _help(command)
    if aliases:
        about += f"\n\nAlso: {', '.join(code(f'wfq {alias}') for alias in aliases)}."
    yield f"{about}\n"
    if examples:
        yield f"```sh\n{examples}\n```\n"
    own = [option for option in _options(command) if option.name not in _SHARED]
    if own:
        yield _option_table(own, context) + "\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _described(inner, click.Context(inner, context, name))


def _help(command: click.Command) -> tuple[str, str]:
    """Return the prose and the example commands of a help text."""
    prose, examples = [], []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            examples.append(paragraph.removeprefix("\b\n"))
        else:
            prose.append(paragraph)
    return "\n\n".join(prose), "\n".join(examples)


def _options(command: click.Command) -> list[click.Option]:
    found = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return [option for option in found if not option.hidden and option.name != "version"]


def _option_table(options: list[click.Option], context: click.Context) -> str:
    rows = []
    for option in options:
        record = option.get_help_record(context)
        assert record is not None
        rows.append((code(record[0]), record[1]))
    return table(("option", "meaning"), rows)

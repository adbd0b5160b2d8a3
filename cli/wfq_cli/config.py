"""``wfq config``: the settings in force and where each came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from wfq_cli import render
from wfq_cli.render import Column
from wfq_cli.session import settings_of
from wfq_cli.target import Target, output_option, target_options

_COLUMNS = (
    Column("SETTING", lambda row: row["setting"]),
    Column("FROM", lambda row: row["from"]),
    Column("VALUE", lambda row: _shown(row["value"])),
)


@click.group(invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show the settings and where they come from."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@config.command()
@click.option("--set", "only_set", is_flag=True, help="Only what is not a default.")
@output_option
@target_options
def show(only_set: bool = False) -> None:
    """Show every setting, its value and where it came from; secrets are masked."""
    target = Target.current()
    settings = settings_of(target)
    rows = (
        {"setting": name, "value": value, "from": settings.origin(name.partition(".")[0])}
        for name, value in _flat(settings.shown())
    )
    wanted = (row for row in rows if not only_set or row["from"] != "default")
    render.print_rows(wanted, target.output, _COLUMNS, ident="setting")


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings by their dotted names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else render.compact(value)

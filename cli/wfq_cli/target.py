"""Which Redis, namespace and application a command is about, and how it prints.

The options are taken before the command and behind it alike: ``wfq --namespace shop list`` is
``wfq list --namespace shop``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("table", "json", "jsonl", "ids")
_META = "wfq_cli.target."


@dataclass(frozen=True, slots=True)
class Target:
    """The values of the shared options; None where an option was not given."""

    redis_url: str | None = None
    namespace: str | None = None
    app_id: str | None = None
    output: str | None = None

    @classmethod
    def current(cls) -> Target:
        """Return what the running command was given."""
        meta = click.get_current_context().meta
        names = ("redis_url", "namespace", "app_id", "output")
        return cls(**{name: meta.get(_META + name) for name in names})


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # `meta` is shared by the contexts of the group and the command; the command's comes last.
    if value is not None:
        ctx.meta[f"{_META}{param.name}"] = value


def target_options(function: F) -> F:
    """Add the options that say where: ``--redis-url``, ``--namespace``, ``--app-id``."""
    for flag, metavar, text in (
        ("--app-id", "APP", "The application whose instances are meant."),
        ("--namespace", "NAME", "The namespace on that Redis."),
        ("--redis-url", "URL", "The Redis; else the embedded server of this directory."),
    ):
        option = click.option(
            flag, metavar=metavar, help=text, expose_value=False, callback=_keep, is_eager=False
        )
        function = option(function)
    return function


def output_option(function: F) -> F:
    """Add ``-o``: table on a terminal, JSON otherwise, unless it is given."""
    option = click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        help="Output format. Default: table on a terminal; piped, JSON (a line per row).",
        expose_value=False,
        callback=_keep,
    )
    return option(function)

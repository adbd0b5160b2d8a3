"""``wfq completion``: scripts that complete commands, options and ids in a shell."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from wfq_cli.render import on_terminal

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_WFQ_COMPLETE"

_HOW = {
    "bash": 'eval "$(wfq completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(wfq completion zsh)"   in ~/.zshrc, after compinit',
    "fish": "wfq completion fish > ~/.config/fish/completions/wfq.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    """Print the completion script of a shell (default: that of $SHELL).

    bash wants `eval "$(wfq completion bash)"` in ~/.bashrc; zsh the same with its own name in
    ~/.zshrc, after compinit; fish the script in ~/.config/fish/completions/wfq.fish.
    """
    named = shell or Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(named)
    if named not in SHELLS or kind is None:
        raise click.UsageError(f"name a shell: {', '.join(SHELLS)}", ctx)
    maker = kind(ctx.find_root().command, {}, "wfq", _VARIABLE)
    # Not `source()`, which starts bash to look at its version.
    click.echo(maker.source_template % maker.source_vars())
    if on_terminal():
        click.echo(f"To use it: {_HOW[named]}", err=True)

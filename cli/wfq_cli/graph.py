"""``wfq graph``: the picture of a workflow, from its source."""

from __future__ import annotations

import click

from wfq.analysis.describing import graph_of
from wfq.analysis.mermaid import to_mermaid
from wfq.analysis.sources import NoSource
from wfq.analysis.svg import to_svg
from wfq.apps import App, load_app
from wfq.errors import ConfigurationError
from wfq.registry import WorkflowEntry


@click.command()
@click.argument("target", metavar="APP[:WORKFLOW]")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(("mermaid", "svg")),
    default="mermaid",
    show_default=True,
    help="Text for Mermaid, or a picture.",
)
def graph(target: str, form: str) -> None:
    """Draw a workflow from its source: steps, branches, loops, fan-outs, waits and timers.

    \b
    wfq graph app.py:purchase_order_workflow
    wfq graph app.py:purchase_order_workflow -o svg > order.svg
    """
    app, entry = _found(target)
    try:
        picture = graph_of(app.runtime.registry, entry)
    except NoSource as exc:
        raise ConfigurationError(str(exc)) from exc
    click.echo(to_mermaid(picture) if form == "mermaid" else to_svg(picture), nl=False)


def _found(target: str) -> tuple[App, WorkflowEntry]:
    """Return the app and the workflow that are named. Raises: ConfigurationError."""
    place, colon, name = target.rpartition(":")
    if not colon:
        app = load_app(target)
        entries = list(app.runtime.registry.workflows())
        if len({entry.name for entry in entries}) == 1:
            return app, entries[-1]
        raise ConfigurationError(_which(target, entries))
    app = load_app(place)
    entries = list(app.runtime.registry.workflows())
    entry = app.runtime.registry.find_workflow(name) or next(
        (entry for entry in entries if entry.function.__name__ == name), None
    )
    if entry is None:
        raise ConfigurationError(f"no workflow {name!r} in {place}; {_which(place, entries)}")
    return app, entry


def _which(place: str, entries: list[WorkflowEntry]) -> str:
    names = sorted({entry.name for entry in entries})
    if not names:
        return f"{place} has no workflows"
    return "name one: " + ", ".join(f"{place}:{name}" for name in names[:20])

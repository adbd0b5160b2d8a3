"""``wfq lint``: calls in workflow code that a replay cannot repeat."""

from __future__ import annotations

import click

from wfq.analysis.linting import lint_functions
from wfq.apps import load_app
from wfq_cli import exits


@click.command()
@click.argument("app", required=False)
def lint(app: str | None) -> None:
    """Find calls in APP's workflows that a replay cannot repeat: clock, chance, I/O, sleep.

    One line a finding: file, line, what and the remedy. Exits with 1 when there are any.
    """
    workflows = load_app(app).runtime.registry.workflows()
    findings = lint_functions(workflow.function for workflow in workflows)
    for finding in findings:
        click.echo(str(finding))
    if findings:
        click.get_current_context().exit(exits.UNEXPECTED)
    exits.hint("nothing found")

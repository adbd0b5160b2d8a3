"""``wfq fuzz``: one workflow under thousands of orders of what may happen to it."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from wfq.apps import load_app
from wfq.errors import ConfigurationError
from wfq.testing.fuzzing import MAX_STEPS, Check, Finding, Report, Subject, make_subject
from wfq_cli import exits, render
from wfq_cli.parsing import parse_json, read_payload
from wfq_cli.target import Target, output_option
from wfq_cli.watchdog import TIMEOUT_S, given_up_after

#: Seconds between two lines of progress.
_BEAT_S = 2.0


@click.command()
@click.argument("target", metavar="APP:WORKFLOW")
@click.option("--input", "text", metavar="JSON|@FILE|-", help="The workflow's input.")
@click.option("--seeds", type=click.IntRange(1), default=1000, show_default=True, metavar="N",
              help="How many runs.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, metavar="S",
              help="What they are drawn from.")  # fmt: skip
@click.option("--event", "events", multiple=True, metavar="NAME=JSON",
              help="An external event that may come at any time; repeatable.")  # fmt: skip
@click.option("--activity", "activities", multiple=True, metavar="NAME=JSON",
              help="Do not call this activity; this is its result.")  # fmt: skip
@click.option("--check", "check_name", metavar="FUNCTION",
              help="A function of APP that judges each outcome.")  # fmt: skip
@click.option("--must-complete", is_flag=True, help="No fault excuses a FAILED workflow.")
@click.option("--allow", multiple=True, metavar="TYPE", help="An error that it may fail with.")
@click.option("--max-steps", type=click.IntRange(1), default=MAX_STEPS, show_default=True,
              metavar="N", help="Steps of one run.")  # fmt: skip
@click.option("--script", metavar="FILE|-", help="Run once, with the steps in a file.")
@output_option
@click.pass_context
def fuzz(
    ctx: click.Context,
    target: str,
    text: str | None,
    seeds: int,
    seed: int,
    events: tuple[str, ...],
    activities: tuple[str, ...],
    check_name: str | None,
    must_complete: bool,
    allow: tuple[str, ...],
    max_steps: int,
    script: str | None,
) -> None:
    """Run WORKFLOW in memory under many orders of completions, failures, events and crashes.

    A run fails when the code decides otherwise over its own history (nondeterminism), when the
    workflow FAILS by a mistake of its own or without a fault, when it is stuck or stalled, hangs,
    or when --check says so. The first failing run is shrunk to a short script, which --script
    runs again. Activities are called for real, once for each input, unless --activity answers
    for them. Exit code: 0 nothing found, 8 nondeterminism, 1 anything else found.

    \b
    wfq fuzz app.py:order --input '{"cost": 5}' --event 'approval={"by": "Ada"}'
    wfq fuzz app.py:order --input 5 --seeds 10000 --check nothing_is_paid_twice
    """
    app, name = _split(target)
    given = read_payload(text, "input")
    lines = _script(script)
    with contextlib.redirect_stdout(io.StringIO()):
        found = load_app(app)
    options: dict[str, Any] = {} if given is None else {"input": given.value}
    subject = make_subject(
        name,
        app=found.runtime,
        events=[_pair(event, "--event") for event in events],
        activities={n: _answer(value) for n, value in (_pair(a, "--activity") for a in activities)},
        check=None if check_name is None else _check_function(found.module, check_name),
        must_complete=must_complete,
        allow=allow,
        max_steps=max_steps,
        **options,
    )
    begin = time.monotonic()
    report = _run(subject, seeds, seed, lines)
    took_s = time.monotonic() - begin
    where = "the script" if lines is not None else f"--seed {seed}"
    _print(report, seed, took_s, where)
    if report.finding is not None:
        nondeterminism = report.finding.kind == "nondeterminism"
        ctx.exit(exits.NONDETERMINISM if nondeterminism else exits.UNEXPECTED)


def _split(target: str) -> tuple[str, str]:
    app, colon, name = target.rpartition(":")
    if not colon or not app or not name:
        raise click.UsageError(f"write APP:WORKFLOW, such as app.py:order, not {target!r}")
    return app, name


def _pair(text: str, option: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise click.UsageError(f"{option} takes NAME=JSON, not {text!r}")
    return name, parse_json(value, f"value of {option} {name}")


def _answer(value: Any) -> Any:
    """A mock that returns the value; a function, so that nothing in it is taken for more."""
    return lambda _: value


def _check_function(module: Any, name: str) -> Check:
    function: Callable[..., object] | None = getattr(module, name, None)
    if not callable(function):
        raise ConfigurationError(f"the app has no function {name!r} for --check")
    return function


def _script(source: str | None) -> list[str] | None:
    if source is None:
        return None
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise click.UsageError(f"cannot read the script {source!r}: {exc}") from exc
    lines = [line.partition(" # ")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _run(subject: Subject, seeds: int, seed: int, script: list[str] | None) -> Report:
    """Search, without what workflows and activities print or log."""
    said = time.monotonic()

    def progress(runs: int) -> None:
        nonlocal said
        if time.monotonic() - said > _BEAT_S:
            said = time.monotonic()
            exits.note(f"{runs:,} of {seeds:,} runs")

    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            subject.guard = lambda: given_up_after(TIMEOUT_S)
            if script is None:
                return subject.search(seeds, seed, progress)
            director, finding = subject.run(0, None, script)
            return Report(1, 1, finding, {director.root.status: 1}, director.missing)
    finally:
        logging.disable(logging.NOTSET)
        subject.env.close()


def _print(report: Report, seed: int, took_s: float, where: str) -> None:
    finding = report.finding
    output = Target.current().output
    form = render.chosen(output, rows=False)
    if form in ("table", "ids"):
        if finding is not None:
            click.echo(finding.explain())
    else:
        render.print_one(_document(report, seed, took_s), output, [], ident=where)
        if finding is not None:
            click.echo(finding.explain(), err=True)
    endings = ", ".join(f"{count:,} {status}" for status, count in sorted(report.statuses.items()))
    line = f"{report.runs:,} runs in {took_s:.1f} s, {report.orders:,} different orders: {endings}"
    exits.note(line)
    if report.waiting:
        names = ", ".join(sorted(report.waiting))
        exits.note(
            f"some runs waited for events that were not given: {names}; add --event NAME=JSON"
        )
    if finding is None:
        exits.note("nothing found")
    else:
        exits.warn(
            f"{finding.kind} in run {finding.run} of {where}: {finding.message}", colour="red"
        )


def _document(report: Report, seed: int, took_s: float) -> dict[str, Any]:
    document: dict[str, Any] = {
        "runs": report.runs,
        "orders": report.orders,
        "seed": seed,
        "seconds": round(took_s, 3),
        "statuses": report.statuses,
        "waiting": sorted(report.waiting),
        "finding": None,
    }
    if report.finding is not None:
        document["finding"] = _found(report.finding)
    return document


def _found(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "message": finding.message,
        "run": finding.run,
        "script": finding.script,
        "steps": finding.outcome.steps,
        "status": finding.outcome.status,
    }

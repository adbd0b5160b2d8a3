"""``wfq check``: would this code break what is under way? The gate before a deploy."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from wfq.apps import load_app
from wfq.errors import ConfigurationError
from wfq.logs import plain_text
from wfq.testing.replaying import Replayed
from wfq_cli import exits, render
from wfq_cli.gate import CHUNK, Checked, Chunk, Source, check_all
from wfq_cli.session import Session, open_session
from wfq_cli.target import Target, output_option, target_options
from wfq_cli.watchdog import TIMEOUT_S

#: Statuses of instances that have not ended, as they are indexed.
_OPEN = ("RUNNING", "PENDING", "SUSPENDED", "STALLED")
#: Ids of one group that people are shown.
_EXAMPLES = 5
#: Seconds between two lines of progress.
_BEAT_S = 2.0
#: Ids that one command reads from an index.
_PAGE = 10_000


@dataclass(slots=True)
class Group:
    """Instances that break for the same reason in the same place."""

    first: Replayed
    instances: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        document = self.first.to_json()
        for name in ("instance_id", "file", "status"):
            document.pop(name, None)
        return {"count": len(self.instances), **document, "instances": self.instances}


@click.command()
@click.argument("app", required=False)
@click.option(
    "--against",
    default="live",
    show_default=True,
    metavar="live|FOLDER|FILE",
    help="Every open instance, or saved histories.",
)
@click.option("--processes", type=click.IntRange(1, 256), metavar="N", help="Default: the cores.")
@click.option("--all-apps", is_flag=True, help="Also instances of other applications.")
@output_option
@target_options
@click.pass_context
def check(
    ctx: click.Context, app: str | None, against: str, processes: int | None, all_apps: bool
) -> None:
    """Replay every open instance's history against APP before it takes traffic.

    Reads only, so it may run against production. Tells which instances would break, where and
    why, grouped. Exit code: 0 all fit, 8 at least one does not.

    \b
    wfq check app.py --against live
    wfq check app.py --against tests/histories
    """
    found = load_app(app)
    workers = processes or os.cpu_count() or 1
    begin = time.monotonic()
    groups: dict[tuple[str, ...], Group] = {}
    if against == "live":
        with open_session() as session:
            app_id = None if all_apps else session.settings.app_id
            source = Source(
                session.url, session.settings.namespace, session.namespace.partitions, app_id
            )
            chunks = _live(session)
            count = _collect(groups, chunks, found, source, workers)
    else:
        count = _collect(groups, _files(against), found, Source(), workers)
    _report(groups, count, time.monotonic() - begin)
    if groups:
        ctx.exit(exits.NONDETERMINISM)


def _collect(
    groups: dict[tuple[str, ...], Group],
    chunks: Sequence[Chunk],
    found: Any,
    source: Source,
    processes: int,
) -> int:
    total = sum(len(chunk.names) for chunk in chunks)
    results = check_all(
        found.target, found.runtime.registry, source, chunks, total,
        processes=min(processes, len(chunks)), timeout_s=TIMEOUT_S,
    )  # fmt: skip
    count = 0
    for checked in _with_progress(results, total):
        count += checked.count
        for result in checked.wrong:
            key: tuple[str, ...] = (result.workflow, result.kind, result.why)
            if result.kind == "nondeterminism":
                key = (result.workflow, result.expected, result.found, result.source)
            groups.setdefault(key, Group(result)).instances.append(result.instance_id)
    return count


def _with_progress(results: Iterator[Checked], total: int) -> Iterator[Checked]:
    """Pass results on and say on stderr how far it is."""
    begin = said = time.monotonic()
    count = wrong = 0
    for checked in results:
        count += checked.count
        wrong += len(checked.wrong)
        now = time.monotonic()
        if now - said >= _BEAT_S:
            said = now
            rate = count / (now - begin)
            exits.note(f"checked {count:,} of {total:,}, {wrong:,} would break, {rate:,.0f}/s")
        yield checked


def _live(session: Session) -> list[Chunk]:
    """The ids of all instances that have not ended, by partition."""
    namespace, link = session.namespace, session.link
    chunks = []
    for partition in range(namespace.partitions):
        ids: dict[str, None] = {}
        for status in _OPEN:
            start = 0
            while True:
                page = link.command(
                    "ZRANGE", namespace.index(partition, status), start, start + _PAGE - 1
                )
                ids.update((name.decode(), None) for name in page)
                if len(page) < _PAGE:
                    break
                start += _PAGE
        chunks += _cut(partition, list(ids))
    return chunks


def _files(place: str) -> list[Chunk]:
    path = Path(place)
    if not path.exists():
        raise click.UsageError(f"--against takes live, a folder or a file; there is no {place!r}")
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ConfigurationError(
            f"no saved history in {place!r}; 'wfq history ID --save {place}' writes one"
        )
    return _cut(-1, [str(file) for file in files])


def _cut(partition: int, names: list[str]) -> list[Chunk]:
    return [Chunk(partition, tuple(names[at : at + CHUNK])) for at in range(0, len(names), CHUNK)]


# -- the report


def _report(groups: dict[tuple[str, ...], Group], count: int, took_s: float) -> None:
    ordered = sorted(groups.values(), key=lambda group: -len(group.instances))
    broken = sum(len(group.instances) for group in ordered)
    output = Target.current().output
    form = render.chosen(output, rows=False)
    if form == "ids":
        for group in ordered:
            for instance_id in group.instances:
                click.echo(instance_id)
    elif form == "table":
        for group in ordered:
            _print_group(group)
    else:
        document = {
            "checked": count,
            "fit": count - broken,
            "break": broken,
            "seconds": round(took_s, 3),
            "groups": [group.to_json() for group in ordered],
        }
        render.print_one(document, output, [], ident="")
    if form != "table":
        for group in ordered:
            _print_group(group, err=True)
    line = f"{count:,} {'history' if count == 1 else 'histories'} checked in {took_s:.1f} s: "
    ways = "way" if len(ordered) == 1 else "ways"
    if broken:
        exits.warn(line + f"{broken:,} would break, in {len(ordered)} {ways}", colour="red")
    else:
        exits.note(line + "all fit")
    sys.stdout.flush()


def _print_group(group: Group, *, err: bool = False) -> None:
    first, names = group.first, group.instances
    count = f"{len(names):,} {'instance' if len(names) == 1 else 'instances'}"
    lines = first.explain().splitlines()
    click.secho(
        f"{count} of {first.workflow!r}: {lines[0].partition('): ')[2]}", bold=True, err=err
    )
    for line in lines[1:]:
        click.echo(plain_text(line), err=err)
    more = f", and {len(names) - _EXAMPLES:,} more" if len(names) > _EXAMPLES else ""
    click.echo(f"  such as {', '.join(names[:_EXAMPLES])}{more}", err=err)

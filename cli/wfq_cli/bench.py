"""``wfq bench``: a quick test of an installation: does it work here, and how fast?"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import click
from pydantic import SecretStr

import wfq as wf
from wfq.settings import override
from wfq.storage.link import SyncLink
from wfq_cli import render
from wfq_cli.render import Column
from wfq_cli.session import Session, open_session
from wfq_cli.target import Target, output_option, target_options

#: Instances one after the other, for the time that one takes.
ONE_BY_ONE = 50
#: Seconds in which each measurement must be done.
PATIENCE_S = 120
#: Keys removed by one command.
SWEEP = 500

_COLUMNS = (
    Column("WHAT", lambda row: row["what"]),
    Column("COUNT", lambda row: str(row["count"]), right=True),
    Column("PER SECOND", lambda row: f"{row['per_second']:,.0f}", right=True),
    Column("MEDIAN MS", lambda row: f"{row['median_ms']:.1f}" if row["median_ms"] else "-"),
    Column("REDIS US EACH", lambda row: f"{row['redis_us']:.0f}" if row["redis_us"] else "-"),
)


def add_one(x: int) -> int:
    return x + 1


def add_one_inline(x: int) -> int:
    return x + 1


def chain(ctx: wf.WorkflowContext, x: int) -> Generator[Any, Any, int]:
    """Three activities, one after the other."""
    for _ in range(3):
        x = yield ctx.call_activity("add_one", input=x)
    return x


def inline_chain(ctx: wf.WorkflowContext, x: int) -> Generator[Any, Any, int]:
    """Three inline activities, one after the other."""
    for _ in range(3):
        x = yield ctx.call_activity("add_one_inline", input=x)
    return x


def empty(ctx: wf.WorkflowContext, x: int) -> int:
    return x


@click.command()
@click.option(
    "--count", type=click.IntRange(1, 1_000_000), default=2_000, show_default=True,
    help="Instances of each kind.",
)  # fmt: skip
@output_option
@target_options
def bench(count: int) -> None:
    """Run workflows here for a few seconds, and say how fast they were.

    One worker in this process, on the Redis that is set, in a namespace of its own that is removed
    afterwards. It tells whether an installation works and about how fast it is; the benchmarks of
    the repository measure more, and more exactly.
    """
    target = Target.current()
    name = f"bench-{secrets.token_hex(4)}"
    with open_session(target) as session:
        try:
            rows = list(_measure(session, name, count))
        finally:
            _sweep(session.link, name)
        render.print_rows(iter(rows), target.output, _COLUMNS, ident="what")


def _measure(session: Session, name: str, count: int) -> Generator[dict[str, Any], None, None]:
    """Yield a row for each measurement."""
    settings = override(session.settings, {"redis_url": SecretStr(session.url), "namespace": name})
    with wf.WorkflowRuntime(settings=settings) as runtime:
        runtime.register_activity(add_one)
        runtime.register_activity(add_one_inline, inline=True)
        for workflow in (chain, inline_chain, empty):
            runtime.register_workflow(workflow)
        runtime.start()
        with wf.WorkflowClient(settings=settings) as client:
            _all(client, chain, 100)
            yield _row("3 activities", count, session.link, lambda: _all(client, chain, count))
            yield _row(
                "3 inline activities", count, session.link,
                lambda: _all(client, inline_chain, count),
            )  # fmt: skip
            yield _row("nothing to do", count, session.link, lambda: _all(client, empty, count))
            yield _row(
                "3 activities, one by one", ONE_BY_ONE, session.link,
                lambda: _one_by_one(client, ONE_BY_ONE),
            )  # fmt: skip


def _row(
    what: str, count: int, link: SyncLink, work: Callable[[], Sequence[float]]
) -> dict[str, Any]:
    used, begun = _redis_cpu_s(link), time.perf_counter()
    times_s = work()
    taken_s, after = time.perf_counter() - begun, _redis_cpu_s(link)
    return {
        "what": what,
        "count": count,
        "per_second": count / taken_s,
        "median_ms": statistics.median(times_s) * 1000 if times_s else None,
        "redis_us": None if used is None or after is None else (after - used) / count * 1e6,
    }


def _all(client: wf.WorkflowClient, workflow: Callable[..., Any], count: int) -> Sequence[float]:
    """Start instances all at once and wait for each."""
    for instance_id in client.schedule_many(workflow, range(count)):
        client.wait_for_workflow_completion(
            instance_id, fetch_payloads=False, timeout_in_seconds=PATIENCE_S
        )
    return ()


def _one_by_one(client: wf.WorkflowClient, count: int) -> Sequence[float]:
    times_s = []
    for n in range(count):
        begun = time.perf_counter()
        instance_id = client.schedule_new_workflow(chain, input=n)
        client.wait_for_workflow_completion(instance_id, timeout_in_seconds=PATIENCE_S)
        times_s.append(time.perf_counter() - begun)
    return times_s


def _redis_cpu_s(link: SyncLink) -> float | None:
    """CPU seconds that the server, or all of a cluster, have used; None where one does not tell."""
    try:
        told: list[Any] = [client.info("cpu") for _, client in link.servers()]
        return sum(float(one["used_cpu_user"]) + float(one["used_cpu_sys"]) for one in told)
    except Exception:
        return None


def _sweep(link: SyncLink, name: str) -> None:
    """Remove all keys of the namespace, which nobody else has ever used."""
    keys: list[Any] = []
    for pattern in (f"wfq:{{{name}}}:*", f"wfq:{{{name}:*"):
        for key in link.scan(pattern):
            keys.append(key)
            if len(keys) >= SWEEP:
                link.commands([("UNLINK", one) for one in keys])
                keys.clear()
    if keys:
        link.commands([("UNLINK", one) for one in keys])

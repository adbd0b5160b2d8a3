"""What ``wfq doctor`` looks at: the server, its scripts and streams, the workers, the app.

Each check yields rows of check, result and detail. Results: *ok*; *warning*, for what is likely
meant otherwise; *wrong*, for what loses or holds up work; *unknown*, for what may not be asked.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import chain, islice, product
from typing import Any

from wfq.apps import load_app
from wfq.errors import ConfigurationError, StorageError, StorageUnavailable
from wfq.storage import membership, scripts
from wfq.storage.activities import GROUP
from wfq.storage.figures import figures
from wfq.storage.membership import WorkerInfo
from wfq.storage.opening import is_memory
from wfq.storage.scripts import Argument
from wfq_cli import serving
from wfq_cli.render import Row
from wfq_cli.session import Session

#: Milliseconds for one answer, above which Redis is too far away or too busy.
SLOW_MS = 20.0
#: Seconds between the clocks of this machine and of the server, above which logs mislead.
SKEW_S = 2.0
#: The oldest server that wfq is tested on.
OLDEST = (7, 0)
#: Instances whose workflow is looked up among the live workers' registrations, and queues.
MOST_INSTANCES = 1_000
MOST_QUEUES = 50


def row(check: str, result: str, detail: str) -> Row:
    """Return one row of the report."""
    return {"check": check, "result": result, "detail": detail}


def look(session: Session) -> Iterator[Row]:
    """Yield every check but those of single instances."""
    nodes = [Node(name, client) for name, client in session.link.servers()]
    if len(nodes) == 1:
        nodes[0].name = ""
    yield from chain.from_iterable(latency(node) for node in nodes)
    nodes = [node for node in nodes if node.answers]
    if is_memory(session.link.url):
        yield row("persistence", "warning", "memory:// keeps nothing")
    else:
        yield from chain.from_iterable(_server(node) for node in nodes)
    yield from (_clock(node) for node in nodes)
    yield _scripts(session, nodes)
    try:
        workers = membership.live_workers(session.link, session.namespace)
        yield from _streams(session, workers)
        yield from _fleet(session, workers)
    except StorageError as exc:
        yield row("workers", "unknown", str(exc))
    yield _app(session)


# --- the servers


@dataclass(slots=True)
class Node:
    """A server that holds keys: the only one, or one of a cluster's, which has its `name`."""

    name: str
    client: Any
    answers: bool = True

    def row(self, check: str, result: str, detail: str) -> Row:
        """Return a row that says which node it is about, where there are several."""
        return row(check, result, f"{self.name}: {detail}" if self.name else detail)

    def tell(self, found: Row) -> Row:
        """Return a row that was made without knowing the node."""
        return self.row(found["check"], found["result"], found["detail"])


def latency(node: Node) -> Iterator[Row]:
    """Whether a server answers, and how soon; notes in the node if it does not."""
    begin = time.perf_counter()
    try:
        for _ in range(5):
            node.client.ping()
    except Exception as exc:
        node.answers = False
        yield node.row("latency", "wrong", f"no answer: {exc}; instances there stand still")
        return
    answer_ms = (time.perf_counter() - begin) * 200
    result = "warning" if answer_ms > SLOW_MS else "ok"
    far = "; it is far away or too busy" if answer_ms > SLOW_MS else ""
    yield node.row("latency", result, f"{answer_ms:.1f} ms an answer{far}")


def _server(node: Node) -> Iterator[Row]:
    """The server as it is set up; what it does not let us ask is said, not guessed."""
    try:
        info: dict[str, Any] = node.client.info()
    except Exception as exc:
        yield node.row("server", "unknown", f"INFO is refused: {exc}")
        return
    yield node.tell(judge_version(info))
    yield node.tell(judge_eviction(info))
    yield node.tell(judge_persistence(info))


def judge_version(info: dict[str, Any]) -> Row:
    """Whether the server is one that wfq is tested on."""
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    detail = f"{name} {version}, {info.get('role')}"
    if replicas := info.get("connected_slaves"):
        detail += " with 1 replica" if replicas == 1 else f" with {replicas} replicas"
    if name == "Redis" and number < OLDEST:
        return row("server", "wrong", f"{detail}; wfq needs 7.0 or newer")
    return row("server", "ok", detail)


def judge_eviction(info: dict[str, Any]) -> Row:
    """Whether a full server refuses, as it must, or throws instances away."""
    policy = info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        return row("eviction", "ok", "maxmemory-policy noeviction")
    if info.get("maxmemory"):
        detail = f"maxmemory-policy {policy}: a full server deletes instances; set noeviction"
        return row("eviction", "wrong", detail)
    detail = f"maxmemory-policy {policy}, without a limit yet; set noeviction"
    return row("eviction", "warning", detail)


def judge_persistence(info: dict[str, Any]) -> Row:
    """Whether what is acknowledged is on disk soon."""
    if info.get("aof_last_write_status", "ok") != "ok":
        return row("persistence", "wrong", "the append-only file cannot be written; see its disk")
    if info.get("aof_enabled"):
        return row("persistence", "ok", "append-only file")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return row("persistence", "wrong", "no append-only file, and the last snapshot failed")
    return row(
        "persistence",
        "warning",
        "no append-only file: a crash loses what came last; set appendonly",
    )


def _clock(node: Node) -> Row:
    """The server's clock decides when timers fire; ours stamps the logs."""
    before = time.time()
    try:
        seconds, micros = node.client.time()
    except Exception as exc:
        return node.row("clock", "unknown", f"TIME is refused: {exc}")
    server_s = seconds + micros / 1_000_000
    return node.tell(judge_clock(server_s - (before + time.time()) / 2))


def judge_clock(skew_s: float) -> Row:
    """Whether this machine's clock and the server's agree; `skew_s` is how far that is ahead."""
    if abs(skew_s) <= SKEW_S:
        return row("clock", "ok", f"{abs(skew_s) * 1000:.0f} ms from this machine's")
    where = "ahead of" if skew_s > 0 else "behind"
    detail = (
        f"the server's is {abs(skew_s):.1f} s {where} this machine's: timers go by the server's, "
        "logs by this one; is NTP running?"
    )
    return row("clock", "warning", detail)


def _scripts(session: Session, nodes: list[Node]) -> Row:
    """Whether every server takes our scripts, and lets them run."""
    namespace = session.namespace
    try:
        for node, script in product(nodes, scripts.ALL):
            node.client.script_load(script.body)
        calls = [figures(namespace, number, ()) for number in range(namespace.partitions)]
        for call in calls if len(nodes) > 1 else calls[:1]:
            session.link.run(call)
    except StorageUnavailable as exc:
        return row("scripts", "unknown", f"they cannot be tried everywhere: {exc}")
    except Exception as exc:
        return row("scripts", "wrong", f"they are refused: {exc}; nothing works without them")
    return row("scripts", "ok", f"{len(scripts.ALL)} scripts")


# --- streams


def _streams(session: Session, workers: list[WorkerInfo]) -> Iterator[Row]:
    """Consumer groups, and attempts that are held by workers which are gone."""
    namespace = session.namespace
    queues = membership.known_queues(session.link, namespace)[:MOST_QUEUES]
    keys = [
        namespace.activities(partition, queue)
        for queue in queues
        for partition in range(namespace.partitions)
    ]
    commands: list[tuple[Argument, ...]] = []
    for key in keys:
        commands += [("XLEN", key), ("XINFO", "CONSUMERS", key, GROUP)]
    replies = session.link.try_commands(commands)
    alive = {info.worker_id for info in workers}
    silent, lacking, held, gone = 0, 0, 0, set()
    for length, consumers in zip(replies[::2], replies[1::2], strict=True):
        if isinstance(length, StorageError):
            silent += 1
            continue
        if not isinstance(consumers, list):
            lacking += bool(length)
            continue
        for consumer in map(_fields, consumers):
            name = _text(consumer["name"])
            if consumer["pending"] and name not in alive:
                held += int(consumer["pending"])
                gone.add(name)
    if lacking:
        detail = f"{lacking} streams of activities have no group; a worker of theirs makes it"
        yield row("groups", "warning", detail)
    elif silent:
        yield row("groups", "unknown", f"{silent} of {len(keys)} streams of activities are away")
    else:
        yield row("groups", "ok", f"{len(keys)} streams of activities")
    if gone:
        detail = (
            f"{held} attempts are held by {len(gone)} workers that are gone, such as {min(gone)}; "
            "a live worker of their queue takes them over when their lease ends"
        )
        yield row("dead consumers", "warning", detail)
    else:
        yield row("dead consumers", "ok", "none holds anything")


def _fields(consumer: Any) -> dict[str, Any]:
    """Return a consumer as a dict, whether it was parsed or came as a flat list."""
    pairs = (
        consumer.items()
        if isinstance(consumer, dict)
        else zip(consumer[::2], consumer[1::2], strict=True)
    )
    return {_text(name): value for name, value in pairs}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# --- workers and code


def _fleet(session: Session, workers: list[WorkerInfo]) -> Iterator[Row]:
    if not workers:
        yield row("workers", "warning", "none live: instances wait for one ('wfq worker APP')")
    else:
        roles = {role for info in workers for role in info.details.get("roles", ())}
        missing = {"orchestrator", "activity", "scheduler"} - roles
        detail = f"{len(workers)} live"
        if missing:
            detail += f", and none of them with the role {', '.join(sorted(missing))}"
        yield row("workers", "warning" if missing else "ok", detail)
    lacking: dict[str, int] = {}
    for queue, name in _live_names(session):
        lack = serving.lack(workers, queue, name)
        if lack:
            lacking[lack] = lacking.get(lack, 0) + 1
    for lack, number in sorted(lacking.items()):
        instances = "1 instance" if number == 1 else f"{number} instances"
        # Workers that are there and lack the code are a mistake; none may be meant.
        result = "wrong" if lack.startswith("no live worker") else "warning"
        yield row("names", result, f"{instances}: {lack}")
    if not lacking:
        yield row("names", "ok", "every live instance has workers with its workflow")


def _live_names(session: Session) -> Iterator[tuple[str, str]]:
    """Yield application and workflow of live instances, the newest, in bounded number."""
    ids = (
        state
        for status in ("PENDING", "RUNNING", "STALLED")
        for state in session.client.list_workflows(status=status, limit=MOST_INSTANCES).items
    )
    for state in islice(ids, 3 * MOST_INSTANCES):
        yield state.app_id, state.name


def _app(session: Session) -> Row:
    """Whether the app that `wfq worker` would run can be imported."""
    try:
        # What the app prints is not part of the report.
        with redirect_stdout(sys.stderr):
            found = load_app(settings=session.settings)
    except ConfigurationError as exc:
        if session.settings.app is None and str(exc).startswith("no app"):
            return row("app", "ok", "none here, and none is named")
        return row("app", "wrong", str(exc))
    registry = found.runtime.registry
    workflows, activities = len(list(registry.workflows())), len(list(registry.activities()))
    return row("app", "ok", f"{found.target}: {workflows} workflows, {activities} activities")

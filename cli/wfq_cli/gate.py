"""Replaying many histories in parallel processes, for ``wfq check``. Only reads."""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice

from wfq.apps import load_app
from wfq.core.ports import TurnAborted
from wfq.errors import WfqError
from wfq.registry import Registry
from wfq.storage import instances
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.opening import is_memory
from wfq.testing.histories import SavedHistory, read_history
from wfq.testing.replaying import Replayed, replay
from wfq_cli.histories import saved
from wfq_cli.watchdog import given_up_after

#: Histories that one task of a process reads and replays: few enough for steady progress.
CHUNK = 50
#: Below this many, starting processes takes longer than replaying here.
FEW = 300


@dataclass(frozen=True, slots=True)
class Source:
    """Where histories are read: from a namespace on Redis; files name themselves.

    app_id: instances of other applications are passed over; None = of all.
    """

    url: str = ""
    namespace: str = ""
    partitions: int = 1
    app_id: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Ids of one partition, or (partition -1) paths of files."""

    partition: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a chunk: how many were replayed, and those that do not fit."""

    count: int
    wrong: list[Replayed]


class _Checker:
    """Reads and replays; one in each process."""

    def __init__(self, registry: Registry, source: Source, timeout_s: float) -> None:
        self._registry = registry
        self._source = source
        self._timeout_s = timeout_s
        self._link: SyncLink | None = None
        self._namespace = Namespace(source.namespace or "default", source.partitions)

    def check(self, chunk: Chunk) -> Checked:
        """Replay a chunk. Raises: StorageError, ConfigurationError."""
        results = [self._replay(history) for history in self._read(chunk)]
        return Checked(len(results), [result for result in results if not result.ok])

    def _read(self, chunk: Chunk) -> Iterator[SavedHistory]:
        if chunk.partition < 0:
            yield from map(read_history, chunk.names)
            return
        if self._link is None:
            self._link = SyncLink(self._source.url)
        call = instances.fetch(self._namespace, chunk.partition, chunk.names)
        found = self._link.run(call)
        for instance_id, stored in zip(chunk.names, found, strict=True):
            # It may have ended and gone since it was listed.
            if stored is None or stored.status in instances.TERMINAL or not stored.records:
                continue
            if self._source.app_id in (None, stored.queue):
                yield saved(instance_id, stored)

    def _replay(self, history: SavedHistory) -> Replayed:
        try:
            with contextlib.redirect_stdout(io.StringIO()), given_up_after(self._timeout_s):
                return replay(self._registry, history)
        except TurnAborted:
            kind, why = "hangs", f"its code ran longer than {self._timeout_s:g} s without waiting"
        except Exception as exc:
            # One history that cannot even be replayed must not hide what becomes of the others.
            kind, why = "error", f"{type(exc).__name__}: {exc}"
        return Replayed(history.instance_id, history.workflow, kind=kind, why=why)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()


_checker: _Checker | None = None


def _begin(target: str, directory: str, source: Source, timeout_s: float) -> None:
    """Prepare a process: the app is imported once in each."""
    global _checker
    # Ctrl-C is for the parent, which ends these in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    os.chdir(directory)
    with contextlib.redirect_stdout(io.StringIO()):
        registry = load_app(target).runtime.registry
    _checker = _Checker(registry, source, timeout_s)


def _check(chunk: Chunk) -> Checked:
    assert _checker is not None
    return _checker.check(chunk)


def check_all(
    target: str,
    registry: Registry,
    source: Source,
    chunks: Iterable[Chunk],
    total: int,
    *,
    processes: int,
    timeout_s: float,
) -> Iterator[Checked]:
    """Yield what came of each chunk, as it is done.

    A store in memory is of this process alone, so it is checked here, as few histories are.
    Raises: StorageError; WfqError when a process dies.
    """
    if total <= FEW or processes <= 1 or is_memory(source.url):
        checker = _Checker(registry, source, timeout_s)
        try:
            yield from map(checker.check, chunks)
        finally:
            checker.close()
        return
    # Not forked: the app may have threads and connections of its own in this process.
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(target, os.getcwd(), source, timeout_s),
    )
    try:
        yield from _in_parallel(pool, iter(chunks), processes * 4)
    except BrokenProcessPool:
        raise WfqError(
            "a process that replayed histories has died; 'wfq check --processes 1' shows why"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_parallel(
    pool: ProcessPoolExecutor, chunks: Iterator[Chunk], ahead: int
) -> Iterator[Checked]:
    running: set[Future[Checked]] = set()
    while True:
        for chunk in islice(chunks, ahead - len(running)):
            running.add(pool.submit(_check, chunk))
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()

"""An activity worker on a cluster: a part of the board, and a plan of reads, per partition.

A cluster takes no blocking read over several slots, and a node that is away must not hold up
what the others have. So each partition has connections of its own, one that reads and one
that reports, and its own line of outcomes; the slots are shared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from wfq.storage.activities import Outcome
from wfq.storage.link import SyncLink
from wfq_workers.activities.board import Board
from wfq_workers.activities.keeper import Keeper
from wfq_workers.activities.options import ActivityOptions
from wfq_workers.activities.packs import Job
from wfq_workers.activities.reader import Reader
from wfq_workers.activities.reading import DEPTH, Reading, ReadPlan
from wfq_workers.activities.reporter import Reporter
from wfq_workers.activities.runner import Runner
from wfq_workers.activities.store import ActivityStore
from wfq_workers.activities.wires import ReadWire, ReportWire
from wfq_workers.metrics.counts import ActivityCounts


class PartedBoard(Board):
    """A board whose outcomes stand in line by partition."""

    def __init__(self, slots: int, partitions: int) -> None:
        super().__init__(slots)
        self.parts = [BoardPart(self) for _ in range(partitions)]
        #: Slots that reads under way may fill at once.
        self.reserved = 0

    def settle(self, attempt: Job, outcomes: list[Outcome]) -> None:
        """Put outcomes in the line of the attempt's partition."""
        self.parts[attempt.stream.partition].settle(attempt, outcomes)


class BoardPart(Board):
    """What the reader and the reporter of one partition see: all slots, their own outcomes."""

    def __init__(self, whole: PartedBoard) -> None:
        self.__dict__.update(whole.__dict__)
        self._whole = whole
        self.done = deque()
        self._reserved = 0

    def free(self) -> int:
        """Slots that are free, and that no other partition's read is about to fill."""
        return super().free() - (self._whole.reserved - self._reserved)

    def reserve(self, slots: int) -> None:
        """Keep slots for what a read brings."""
        self._whole.reserved += slots - self._reserved
        self._reserved = slots


class PartPlan(ReadPlan):
    """Plans the reads of one partition's `streams` (its queues).

    A read that waits asks for little, so that all partitions' together fit the slots. One that
    has found work is followed by one that does not wait, and takes what slots there are.
    """

    def __init__(self, streams: int, part: BoardPart, partitions: int) -> None:
        super().__init__(streams)
        self._part = part
        self._few = max(1, part.slots // (2 * partitions))
        self._more = False

    def next(self, free: int) -> Reading:
        """Return the next read for `free` slots, at least one."""
        if not self._more:
            return Reading(self._all, self._few, wait=True)
        count = max(1, min(DEPTH, free // len(self._all)))
        self._part.reserve(count * len(self._all))
        return Reading(self._all, count, wait=False)

    def note(self, reading: Reading, found: dict[int, int]) -> None:
        """Learn from the entries `found` per stream by `reading`."""
        self._part.reserve(0)
        self._more = any(entries >= reading.count for entries in found.values())

    def lost(self) -> None:
        """The read under way brings nothing any more."""
        self._part.reserve(0)
        self._more = False


class PartStore(ActivityStore):
    """The activities of one partition; what it learns of the time, the whole store learns."""

    def __init__(self, whole: ActivityStore, queues: Sequence[str], partition: int) -> None:
        super().__init__(whole.link, whole.namespace, queues, whole.consumer, [partition])
        self._whole = whole

    def set_clock(self) -> None:
        super().set_clock()
        self._whole.take_clock(self)


@dataclass(frozen=True, slots=True)
class Ends:
    """What reads and what reports, over connections of their own."""

    reader: Reader
    reporter: Reporter
    read_wire: ReadWire
    report_wire: ReportWire

    def close(self) -> None:
        """Close the connections."""
        self.read_wire.close()
        self.report_wire.close()


def make_board(store: ActivityStore, options: ActivityOptions, *, parted: bool) -> Board:
    """The board of a worker, in parts on a cluster."""
    if parted:
        return PartedBoard(options.concurrency, store.namespace.partitions)
    return Board(options.concurrency)


def make_ends(
    link: SyncLink,
    store: ActivityStore,
    board: Board,
    runner: Runner,
    keeper: Keeper,
    options: ActivityOptions,
    counts: ActivityCounts,
) -> list[Ends]:
    """One pair of ends for all partitions; on a cluster, one for each."""

    def ends(some: ActivityStore, part: Board, plan: ReadPlan | None) -> Ends:
        read_wire = ReadWire(link, store.consumer, some.streams)
        report_wire = ReportWire(link, store.namespace, some.streams[0].key)
        reader = Reader(some, read_wire, part, runner, keeper, options, counts, plan)
        return Ends(reader, Reporter(part, report_wire, counts=counts), read_wire, report_wire)

    if not isinstance(board, PartedBoard):
        return [ends(store, board, None)]
    found = []
    for partition, part in enumerate(board.parts):
        some = PartStore(store, options.queues, partition)
        plan = PartPlan(len(some.streams), part, len(board.parts))
        found.append(ends(some, part, plan))
    # One that reads is enough to be of use: a node may be away.
    for other in found[1:]:
        other.reader.ready = found[0].reader.ready
    return found

"""Checking a whole namespace, instance by instance."""

from __future__ import annotations

from collections.abc import Sequence

from wfq.checker.crossing import lost_terminations
from wfq.checker.evidence import ENDED
from wfq.checker.judge import Verdict, children_of, judge, ledger_of
from wfq.checker.ledger import Ledger
from wfq.checker.report import Report, Violation
from wfq.checker.tidiness import check_quiet
from wfq.core import actions as act
from wfq.storage.inspection import InstanceState, Look, PartitionKeys, inspect, survey
from wfq.storage.instances import INDEXED
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.scripts import Call

#: Instances of one look.
BATCH = 200
#: Looks until the children that a look reveals are all part of it.
ROUNDS = 5
#: How often a violation must be seen: keys that came up meanwhile may have hidden something.
CONFIRMATIONS = 2
_KINDS = {
    act.SCHEDULE_TASK: "open activities",
    act.CREATE_TIMER: "open timers",
    act.WAIT_FOR_EVENT: "open event waits",
    act.START_CHILD: "open children",
}


def check_namespace(
    link: SyncLink, namespace: Namespace, *, quiet: bool = False, before: Report | None = None
) -> Report:
    """Check every instance. `before` is an earlier report, to compare with.

    `quiet` also checks what holds only when nothing has happened for a while.
    Raises: StorageError.
    """
    return _Check(link, namespace, before, Looker(link, namespace)).run(quiet)


def check_instance(link: SyncLink, namespace: Namespace, instance_id: str) -> Report:
    """Check and explain one instance; the report of an unknown one is empty.

    Unlike a check of all it walks over no keys, so it costs the same in a large namespace.
    """
    looker = Looker(link, namespace, survey_all=False)
    partition = namespace.partition_of(instance_id)
    looker.learn(partition, instance_id)
    check = _Check(link, namespace, None, looker)
    check.look_at(partition, [instance_id])
    return check.report


class Looker:
    """Takes looks at instances, with all that concerns them in other instances and partitions.

    `survey_all` walks over all keys to learn what queues there are; else `learn` must tell.
    """

    def __init__(self, link: SyncLink, namespace: Namespace, *, survey_all: bool = True) -> None:
        self._link = link
        self._namespace = namespace
        self.keys = [PartitionKeys() for _ in range(namespace.partitions)]
        if survey_all:
            self.refresh()

    def learn(self, partition: int, instance_id: str) -> None:
        """Learn the queues that concern one instance."""
        look, ledgers = self._near(partition, [instance_id])
        queue = look.instances[instance_id].fields.get("queue")
        if queue:
            self.keys[partition].queues.add(queue)
            for task in ledgers[instance_id].open.values():
                if task.kind == act.SCHEDULE_TASK:
                    options = task.action[4] or {}
                    self.keys[partition].activity_queues.add(options.get("q", queue))

    def refresh(self) -> None:
        """Learn what queues there are now."""
        self.keys = survey(self._link, self._namespace)

    def look(
        self, partition: int, ids: Sequence[str]
    ) -> tuple[Look, dict[str, Ledger], dict[int, Look]]:
        """One look at instances of a partition, their ledgers, and looks where children live."""
        look, ledgers = self._near(partition, ids)
        far = self._far(partition, ledgers)
        if far:
            # A message that arrived while we looked elsewhere is here now, if it ever was there.
            look, ledgers = self._near(partition, ids)
        return look, ledgers, far

    def _near(self, partition: int, ids: Sequence[str]) -> tuple[Look, dict[str, Ledger]]:
        """A look at instances and, in the same moment, at their children beside them."""
        wanted = dict.fromkeys(ids)
        for _ in range(ROUNDS):
            look = self._link.run(self._inspect(partition, list(wanted)))
            ledgers = {i: _ledger(look.instances[i]) for i in ids}
            near = [
                child
                for ledger in ledgers.values()
                for child in children_of(ledger)
                if self._namespace.partition_of(child) == partition and child not in wanted
            ]
            if not near:
                break
            wanted.update(dict.fromkeys(near))
        return look, ledgers

    def _far(self, partition: int, ledgers: dict[str, Ledger]) -> dict[int, Look]:
        wanted: dict[int, dict[str, None]] = {}
        for ledger in ledgers.values():
            for child in children_of(ledger):
                home = self._namespace.partition_of(child)
                if home != partition:
                    wanted.setdefault(home, {})[child] = None
        return {
            home: self._link.run(self._inspect(home, list(children)))
            for home, children in wanted.items()
        }

    def _inspect(self, partition: int, ids: Sequence[str]) -> Call[Look]:
        keys = self.keys[partition]
        return inspect(
            self._namespace, partition, ids, sorted(keys.queues), sorted(keys.activity_queues)
        )


class _Check:
    def __init__(
        self, link: SyncLink, namespace: Namespace, before: Report | None, looker: Looker
    ) -> None:
        self._link = link
        self._namespace = namespace
        self._before = before.traces if before is not None else {}
        self._looker = looker
        self.report = Report()

    def run(self, quiet: bool) -> Report:
        for partition, keys in enumerate(self._looker.keys):
            ids = sorted(keys.instances | keys.histories | self._indexed(partition))
            for first in range(0, len(ids), BATCH):
                self.look_at(partition, ids[first : first + BATCH])
            for key in keys.strange:
                self.report.violations.append(Violation("Q8", key, "no such key is known"))
            if quiet:
                check_quiet(self._link, self._namespace, partition, keys, self.report)
        return self.report

    def _indexed(self, partition: int) -> set[str]:
        found: set[str] = set()
        for status in INDEXED:
            key = self._namespace.index(partition, status)
            found.update(m.decode() for m in self._link.command("ZRANGE", key, 0, -1))
        return found

    def look_at(self, partition: int, ids: Sequence[str]) -> None:
        """Judge instances of one partition; what seems wrong is looked at again."""
        verdicts = self._judge(partition, ids)
        for _ in range(CONFIRMATIONS - 1):
            doubtful = [i for i, verdict in verdicts.items() if verdict.wrong]
            if not doubtful:
                break
            self._looker.refresh()
            for instance_id in doubtful:
                verdicts.pop(instance_id)
                verdicts.update(self._judge(partition, [instance_id]))
        for instance_id, verdict in verdicts.items():
            self._enter(instance_id, verdict)

    def _enter(self, instance_id: str, verdict: Verdict) -> None:
        report = self.report
        report.violations += [Violation(name, instance_id, text) for name, text in verdict.wrong]
        if verdict.trace is not None:
            report.traces[instance_id] = verdict.trace
            report.counts[verdict.trace.status or "RUNNING"] += 1
        if verdict.trace is None or verdict.trace.status not in ENDED:
            report.explanations[instance_id] = verdict.explanation or "unknown"
        for kind in verdict.open_kinds:
            report.counts[_KINDS[kind]] += 1

    def _judge(self, partition: int, ids: Sequence[str]) -> dict[str, Verdict]:
        look, ledgers, far = self._looker.look(partition, ids)
        verdicts = {}
        for instance_id in ids:
            state = look.instances[instance_id]
            if state.exists:
                verdicts[instance_id] = judge(
                    self._namespace, look, state, ledgers[instance_id], far,
                    self._before.get(instance_id),
                )  # fmt: skip
            elif state.indexes:
                places = ", ".join(state.indexes)
                wrong = [("Q7", f"it does not exist, and is in the index of {places}")]
                verdicts[instance_id] = Verdict(wrong)
        for child_id, parent_id in self._forsaken(partition, look):
            if child_id in verdicts:
                text = f"it was terminated with its parent {parent_id!r}, and was not told"
                verdicts[child_id].wrong.append(("W5", text))
        return verdicts

    def _forsaken(self, partition: int, look: Look) -> list[tuple[str, str]]:
        """Children that were to end with a parent of another partition, and the parents."""
        parents = {
            instance_id: state.fields["parent"]
            for instance_id, state in look.instances.items()
            if state.fields.get("parent") and state.status not in ENDED
        }
        lost = lost_terminations(self._link, self._namespace, parents)
        if not lost:
            return []
        # What was on its way is here now: in the stream, or it has ended.
        look, _, _ = self._looker.look(partition, list(lost))
        return [
            (child_id, termination.parent_id)
            for child_id, termination in lost.items()
            if look.instances[child_id].fields.get("inc") == termination.incarnation
            and look.instances[child_id].status not in ENDED
            and not (look.truncated or termination.waits(look))
        ]


def _ledger(state: InstanceState) -> Ledger:
    return ledger_of(state) if state.records else Ledger()

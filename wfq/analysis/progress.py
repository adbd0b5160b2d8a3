"""What became of the steps of a graph in one instance, as its history tells.

A history names what was done, in order, but not from which line. A task belongs to the step of
its kind and name; where several have the same name, to the next one in the order of the source
after the task before it, and from the top again when there is none (a loop). Of the decisions
and returns only that is told which follows from the tasks and the result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wfq.analysis.graph import Block, Branch, Graph, Loop, Step, walk
from wfq.analysis.spans import Span

State = Literal["done", "running", "waiting", "failed", "ahead", "skipped"]

_WAITING = frozenset(("timer", "event"))


@dataclass(frozen=True, slots=True)
class Progress:
    """What became of one step. `done`, `open` and `failed` count its tasks."""

    state: State
    done: int = 0
    open: int = 0
    failed: int = 0

    @property
    def badge(self) -> str:
        """A short count, "" where there is at most one task."""
        total = self.done + self.open + self.failed
        if total <= 1:
            return ""
        return f"{total}x" if self.done == total else f"{self.done} of {total}"

    @property
    def text(self) -> str:
        """The state in words."""
        counts = [(self.done, "done"), (self.open, "open"), (self.failed, "failed")]
        if self.done + self.open + self.failed > 1:
            return ", ".join(f"{count} {word}" for count, word in counts if count)
        words = {"skipped": "not taken", "ahead": "not reached", "waiting": "waiting for it"}
        return words.get(self.state, self.state)


def lay_over(
    graph: Graph, spans: Sequence[Span], *, ended: bool, output: Any = None, completed: bool = False
) -> dict[int, Progress]:
    """Return the progress of each step, by id.

    spans: in the order in which they were scheduled. ended: nothing more will happen.
    completed: it returned, and `output` is what.
    """
    placed = _place(graph, spans)
    reached = max((step_id for step_id, found in placed.items() if found), default=-1)
    looping = _loop_mates(graph.body, reached)
    found: dict[int, Progress] = {}
    for step in graph.steps:
        mine = placed.get(step.id, [])
        if mine:
            found[step.id] = _summed(step, mine)
        elif step.kind in ("break", "continue", "more", "wait"):
            continue
        else:
            passed = ended or (step.id < reached and step.id not in looping)
            found[step.id] = Progress("skipped" if passed else "ahead")
    if completed:
        _mark_return(graph, found, output)
    return found


def _place(graph: Graph, spans: Sequence[Span]) -> dict[int, list[Span]]:
    steps = sorted(graph.steps, key=lambda step: step.id)
    placed: dict[int, list[Span]] = {step.id: [] for step in steps}
    last = -1
    for task in spans:
        candidates = [step for step in steps if _fits(step, task)]
        if not candidates:
            continue
        last = _next(candidates, last, placed).id
        placed[last].append(task)
    return placed


def _fits(step: Step, task: Span) -> bool:
    if step.kind != task.kind:
        return False
    if task.kind in ("timer", "again") or step.name is None:
        return True
    # Event names match in any case.
    return step.name == task.name or (
        task.kind == "event" and step.name.casefold() == task.name.casefold()
    )


def _next(candidates: Sequence[Step], last: int, placed: Mapping[int, list[Span]]) -> Step:
    named = [step for step in candidates if step.name is not None] or candidates
    for step in named:
        if step.id > last or (step.id == last and step.many):
            return step
    again = [step for step in named if step.many and placed[step.id]]
    return again[-1] if again else named[0]


def _summed(step: Step, spans: Sequence[Span]) -> Progress:
    counts = {state: sum(span.state == state for span in spans) for state in ("done", "open")}
    failed = sum(span.state == "failed" for span in spans)
    done, running = counts["done"], counts["open"]
    if running:
        idle = all(span.idle_ms is not None for span in spans if span.state == "open")
        state: State = "waiting" if idle or step.kind in _WAITING else "running"
    elif failed:
        state = "failed"
    elif done:
        state = "done"
    else:
        state = "skipped"
    return Progress(state, done, running, failed)


def _loop_mates(blocks: Sequence[Block], step_id: int) -> set[int]:
    """Ids of the steps in the outermost loop around a step: they may be reached again."""
    for block in blocks:
        ids = {step.id for step in walk((block,))}
        if step_id not in ids:
            continue
        match block:
            case Loop():
                return ids
            case Branch():
                parts = [arm.body for arm in block.arms]
                return next((m for p in parts if (m := _loop_mates(p, step_id))), set())
            case Step():
                return set()
            case _:
                inner = getattr(block, "body", None) or getattr(block, "items", ())
                handlers = [arm.body for arm in getattr(block, "handlers", ())]
                return next(
                    (m for p in (inner, *handlers) if (m := _loop_mates(p, step_id))), set()
                )
    return set()


def _mark_return(graph: Graph, found: dict[int, Progress], output: Any) -> None:
    """Mark the return that was taken, where the result leaves one only."""
    returns = [step for step in graph.steps if step.kind == "return"]
    said = json.dumps(output)
    fits = [step for step in returns if step.value == said]
    if not fits:
        fits = [step for step in returns if step.value is None]
    if len(fits) == 1:
        found[fits[0].id] = Progress("done")
    elif fits:
        for step in fits:
            found.pop(step.id, None)

"""What a check found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold; `subject` is an instance id or a key."""

    invariant: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.subject!r}: {self.text}"


@dataclass(frozen=True, slots=True)
class Trace:
    """What a later check compares an instance with: its identity and a digest per record."""

    inc: str
    gen: int
    status: str
    digests: tuple[bytes, ...]


@dataclass(slots=True)
class Report:
    """The outcome of a check.

    violations: nothing of this may be. explanations: for each live instance, what will wake
    it. counts: instances by status, open tasks by kind, and what waits where. traces: for the
    next check, which then also tells whether anything changed that must not.
    """

    violations: list[Violation] = field(default_factory=list)
    explanations: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    traces: dict[str, Trace] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.violations

    def __str__(self) -> str:
        lines = [str(violation) for violation in self.violations]
        told = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return "\n".join([*lines, f"{len(lines)} violations; {told or 'nothing there'}"])

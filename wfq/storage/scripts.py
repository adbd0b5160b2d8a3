"""The Lua scripts, and `Call`: one atomic operation as a value that any link can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_FOLDER = Path(__file__).parent / "lua"

#: What goes over the wire: redis encodes text as UTF-8 and whole numbers as digits.
Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """One file of `lua/`: its text and the digest by which a server remembers it."""

    name: str
    body: str
    sha: str


def _load(name: str) -> Script:
    body = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    # Comments are for readers: the server is sent the code alone.
    code = "\n".join(line for line in body.splitlines() if not line.lstrip().startswith("--"))
    return Script(name, code, sha1(code.encode(), usedforsecurity=False).hexdigest())


ACCUSE = _load("accuse")
ACQUIRE = _load("acquire")
APPEND = _load("append")
CLAIM = _load("claim")
COMMIT = _load("commit")
COMPLETE = _load("complete")
COUNT = _load("count")
DELIVER = _load("deliver")
DISPATCH = _load("dispatch")
EXPIRE = _load("expire")
FETCH = _load("fetch")
FIGURES = _load("figures")
FIRE = _load("fire")
HEARTBEAT = _load("heartbeat")
INSPECT = _load("inspect")
ISOLATE = _load("isolate")
LEAVE = _load("leave")
LIST = _load("list")
PURGE = _load("purge")
READ = _load("read")
RECONCILE = _load("reconcile")
REISSUE = _load("reissue")
RELEASE = _load("release")
RENEW = _load("renew")
RENEW_TASKS = _load("renew_tasks")
REPORT = _load("report")
RERUN = _load("rerun")
START = _load("start")
WAITING = _load("waiting")

ALL = (
    ACCUSE,
    ACQUIRE,
    APPEND,
    CLAIM,
    COMMIT,
    COMPLETE,
    COUNT,
    DELIVER,
    DISPATCH,
    EXPIRE,
    FETCH,
    FIGURES,
    FIRE,
    HEARTBEAT,
    INSPECT,
    ISOLATE,
    LEAVE,
    LIST,
    PURGE,
    READ,
    RECONCILE,
    REISSUE,
    RELEASE,
    RENEW,
    RENEW_TASKS,
    REPORT,
    RERUN,
    START,
    WAITING,
)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One script call. Every key lies in the hash slot of `keys[0]`; safe to send twice."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Argument]
    parse: Callable[[Any], T]

    def command(self) -> tuple[Argument, ...]:
        """The call as EVALSHA, for a server that has the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    def full_command(self) -> tuple[Argument, ...]:
        """The call as EVAL, which teaches the server the script."""
        return ("EVAL", self.script.body, len(self.keys), *self.keys, *self.args)

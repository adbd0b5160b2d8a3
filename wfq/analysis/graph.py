"""The shape of a workflow, as its source tells it: steps in blocks, such as branches and loops.

A graph is a tree of blocks, not a net of arrows: workflow code has no goto, so its blocks nest.
It goes through JSON (`to_json`, `from_json`), since workers publish it for the dashboard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

#: What a step does. `wait` awaits tasks that the source does not tell apart.
StepKind = Literal[
    "activity",
    "child",
    "timer",
    "event",
    "send",
    "wait",
    "return",
    "raise",
    "again",
    "break",
    "continue",
    "more",
]
#: Steps after which nothing follows in their block.
ENDING = frozenset(("return", "raise", "break", "continue"))


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `id` is its number in the order of the source, `line` that of the file.

    name: of the activity, child workflow or event; None where only a run knows it. label: what a
    picture shows. detail: such as a timer's duration. many: it stands for any number of tasks,
    each: one per what. waited: False when the workflow goes on without the result. value: the
    constant that a return gives, as JSON text; None where it is computed.
    """

    id: int
    kind: StepKind
    label: str
    line: int
    name: str | None = None
    detail: str = ""
    many: bool = False
    each: str = ""
    waited: bool = True
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One way through a branch, or one handler of failures."""

    label: str
    body: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """A decision; exactly one of the arms is taken."""

    id: int
    label: str
    line: int
    arms: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """A body that is run any number of times."""

    label: str
    line: int
    body: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks side by side; `all` waits for each, `any` for the first."""

    mode: Literal["all", "any"]
    line: int
    items: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A body, and what is done instead of its rest when a step in it fails."""

    line: int
    body: tuple[Block, ...]
    handlers: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """The steps of another function that the workflow delegates to."""

    label: str
    line: int
    body: tuple[Block, ...]


Block = Step | Branch | Loop | Group | Attempt | Part


@dataclass(frozen=True, slots=True)
class Graph:
    """The picture of one workflow. `about` is the first line of its docstring."""

    name: str
    body: tuple[Block, ...] = ()
    about: str = ""
    file: str = ""
    line: int = 0
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(walk(self.body)))

    def to_json(self) -> dict[str, Any]:
        """Return the graph as a JSON object."""
        return {
            "name": self.name,
            "about": self.about,
            "file": self.file,
            "line": self.line,
            "body": [_dumped(block) for block in self.body],
        }

    @classmethod
    def from_json(cls, document: Any) -> Graph:
        """Return the graph of `to_json`. Raises: ValueError for anything else."""
        try:
            return cls(
                str(document["name"]),
                _blocks(document["body"], 0),
                str(document["about"]),
                str(document["file"]),
                int(document["line"]),
            )
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"this is not the graph of a workflow: {exc!r}") from exc


def walk(blocks: Sequence[Block]) -> Iterator[Step]:
    """Yield the steps in blocks, in the order of the source."""
    for block in blocks:
        match block:
            case Step():
                yield block
            case Branch():
                for arm in block.arms:
                    yield from walk(arm.body)
            case Group():
                yield from walk(block.items)
            case Attempt():
                yield from walk(block.body)
                for arm in block.handlers:
                    yield from walk(arm.body)
            case _:
                yield from walk(block.body)


def ends(blocks: Sequence[Block]) -> bool:
    """Whether nothing that stands behind these blocks is reached through them."""
    if not blocks:
        return False
    match blocks[-1]:
        case Step(kind=kind):
            return kind in ENDING or kind == "again"
        case Branch(arms=arms):
            return all(ends(arm.body) for arm in arms)
        case Attempt(body=body, handlers=handlers):
            return ends(body) and all(ends(arm.body) for arm in handlers)
        case Part() | Loop() | Group():
            return False


# --- JSON: one letter per block, so that a publication stays small

_DEPTH = 60


def _dumped(block: Block) -> dict[str, Any]:
    match block:
        case Step():
            document: dict[str, Any] = {"k": block.kind, "i": block.id, "t": block.label}
            document["l"] = block.line
            optional = {
                "n": block.name,
                "d": block.detail,
                "e": block.each,
                "v": block.value,
                "m": block.many,
                "f": not block.waited,
            }
            document.update({key: value for key, value in optional.items() if value})
            return document
        case Branch():
            arms = [_arm(arm) for arm in block.arms]
            return {"k": "?", "i": block.id, "t": block.label, "l": block.line, "a": arms}
        case Loop():
            return {"k": "*", "t": block.label, "l": block.line, "b": _all(block.body)}
        case Group():
            return {"k": block.mode, "l": block.line, "b": _all(block.items)}
        case Attempt():
            arms = [_arm(arm) for arm in block.handlers]
            return {"k": "!", "l": block.line, "b": _all(block.body), "a": arms}
        case Part():
            return {"k": ">", "t": block.label, "l": block.line, "b": _all(block.body)}


def _all(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    return [_dumped(block) for block in blocks]


def _arm(arm: Arm) -> dict[str, Any]:
    return {"t": arm.label, "b": _all(arm.body)}


_STEP_KINDS = frozenset(StepKind.__args__)  # type: ignore[attr-defined]  # typing's own field


def _blocks(documents: Any, depth: int) -> tuple[Block, ...]:
    if depth > _DEPTH or not isinstance(documents, list):
        raise ValueError("this is not the graph of a workflow")
    return tuple(_block(document, depth + 1) for document in documents)


def _block(said: Any, depth: int) -> Block:
    kind, line = said["k"], int(said["l"])
    match kind:
        case "?":
            return Branch(int(said["i"]), str(said["t"]), line, _arms(said["a"], depth))
        case "*":
            return Loop(str(said["t"]), line, _blocks(said["b"], depth))
        case "all" | "any":
            return Group(kind, line, _blocks(said["b"], depth))
        case "!":
            return Attempt(line, _blocks(said["b"], depth), _arms(said["a"], depth))
        case ">":
            return Part(str(said["t"]), line, _blocks(said["b"], depth))
    if kind not in _STEP_KINDS:
        raise ValueError(f"there is no step of kind {kind!r:.40}")
    name, value = said.get("n"), said.get("v")
    return Step(
        id=int(said["i"]),
        kind=kind,
        label=str(said["t"]),
        line=line,
        name=None if name is None else str(name),
        detail=str(said.get("d", "")),
        many=bool(said.get("m")),
        each=str(said.get("e", "")),
        waited=not said.get("f"),
        value=None if value is None else str(value),
    )


def _arms(documents: Any, depth: int) -> tuple[Arm, ...]:
    return tuple(Arm(str(arm["t"]), _blocks(arm["b"], depth)) for arm in documents)

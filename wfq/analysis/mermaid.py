"""A graph as Mermaid text, for READMEs and wikis that draw it."""

from __future__ import annotations

from collections.abc import Sequence

from wfq.analysis.graph import Arm, Attempt, Block, Branch, Graph, Group, Loop, Part, Step, ends
from wfq.analysis.labels import caption

#: Opening and closing marks of a node by the kind of its step.
_SHAPES = {
    "activity": ("[", "]"),
    "child": ("[[", "]]"),
    "timer": ("([", "])"),
    "event": ("{{", "}}"),
    "send": (">", "]"),
    "wait": ("([", "])"),
}
_ROUND = ("([", "])")

#: A way out of blocks: the node it leaves, and what its arrow says.
_Out = tuple[str, str]


def to_mermaid(graph: Graph) -> str:
    """Return the graph as a flowchart from top to bottom."""
    return _Writer().document(graph)


class _Writer:
    def __init__(self) -> None:
        self._lines: list[str] = []
        self._frames = 0
        self._indent = 1

    def document(self, graph: Graph) -> str:
        self._line(f'start(["{_quoted(graph.name)}"])')
        outs = self._sequence(graph.body, [("start", "")])
        if outs:
            self._line("finish((end))")
            self._arrows(outs, "finish")
        return "\n".join(["flowchart TD", *self._lines]) + "\n"

    def _sequence(self, blocks: Sequence[Block], ins: list[_Out]) -> list[_Out]:
        for block in blocks:
            ins = self._block(block, ins)
        if blocks and isinstance(blocks[-1], Step) and blocks[-1].kind == "again":
            return []
        return ins

    def _block(self, block: Block, ins: list[_Out]) -> list[_Out]:
        match block:
            case Step():
                name = f"s{block.id}"
                opening, closing = _SHAPES.get(block.kind, _ROUND)
                text = "<br>".join(_quoted(line) for line in caption(block) if line)
                self._line(f'{name}{opening}"{text}"{closing}')
                self._arrows(ins, name)
                return [] if ends([block]) and block.kind != "again" else [(name, "")]
            case Branch():
                name = f"b{block.id}"
                self._line(f'{name}{{"{_quoted(block.label)}"}}')
                self._arrows(ins, name)
                return [out for arm in block.arms for out in self._arm(arm, name)]
            case Loop():
                return self._frame(f"{block.label}", block.body, ins)
            case Part():
                return self._frame(block.label, block.body, ins)
            case Group():
                label = "all of" if block.mode == "all" else "the first of"
                return self._frame(label, block.items, ins, side_by_side=True)
            case Attempt():
                outs = self._frame("try", block.body, ins)
                name = f"f{self._last}"
                if ends(block.body):
                    outs = []
                for arm in block.handlers:
                    outs += self._sequence(arm.body, [(name, f"on {arm.label}")])
                return outs

    def _arm(self, arm: Arm, name: str) -> list[_Out]:
        return self._sequence(arm.body, [(name, arm.label)])

    def _frame(
        self, label: str, body: Sequence[Block], ins: list[_Out], *, side_by_side: bool = False
    ) -> list[_Out]:
        self._frames += 1
        number = self._frames
        self._line(f'subgraph f{number}["{_quoted(label)}"]')
        self._indent += 1
        if side_by_side:
            for block in body:
                self._block(block, [])
        else:
            self._sequence(body, [])
        self._indent -= 1
        self._line("end")
        self._arrows(ins, f"f{number}")
        self._last = number
        return [(f"f{number}", "")]

    def _arrows(self, outs: list[_Out], target: str) -> None:
        for name, label in outs:
            arrow = f'-- "{_quoted(label)}" -->' if label else "-->"
            self._line(f"{name} {arrow} {target}")

    def _line(self, text: str) -> None:
        self._lines.append("    " * self._indent + text)


def _quoted(text: str) -> str:
    """Text for a Mermaid label in quotes: entities for what Mermaid or HTML would read."""
    marks = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;"}
    return "".join(marks.get(mark, mark) for mark in text)

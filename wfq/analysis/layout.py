"""Where the parts of a picture go: blocks are laid into each other, the usual way straight down.

A block becomes a box with an entry at its top and any number of ways out. Blocks in sequence
stand below each other on one axis; the arms of a branch stand side by side, the one that goes
on longest below the decision, those that end to its right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from wfq.analysis.graph import Arm, Attempt, Block, Branch, Graph, Group, Loop, Part, Step, ends
from wfq.analysis.labels import KINDS, caption

#: Units of the picture (pixels at its natural size).
GAP_Y = 34.0
GAP_X = 34.0
PAD = 16.0
HEADER = 26.0
MARGIN = 20.0
_CHAR = 7.3
_SMALL_CHAR = 6.1
_MIN_WIDTH = 120.0


@dataclass(slots=True)
class Node:
    """A box for a step, a decision (`step` None), the start or the end. x, y: its centre top."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    detail: str = ""
    step: Step | None = None
    branch: Branch | None = None


@dataclass(slots=True)
class Frame:
    """A frame around blocks. x, y: its top left corner."""

    x: float
    y: float
    width: float
    height: float
    kind: Literal["loop", "all", "any", "try", "part"]
    label: str


@dataclass(slots=True)
class Edge:
    """A line along right angles; `fails` where it is taken after a failure."""

    points: list[tuple[float, float]]
    label: str = ""
    fails: bool = False
    #: False where the line goes on without reaching anything yet.
    arrives: bool = True


#: A way out: where, and what the arrow from there says.
_Out = tuple[float, float, str]


@dataclass(slots=True)
class Box:
    """Laid-out blocks. `axis` is the x of the entry, at y 0."""

    width: float = 0.0
    height: float = 0.0
    axis: float = 0.0
    nodes: list[Node] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    outs: list[_Out] = field(default_factory=list)

    def take(self, other: Box, dx: float, dy: float) -> list[_Out]:
        """Put the parts of another box into this one; return its ways out."""
        for node in other.nodes:
            node.x += dx
            node.y += dy
        for frame in other.frames:
            frame.x += dx
            frame.y += dy
        for edge in other.edges:
            edge.points = [(x + dx, y + dy) for x, y in edge.points]
        self.nodes += other.nodes
        self.frames += other.frames
        self.edges += other.edges
        return [(x + dx, y + dy, label) for x, y, label in other.outs]


def lay_out(graph: Graph) -> Box:
    """Return the whole picture, with its start, its end and a margin."""
    start = _single(Node(0, 0, max(_MIN_WIDTH, _width(graph.name)), 34, "start", graph.name))
    boxes = [start, *(_box(block) for block in graph.body)]
    again = bool(graph.body) and isinstance(graph.body[-1], Step) and graph.body[-1].kind == "again"
    if not ends(graph.body) and not again:
        boxes.append(_single(Node(0, 0, 56, 28, "finish", "end")))
    inner = _stack(boxes)
    whole = Box(inner.width + 2 * MARGIN, inner.height + 2 * MARGIN, inner.axis + MARGIN)
    whole.take(inner, MARGIN, MARGIN)
    return whole


def _box(block: Block) -> Box:
    match block:
        case Step():
            return _step(block)
        case Branch():
            return _branch(block)
        case Loop():
            return _frame("loop", f"↻ {block.label}", _sequence(block.body))
        case Part():
            return _frame("part", block.label, _sequence(block.body))
        case Group():
            label = "all of" if block.mode == "all" else "the first of"
            return _frame(block.mode, label, _row(block.items))
        case Attempt():
            return _attempt(block)


def _width(text: str) -> float:
    return len(text) * _CHAR + 36


def _step(step: Step) -> Box:
    title, detail = caption(step)
    over = KINDS.get(step.kind, "")
    width = max(_MIN_WIDTH, _width(title), len(detail) * _SMALL_CHAR + 30, len(over) * 6 + 40)
    height = 34.0 if not over else 46.0
    if detail:
        height += 16
    node = Node(0, 0, width, height, step.kind, title, detail, step=step)
    box = _single(node)
    if step.many:
        # Room for the cards behind it.
        box.width += 10
        box.height += 4
        box.outs = [(box.axis, node.height + 4, "")]
    if step.kind != "again" and ends([step]):
        box.outs = []
    return box


def _single(node: Node) -> Box:
    node.x = node.width / 2
    return Box(node.width, node.height, node.x, [node], outs=[(node.x, node.height, "")])


def _sequence(blocks: Sequence[Block]) -> Box:
    if not blocks:
        return Box(outs=[(0.0, 0.0, "")])
    box = _stack([_box(block) for block in blocks])
    last = blocks[-1]
    if isinstance(last, Step) and last.kind == "again":
        box.outs = []
    return box


def _stack(boxes: Sequence[Box]) -> Box:
    """Boxes below each other on one axis."""
    axis = max(box.axis for box in boxes)
    whole = Box(axis=axis)
    y = 0.0
    outs: list[_Out] = []
    for number, box in enumerate(boxes):
        if number:
            y += GAP_Y + (8 if any(label for _, _, label in outs) else 0)
            whole.edges += [_joined(out, axis, y) for out in outs]
        dx = axis - box.axis
        outs = whole.take(box, dx, y)
        whole.width = max(whole.width, dx + box.width)
        y += box.height
    whole.height = y
    whole.outs = outs
    return whole


def _joined(out: _Out, x: float, y: float) -> Edge:
    """An arrow from a way out to an entry below it."""
    from_x, from_y, label = out
    if abs(from_x - x) < 0.5:
        return Edge([(x, from_y), (x, y)], label)
    turn = y - GAP_Y / 2
    return Edge([(from_x, from_y), (from_x, turn), (x, turn), (x, y)], label)


def _branch(block: Branch) -> Box:
    width = max(_MIN_WIDTH, len(block.label) * 7.0 + 56)
    decision = Node(0, 0, width, 38, "branch", block.label, branch=block)
    arms = _by_place(block.arms)
    return _fork(_single(decision), arms, [False] * len(arms))


def _by_place(arms: Sequence[Arm]) -> list[Arm]:
    """The arm that stands below the decision first: one that goes on, the longest of those."""
    goes_on = [arm for arm in arms if not ends(arm.body)]
    main = max(goes_on, key=lambda arm: len(arm.body)) if goes_on else arms[-1]
    # A short way that goes on beside one that ends reads best straight down.
    return [main, *(arm for arm in arms if arm is not main)]


def _attempt(block: Attempt) -> Box:
    body = _frame("try", "", _sequence(block.body))
    if ends(block.body):
        body.outs = []
    whole = Box(axis=body.axis, width=body.width, height=body.height)
    side_y = body.height / 2
    right = whole.axis + body.width - body.axis
    outs = whole.take(body, 0, 0)
    for arm in block.handlers:
        box = _sequence(arm.body)
        label = f"on {arm.label}"
        right = max(right + GAP_X, right + len(label) * _SMALL_CHAR + 24 - box.axis)
        top = side_y + 28
        x = right + box.axis
        whole.edges.append(Edge([(body.width, side_y), (x, side_y), (x, top)], label, fails=True))
        outs += whole.take(box, right, top)
        right += box.width
        whole.height = max(whole.height, top + box.height)
    whole.width = right
    whole.outs = outs
    return whole


def _fork(head: Box, arms: Sequence[Arm], fails: Sequence[bool]) -> Box:
    """A decision with the first arm below it and the others to its right."""
    boxes = [_sequence(arm.body) for arm in arms]
    main = boxes[0]
    axis = max(head.axis, main.axis)
    whole = Box(axis=axis, width=max(axis - head.axis + head.width, axis - main.axis + main.width))
    node = head.nodes[0]
    whole.take(head, axis - head.axis, 0)
    below = head.height + GAP_Y + 8
    if arms[0].body:
        whole.edges.append(Edge([(axis, head.height), (axis, below)], arms[0].label))
        outs = whole.take(main, axis - main.axis, below)
        bottom = below + main.height
    else:
        outs = [(axis, head.height, arms[0].label)]
        bottom = head.height
    side_y = node.y + node.height / 2
    right = whole.width
    for arm, box in zip(arms[1:], boxes[1:], strict=True):
        label_room = len(arm.label) * _SMALL_CHAR + 30
        left = max(right + GAP_X, axis + node.width / 2 + label_room - box.axis)
        x = left + box.axis
        top = head.height + 14
        start = (axis + node.width / 2, side_y)
        if arm.body:
            whole.edges.append(Edge([start, (x, side_y), (x, top)], arm.label))
            outs += whole.take(box, left, top)
            bottom = max(bottom, top + box.height)
        else:
            passed = Edge([start, (x, side_y), (x, top)], arm.label, arrives=False)
            whole.edges.append(passed)
            outs.append((x, top, ""))
        right = left + max(box.width, 12)
    whole.width = right
    whole.height = bottom
    whole.outs = outs
    return whole


def _row(items: Sequence[Block]) -> Box:
    """Boxes side by side, without arrows between them."""
    boxes = [_box(item) for item in items]
    whole = Box(height=max(box.height for box in boxes))
    x = 0.0
    for box in boxes:
        whole.take(box, x, 0)
        x += box.width + GAP_X / 2
    whole.width = x - GAP_X / 2
    whole.axis = whole.width / 2
    return whole


def _frame(kind: Literal["loop", "all", "any", "try", "part"], label: str, inner: Box) -> Box:
    header = HEADER if label else 0.0
    needed = len(label) * _SMALL_CHAR + 28
    side = max(PAD, (needed - inner.width) / 2)
    whole = Box(inner.width + 2 * side, inner.height + header + 2 * PAD, inner.axis + side)
    whole.frames.append(Frame(0, 0, whole.width, whole.height, kind, label))
    whole.take(inner, side, header + PAD)
    whole.outs = [(whole.axis, whole.height, "")]
    return whole

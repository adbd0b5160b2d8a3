"""A graph as SVG. Colours come from a style sheet: the dashboard's, or one inside the file."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from wfq.analysis.graph import Graph
from wfq.analysis.labels import KINDS
from wfq.analysis.layout import Box, Edge, Frame, Node, lay_out
from wfq.analysis.progress import Progress

_RADIUS = 9.0

#: For a file that stands alone: light and dark.
STYLE = """
svg{font-family:ui-sans-serif,system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;background:#fff}
.g-box{fill:#f6f8fb;stroke:#93a1b5;stroke-width:1.3}.g-frame{fill:none;stroke:#aab6c6}
.g-frame{stroke-dasharray:5 4}.g-title{fill:#172033;font-size:13px;font-weight:600}
.g-kind,.g-detail,.g-label{fill:#55627a;font-size:11px}.g-edge{fill:none;stroke:#7a889e}
.g-edge{stroke-width:1.4}.g-fails{stroke-dasharray:4 4;stroke:#b4493f}.g-head{fill:#7a889e}
.g-activity .g-box{stroke:#3b6fd4;fill:#eef3fd}.g-child .g-box{stroke:#7b4fc9;fill:#f4effc}
.g-event .g-box{stroke:#b7791f;fill:#fdf6e7}.g-timer .g-box{stroke:#b7791f;fill:#fdf6e7}
.g-wait .g-box{stroke:#b7791f;fill:#fdf6e7}.g-branch .g-box{fill:#fff}
.g-return .g-box,.g-finish .g-box{fill:#eaf6ee;stroke:#3f8f5b}.g-raise .g-box{fill:#fdecea}
.g-raise .g-box{stroke:#b4493f}
@media(prefers-color-scheme:dark){svg{background:#12161d}.g-box{fill:#1b222d;stroke:#5c6a80}
.g-title{fill:#e6ebf3}.g-kind,.g-detail,.g-label{fill:#9aa8bd}.g-edge{stroke:#74829a}
.g-activity .g-box{fill:#17243d;stroke:#5f8fe8}.g-child .g-box{fill:#241b38;stroke:#a07ee6}
.g-event .g-box,.g-timer .g-box,.g-wait .g-box{fill:#2c2310;stroke:#d09a3e}
.g-branch .g-box{fill:#12161d}.g-return .g-box,.g-finish .g-box{fill:#14291c;stroke:#5bb37a}
.g-raise .g-box{fill:#331917;stroke:#d9695f}}
"""


def to_svg(
    graph: Graph,
    progress: Mapping[int, Progress] | None = None,
    *,
    alone: bool = True,
) -> str:
    """Return the picture.

    progress: what became of each step of one instance, by the step's id. alone: for a file, with
    its own style sheet; else for a page that has one.
    """
    box = lay_out(graph)
    width, height = round(box.width), round(box.height)
    overlaid = "" if progress is None else " g-live"
    title = f"workflow {graph.name}"
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    about = f'class="graph{overlaid}" role="img" aria-label="{escape(title)}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {about}>']
    if alone:
        lines.append(f"<style>{STYLE}</style>")
    lines += (_frame(frame) for frame in box.frames)
    lines += (_edge(edge) for edge in box.edges)
    lines += (_node(node, progress) for node in box.nodes)
    lines += _edge_labels(box)
    lines.append("</svg>")
    return "\n".join(lines) + "\n"


def _frame(frame: Frame) -> str:
    rect = (
        f'<rect class="g-frame g-frame-{frame.kind}" x="{frame.x:.1f}" y="{frame.y:.1f}" '
        f'width="{frame.width:.1f}" height="{frame.height:.1f}" rx="10"/>'
    )
    if not frame.label:
        return rect
    return rect + _text("g-label", frame.x + 12, frame.y + 18, frame.label)


def _edge(edge: Edge) -> str:
    kind = "g-edge g-fails" if edge.fails else "g-edge"
    line = f'<path class="{kind}" d="{_path(edge.points)}"/>'
    if not edge.arrives:
        return line
    x, y = edge.points[-1]
    head = f"M{x - 4:.1f},{y - 7:.1f}L{x:.1f},{y:.1f}L{x + 4:.1f},{y - 7:.1f}z"
    return f'{line}<path class="g-head" d="{head}"/>'


def _path(points: list[tuple[float, float]]) -> str:
    """A line along points with rounded corners."""
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(_RADIUS, _length(before, corner) / 2, _length(corner, after) / 2)
        a, b = _towards(corner, before, radius), _towards(corner, after, radius)
        path += f"L{a[0]:.1f},{a[1]:.1f}Q{corner[0]:.1f},{corner[1]:.1f} {b[0]:.1f},{b[1]:.1f}"
    return path + f"L{points[-1][0]:.1f},{points[-1][1]:.1f}"


def _length(a: tuple[float, float], b: tuple[float, float]) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _towards(
    start: tuple[float, float], end: tuple[float, float], distance: float
) -> tuple[float, float]:
    length = _length(start, end) or 1.0
    part = distance / length
    return (start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part)


def _edge_labels(box: Box) -> list[str]:
    """Labels come last: they stand on top of lines that cross."""
    found = []
    for edge in box.edges:
        if edge.label:
            (x, y), (next_x, _) = edge.points[0], edge.points[1]
            sideways = abs(next_x - x) > 0.5
            at = (x + 8, y - 6) if sideways else (x + 7, y + 16)
            found.append(_text("g-label", *at, edge.label))
    return found


def _node(node: Node, progress: Mapping[int, Progress] | None) -> str:
    left = node.x - node.width / 2
    classes = ["g-node", f"g-{node.kind}"]
    shown = None
    if node.step is not None and progress is not None:
        shown = progress.get(node.step.id)
        if shown is not None:
            classes.append(f"g-{shown.state}")
    parts = [f'<g class="{" ".join(classes)}">', f"<title>{escape(_hover(node, shown))}</title>"]
    if node.step is not None and node.step.many:
        for offset in (8, 4):
            parts.append(_rect(node, left + offset, node.y + offset))
    parts.append(_shape(node, left))
    parts += _words(node)
    if shown is not None and shown.badge:
        parts.append(_badge(node, shown.badge))
    parts.append("</g>")
    return "".join(parts)


def _shape(node: Node, left: float) -> str:
    if node.kind == "branch":
        right, middle, bottom = left + node.width, node.y + node.height / 2, node.y + node.height
        points = (
            f"{left:.1f},{middle:.1f} {left + 16:.1f},{node.y:.1f} {right - 16:.1f},{node.y:.1f} "
            f"{right:.1f},{middle:.1f} {right - 16:.1f},{bottom:.1f} {left + 16:.1f},{bottom:.1f}"
        )
        return f'<polygon class="g-box" points="{points}"/>'
    return _rect(node, left, node.y)


def _rect(node: Node, x: float, y: float) -> str:
    round_ends = node.kind not in ("activity", "child", "send", "event", "timer", "wait")
    radius = node.height / 2 if round_ends else 8
    return (
        f'<rect class="g-box" x="{x:.1f}" y="{y:.1f}" width="{node.width:.1f}" '
        f'height="{node.height:.1f}" rx="{radius:.1f}"/>'
    )


def _words(node: Node) -> list[str]:
    lines: list[tuple[str, str]] = []
    if node.kind in KINDS:
        lines.append(("g-kind", KINDS[node.kind]))
    lines.append(("g-title", node.title))
    if node.detail:
        lines.append(("g-detail", node.detail))
    spacing = 16.0
    y = node.y + node.height / 2 - spacing * (len(lines) - 1) / 2 + 4
    return [
        _text(kind, node.x, y + spacing * number, text, middle=True)
        for number, (kind, text) in enumerate(lines)
    ]


def _badge(node: Node, text: str) -> str:
    width = len(text) * 6.6 + 14
    x, y = node.x + node.width / 2 - width + 6, node.y - 9
    rect = f'<rect class="g-badge" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="18" rx="9"/>'
    return rect + _text("g-badge-text", x + width / 2, y + 13, text, middle=True)


def _hover(node: Node, shown: Progress | None) -> str:
    told = [node.title]
    line = node.step.line if node.step else node.branch.line if node.branch else 0
    if line:
        told.append(f"line {line}")
    if shown is not None:
        told.append(shown.text)
    return "; ".join(told)


def _text(kind: str, x: float, y: float, text: str, *, middle: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{anchor}>{escape(text)}</text>'

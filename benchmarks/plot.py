"""A picture and a table of a run: ``python -m benchmarks.plot RESULTS.json [PICTURE.svg]``.

The picture shows what one Redis did per second in each case, and what it does when the same
commands are piped into it without Python: the limit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

_ROW, _LEFT, _WIDE, _TOP = 34, 290, 420, 46
_OWN, _LIMIT, _TEXT = "#2563eb", "#cbd5e1", "#64748b"


def table(results: Sequence[dict[str, Any]]) -> str:
    """The results as a Markdown table; a target that is missed says so."""
    lines = [
        "| workload | a second | limit | ratio | Redis us each | further | targets missed |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        if "failed" in one:
            lines.append(f"| {one['workload']} {one['case']} | | | | | {one['failed']} | all |")
            continue
        figures, limit = one["figures"], one.get("limit")
        missed = [
            f"{v['figure']} {v['value']:.3g} (goal {v['goal']:g})"
            for v in one["verdicts"]
            if v["verdict"] != "ok" and "below" in v["verdict"]
        ]
        others = {
            name: value
            for name, value in figures.items()
            if name not in ("rate", "redis_us", "ratio", "seconds")
        }
        cells = [
            f"{one['workload']} {one['case']}",
            f"{figures['rate']:,.0f}",
            f"{limit['rate']:,.0f}" if limit else "",
            f"{figures['ratio']:.2f}" if "ratio" in figures else "",
            f"{figures['redis_us']:.1f}",
            ", ".join(f"{name} {value:,.3g}" for name, value in others.items()),
            "; ".join(missed),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(results: Sequence[dict[str, Any]], about: str) -> str:
    """The cases that have a limit as bars, as SVG."""
    shown = [one for one in results if one.get("limit")]
    height = _TOP + _ROW * len(shown) + 12
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDE + 110}" '
            f'height="{height}" font-family="sans-serif" font-size="12">'
        ),
        f'<text x="8" y="18" fill="{_TEXT}">{escape(about)}</text>',
        (
            f'<text x="8" y="36" fill="{_TEXT}">blue: measured; grey: the same commands without '
            "Python, as fast as this Redis takes them</text>"
        ),
    ]
    for number, one in enumerate(shown):
        top = _TOP + number * _ROW
        rate, limit = one["figures"]["rate"], one["limit"]["rate"]
        scale = _WIDE / max(rate, limit)
        parts += [
            (
                f'<text x="8" y="{top + 17}" fill="{_TEXT}">'
                f"{escape(one['workload'])} {escape(one['case'])}</text>"
            ),
            (
                f'<rect x="{_LEFT}" y="{top + 4}" width="{limit * scale:.0f}" height="20" '
                f'fill="{_LIMIT}"/>'
            ),
            (
                f'<rect x="{_LEFT}" y="{top + 8}" width="{rate * scale:.0f}" height="12" '
                f'fill="{_OWN}"/>'
            ),
            (
                f'<text x="{_LEFT + _WIDE + 8}" y="{top + 17}" fill="{_TEXT}">'
                f"{rate:,.0f}/s, {rate / limit:.2f}</text>"
            ),
        ]
    return "\n".join([*parts, "</svg>", ""])


def main(arguments: Sequence[str]) -> int:
    found = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    machine = found["machine"]
    about = (
        f"{machine['cores']} cores, load {machine['load'][0]}, {machine['server']}, "
        f"Python {machine['python']}, {machine['date']}"
    )
    print(table(found["results"]))
    if len(arguments) > 1:
        Path(arguments[1]).write_text(picture(found["results"], about), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

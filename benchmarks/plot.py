"""A table and a picture of runs: ``python -m benchmarks.plot RESULTS.json... [PICTURE.svg]``.

With ``--into docs/performance.md`` the table takes the place of the one between that page's marks,
under a line about the machine. Of a case that several files have, the last one counts. The picture
shows what one Redis did per second in each case, and what it does when the same commands are
piped into it without Python: the limit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.__main__ import CASES
from benchmarks.result import amount

#: Between these a page has the table.
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"

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
        figures = one["figures"]
        missed = [
            f"{v['figure']} {amount(v['value'])} (goal {v['goal']:,g})"
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
            _limit(one),
            f"{figures['ratio']:.2f}" if "ratio" in figures else "",
            f"{figures['redis_us']:.1f}",
            ", ".join(f"{name} {amount(value)}" for name, value in others.items()),
            "; ".join(missed),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _limit(one: dict[str, Any]) -> str:
    """The limit, marked where the replay came out differently; or why there is none."""
    limit = one.get("limit")
    if limit is None:
        return one.get("no_limit") or ""
    return f"{limit['rate']:,.0f}" + ("" if limit["faithful"] else " *")


def picture(results: Sequence[dict[str, Any]], line: str) -> str:
    """The cases that have a limit as bars, as SVG."""
    shown = [one for one in results if one.get("limit")]
    height = _TOP + _ROW * len(shown) + 12
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDE + 110}" '
            f'height="{height}" font-family="sans-serif" font-size="12">'
        ),
        f'<text x="8" y="18" fill="{_TEXT}">{escape(line)}</text>',
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


def merged(documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of all, in the order of the suite; the last of each case."""
    found = {(one["workload"], one["case"]): one for d in documents for one in d["results"]}
    order = {(case.workload, case.name): n for n, case in enumerate(CASES)}
    return [found[name] for name in sorted(found, key=lambda name: order.get(name, len(order)))]


def about(documents: Sequence[dict[str, Any]]) -> str:
    """The machine, its load when each run began, and what ran, in one line."""
    machine = documents[-1]["machine"]
    loads = ", ".join(str(d["machine"]["load"][0]) for d in documents)
    return (
        f"{machine['cores']} cores {machine['cpu']}, load {loads} before; {machine['server']}, "
        f"Python {machine['python']}, {machine['date']}, {_size(documents)}"
    )


def _size(documents: Sequence[dict[str, Any]]) -> str:
    samples = [len(one["samples"]) for d in documents for one in d["results"] if "samples" in one]
    return (
        "one sample each"
        if max(samples, default=1) == 1
        else "medians of up to " + str(max(samples))
    )


def put_into(page: str, line: str, made: str) -> str:
    """The page with the table between its marks replaced. Raises: ValueError without marks."""
    head, _, rest = page.partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise ValueError(f"the page has no marks {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{line}\n\n{made}\n{mark}{tail}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot")
    parser.add_argument("files", nargs="+", type=Path, help="results as JSON; a picture to write")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the table into this page")
    given = parser.parse_args(arguments)
    pictures = [path for path in given.files if path.suffix == ".svg"]
    found = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in given.files
        if path.suffix != ".svg"
    ]
    results, line = merged(found), about(found)
    if given.into is None:
        print(f"{line}\n\n{table(results)}")
    else:
        page = given.into.read_text(encoding="utf-8")
        given.into.write_text(put_into(page, line, table(results)), encoding="utf-8")
    for path in pictures:
        path.write_text(picture(results, line), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

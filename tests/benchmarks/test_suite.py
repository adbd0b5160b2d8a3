"""The suite runs, on the smallest scale, and tells what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import CASES, choose, main
from benchmarks.plot import BEGIN, END
from benchmarks.plot import main as plot
from benchmarks.result import Target, amount


def run(path: Path, *arguments: str) -> list[dict[str, Any]]:
    assert main(["--tiny", "--json", str(path / "found.json"), *arguments]) == 0
    document: dict[str, Any] = json.loads((path / "found.json").read_text())
    page = path / "page.md"
    page.write_text(f"# Page\n\n{BEGIN}\nold\n{END}\n\nrest\n")
    assert plot([str(path / "found.json"), str(path / "p.svg"), "--into", str(page)]) == 0
    written = page.read_text()
    assert written.startswith("# Page\n")
    assert written.endswith(f"{END}\n\nrest\n")
    assert written.count("\n| ") == 1 + len(document["results"])
    assert "old" not in written
    results: list[dict[str, Any]] = document["results"]
    return results


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_a_figure_stands_beside_its_limit_and_its_costs(tmp_path: Path) -> None:
    (found,) = run(tmp_path, "w1:chain of 3, one")

    assert found["figures"]["rate"] > 0
    assert found["figures"]["redis_us"] > 0
    assert found["limit"]["faithful"]
    assert found["limit"]["main_us"] > 0
    assert found["calls"]["evalsha"]["calls"] > 0
    assert [v["figure"] for v in found["verdicts"]] == ["rate", "ratio", "redis_us"]


def test_words_choose_workloads_and_cases() -> None:
    assert choose([]) == CASES
    assert {case.workload for case in choose(["w3", "W4"])} == {"W3", "W4"}
    assert [case.name for case in choose(["w1:inline"])] == ["3 inline activities, one process"]
    assert main(["w99"]) == 2


@pytest.mark.parametrize(
    ("value", "word"), [(9, "below the floor"), (12, "below the goal"), (15, "ok")]
)
def test_a_target_judges_what_is_to_be_much(value: float, word: str) -> None:
    assert Target("rate", goal=15, floor=10).verdict(value) == word


def test_a_target_judges_what_is_to_be_little() -> None:
    target = Target("p50_ms", goal=2, floor=4, better="less")

    assert [target.verdict(v) for v in (1, 3, 5)] == ["ok", "below the goal", "below the floor"]


def test_amounts_show_the_digits_that_count() -> None:
    assert [amount(v) for v in (12345.6, 123.4, 12.34, 1.234)] == ["12,346", "123", "12.3", "1.23"]

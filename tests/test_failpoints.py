"""Failpoints: off unless armed, and armed as written."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.chaos.nemesis import POINTS
from tests.servers import ROOT
from wfq import failpoints
from wfq.errors import ConfigurationError
from wfq.failpoints import Failpoint, FailpointRaised


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_points_are_read_from_text() -> None:
    assert failpoints.parse("act.before_report=kill; orch.after_run=sleep:0.5@2;;x=exit") == {
        "act.before_report": Failpoint("kill"),
        "orch.after_run": Failpoint("sleep", 0.5, 2),
        "x": Failpoint("exit"),
    }


@pytest.mark.parametrize("text", ["act.x", "=kill", "a=explode", "a=sleep:long", "a=kill@often"])
def test_a_text_that_cannot_be_used_says_which_part(text: str) -> None:
    with pytest.raises(ConfigurationError, match="WFQ_FAILPOINTS"):
        failpoints.parse(text)


def test_nothing_happens_at_points_that_are_not_armed() -> None:
    failpoints.hit("act.after_exec")
    assert not failpoints.ACTIVE

    failpoints.arm("act.before_exec=raise")
    failpoints.hit("act.after_exec")
    assert failpoints.ACTIVE


def test_a_point_can_act_on_one_pass_only() -> None:
    failpoints.arm("p=raise@2")

    failpoints.hit("p")
    with pytest.raises(FailpointRaised):
        failpoints.hit("p")
    failpoints.hit("p")


@pytest.mark.parametrize(
    ("action", "status"), [("kill", -signal.SIGKILL), ("exit", failpoints.EXIT_STATUS)]
)
def test_a_process_is_armed_by_its_environment(action: str, status: int) -> None:
    program = "from wfq import failpoints; failpoints.hit('p'); failpoints.hit('p'); print('on')"

    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={"WFQ_FAILPOINTS": f"p={action}@2"},
        capture_output=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (status, b"")


#: The points that the fault campaign strikes, and those of listeners and of the retention.
EXPECTED = {point for points in POINTS.values() for point in points} | {
    "listen.after_read",
    "listen.before_ack",
    "sched.after_expire",
}


def test_every_point_is_in_the_code_and_costs_one_look_when_off() -> None:
    found = set()
    for path in [*ROOT.glob("workers/**/*.py"), *ROOT.glob("wfq/**/*.py")]:
        lines = path.read_text(encoding="utf-8").splitlines()
        for before, line in itertools.pairwise(lines):
            hit = re.fullmatch(r'\s+failpoints\.hit\("([\w.]+)"\)', line)
            if hit:
                assert before.strip().startswith("if failpoints.ACTIVE"), f"{path}: {line}"
                found.add(hit[1])

    assert found == EXPECTED

"""Focused rounds of the fault campaign, and the proof that it finds what is broken on purpose.

Each takes half a minute, so they are no part of a plain run of the tests, but a step of their
own in CI: ``run.py test -m campaign tests/faults``. So is a minute of everything at once:
``run.py chaos``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.campaign import Options, run
from tests.chaos.fleet import ROLES
from tests.chaos.nemesis import CLIENTS, Fault

pytestmark = [pytest.mark.campaign, pytest.mark.processes, pytest.mark.timeout(240)]

ORCHESTRATORS = ("orchestrator-1", "orchestrator-2", "all-1")
LIVES = ("orch.after_read=kill@1", "orch.after_read=kill@1", "orch.after_commit=kill@4")
EVERYBODY = (*ROLES, CLIENTS)


def everywhere(kind: str, at_s: float, seconds: float) -> tuple[Fault, ...]:
    """The same weather on every way to the server, at the same time."""
    return tuple(Fault(at_s, kind, target, seconds, 0) for target in EVERYBODY)


#: What orchestrators send is held for two leases, and arrives when others own their partitions.
ZOMBIES = Options(
    seed=7,
    seconds=18.0,
    stuck_s=12.0,
    plan=tuple(Fault(2.0 + 4.0 * n, "hold", ORCHESTRATORS[n % 3], 3.0, 0) for n in range(4)),
)
CRASHES = Options(
    seed=7,
    seconds=15.0,
    stuck_s=12.0,
    kinds={"kill": 10, "failpoint": 10, "freeze": 3, "cut": 3},
)
#: Orchestrators die on what they have read, twice in a row, and then one of them in the middle of
#: a batch that it runs instance by instance. (Two would be the instance's own fault.)
HALVES = Options(
    seed=7,
    seconds=18.0,
    stuck_s=12.0,
    shapes={"resident": 150},
    plan=tuple(
        Fault(2.0 + 8.0 * wave, "failpoint", name, lives=LIVES[: 3 if n == wave else 2])
        for wave in range(2)
        for n, name in enumerate(ORCHESTRATORS)
    ),
)
POWER_CUTS = Options(
    seed=7,
    seconds=15.0,
    shapes={"relay": 15},
    stuck_s=12.0,
    lossy=True,
    kinds={"server power": 10, "kill": 4, "freeze": 2},
)
SET_ASIDE = "STALLED: its turns ended their worker process more than once"
CONTROLS = {
    "no fence": ZOMBIES,
    "no nonces": POWER_CUTS,
    "early ack": CRASHES,
    "no position": HALVES,
}

#: Rows 16 to 19 of the fault table, on every role at once.
WIRES = {
    "replies and requests are lost": (
        *everywhere("drop reply", 1.0, 3.0),
        *everywhere("drop request", 4.5, 3.0),
        *everywhere("tear", 8.0, 3.0),
        *everywhere("swallow", 11.5, 2.0),
    ),
    "one worker of each kind is cut off": (
        Fault(1.0, "hold", "orchestrator-1", 6.0, 0),
        Fault(1.0, "hold", "activity-1", 6.0, 0),
        Fault(1.0, "hold", "scheduler-1", 6.0, 0),
    ),
    "every reply is slow": everywhere("delay", 1.0, 8.0),
    "nobody is let in": (
        *(Fault(2.0, "cut", target, 0.0, 0) for target in EVERYBODY),
        *everywhere("refuse", 1.9, 6.0),
    ),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_defect_is_found_out(name: str) -> None:
    """Within three rounds: on a machine with too much to do, faults may miss their moment."""
    reports = []
    for seed in range(7, 10):
        reports.append(run(replace(CONTROLS[name], mutation=name, seed=seed)))
        if not reports[-1].ok:
            return
    raise AssertionError(f"{name}: nothing was found in {reports}")


@pytest.mark.parametrize("name", CONTROLS)
def test_the_same_faults_do_no_harm_without_the_defect(name: str) -> None:
    report = run(CONTROLS[name])

    # Where one instance happens to be in both deaths of HALVES it is set aside, as it should be.
    harm = [v for v in report.violations if CONTROLS[name] is not HALVES or SET_ASIDE not in v]
    assert harm == [], str(report)


@pytest.mark.parametrize("name", WIRES)
def test_a_bad_wire_only_delays(name: str) -> None:
    report = run(Options(seed=11, seconds=15.0, per_second=15.0, plan=WIRES[name]))

    assert report.ok, str(report)
    assert report.counts["instances"] > 100

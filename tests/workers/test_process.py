"""Worker processes: signals, drain, kills at every step of an activity."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, Processes, Spawned, poll
from tests.workers.activity_kit import Shop, retry
from wfq_workers.process import TOKEN_VARIABLE, new_worker_id, worker_id_of

pytestmark = pytest.mark.processes

PROGRAM = ROOT / "tests/workers/programs/activity_worker.py"


@pytest.fixture
def shop(valkey_url: str) -> Iterator[Shop]:
    shop = Shop(valkey_url)
    yield shop
    shop.close()


class Workers:
    """Starts worker processes of a shop and waits until they are ready."""

    def __init__(self, shop: Shop, processes: Processes) -> None:
        self._shop = shop
        self._processes = processes

    def start(self, *, env: dict[str, str] | None = None, **options: Any) -> Spawned:
        worker = self.launch(env=env, **options)
        worker.wait_for_log("ready ")
        return worker

    def launch(self, *, env: dict[str, str] | None = None, **options: Any) -> Spawned:
        """Start one that may die before it has said that it is ready."""
        return self._processes.python(
            PROGRAM, self._shop.url, json.dumps(options), env=env, name="worker"
        )


@pytest.fixture
def workers(shop: Shop, processes: Processes) -> Workers:
    return Workers(shop, processes)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_worker_ids_are_unique_and_name_host_and_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "abcd")

    first, second = new_worker_id(), new_worker_id()

    assert first == worker_id_of(os.getpid(), "abcd")
    assert second != first
    assert str(os.getpid()) in second


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once_and_well(
    shop: Shop, workers: Workers, number: signal.Signals
) -> None:
    worker = workers.start()
    start = time.monotonic()

    worker.send(number)

    assert worker.wait() == 0
    assert time.monotonic() - start < 3
    assert "Traceback" not in worker.log()


def test_a_running_activity_is_finished_before_the_end(
    shop: Shop, workers: Workers, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    worker = workers.start()
    order = shop.schedule("write_and_wait", str(path))
    poll(lambda: lines(path))

    worker.send(signal.SIGTERM)
    worker.wait_for_log("finishing")
    Path(f"{path}.go").touch()

    assert worker.wait() == 0
    assert [event[0] for event in shop.events_of(order)] == ["C"]
    assert shop.pending() == []


def test_what_does_not_finish_is_handed_to_another_worker(
    shop: Shop, workers: Workers, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    worker = workers.start(grace_s=0.2)
    order = shop.schedule("write_and_wait", str(path))
    poll(lambda: lines(path))

    status = worker.stop()
    workers.start(lease_s=600)
    poll(lambda: len(lines(path)) == 2)
    Path(f"{path}.go").touch()

    assert status == 0
    assert shop.wait_event(order)[0] == "C"


def test_a_second_signal_ends_the_worker_at_once(
    shop: Shop, workers: Workers, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    worker = workers.start(grace_s=600)
    shop.schedule("hang", str(path))
    poll(lambda: lines(path))

    worker.send(signal.SIGTERM)
    worker.wait_for_log("finishing")
    worker.send(signal.SIGTERM)

    assert worker.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("point", "runs"),
    [
        ("act.after_read", 1),
        ("act.before_exec", 1),
        ("act.after_exec", 2),
        ("act.before_report", 2),
        ("act.after_report", 1),
    ],
)
def test_a_worker_killed_at_any_step_loses_nothing(
    shop: Shop, workers: Workers, tmp_path: Path, point: str, runs: int
) -> None:
    path = tmp_path / "log"
    killed = workers.start(env={"WFQ_FAILPOINTS": f"{point}=kill"})
    order = shop.schedule("write", str(path), retry=retry(1))

    # Reading an empty stream passes the first point as well, so it may have died before.
    assert killed.wait() == -signal.SIGKILL
    workers.start(lease_s=0.5)
    event = shop.wait_event(order)
    poll(lambda: shop.pending() == [])

    assert event[0] == "C"
    # A crash is no attempt.
    assert len(event) == 4
    assert lines(path) == [order] * runs
    assert len(shop.events_of(order)) == 1


def test_a_worker_that_was_stopped_past_its_lease_does_no_harm(
    shop: Shop, workers: Workers, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    zombie = workers.start(lease_s=0.5)
    order = shop.schedule("write_and_wait", str(path))
    poll(lambda: lines(path))

    zombie.send(signal.SIGSTOP)
    workers.start(lease_s=0.5)
    poll(lambda: len(lines(path)) == 2)
    Path(f"{path}.go").touch()
    event = shop.wait_event(order)
    zombie.send(signal.SIGCONT)

    assert zombie.stop() == 0
    assert event[0] == "C"
    # Both may report; the instance takes the first by its nonce.
    assert {e[2] for e in shop.events_of(order)} == {f"nonce-{order}"}
    poll(lambda: shop.pending() == [])
    assert shop.entries() == 0


def test_an_activity_that_kills_its_worker_is_given_up_and_others_go_on(
    shop: Shop, workers: Workers, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    poison = shop.schedule("die", str(path), retry=retry(9))
    for _ in range(2):
        assert workers.launch(lease_s=0.5, max_deliveries=2).wait() == -signal.SIGKILL

    workers.start(lease_s=0.5, max_deliveries=2)
    event = shop.wait_event(poison)
    after = shop.wait_event(shop.schedule("write", str(path)))

    assert (event[0], event[3]["type"]) == ("X", "WorkerLost")
    assert after[0] == "C"
    assert [letter["id"] for letter in shop.dead_letters()] == [poison]
    assert lines(path).count(poison) == 2


@pytest.mark.long
def test_of_all_that_a_dying_worker_holds_only_what_kills_it_is_given_up(
    shop: Shop, workers: Workers, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    innocent = [shop.schedule("linger", str(path)) for _ in range(20)]
    poison = shop.schedule("die_in_company", str(path))
    innocent += [shop.schedule("linger", str(path)) for _ in range(20)]
    crew = [workers.launch(lease_s=0.5)]
    deaths = 0

    def settled() -> bool:
        nonlocal deaths
        for n, worker in enumerate(crew):
            if not worker.alive:
                deaths += 1
                crew[n] = workers.launch(lease_s=0.5)
        # The first, which holds all of it, is joined by others.
        if deaths and len(crew) < 3:
            crew.append(workers.launch(lease_s=0.5))
        return shop.entries() == 0

    poll(settled, 60)
    events = dict(shop.events())

    assert [letter["id"] for letter in shop.dead_letters()] == [poison]
    assert events.pop(poison)[3]["type"] == "WorkerLost"
    assert {name: event[0] for name, event in events.items()} == dict.fromkeys(innocent, "C")
    assert deaths == lines(path).count(poison) == 5
    partitions = range(shop.namespace.partitions)
    assert [shop.link.command("HLEN", shop.namespace.tasks(p)) for p in partitions] == [0] * 4


def test_stops_under_load_lose_nothing(shop: Shop, workers: Workers, tmp_path: Path) -> None:
    path = tmp_path / "log"
    orders = [shop.schedule("write", str(path)) for _ in range(2000)]

    for _ in range(5):
        worker = workers.start()
        assert worker.stop() == 0
    workers.start()
    poll(lambda: shop.entries() == 0, 30)

    assert sorted(name for name, _ in shop.events()) == sorted(orders)
    assert sorted(lines(path)) == sorted(orders)

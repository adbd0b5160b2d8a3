"""list.lua, read.lua, fetch.lua and purge.lua: what is told of instances, and their end."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.storage.kit import QUEUE, Store, part
from wfq.storage import instances
from wfq.storage.instances import Filters, NewInstance, Position, Snapshot


def page(
    store: Store, status: str = "RUNNING", **more: Any
) -> tuple[list[Snapshot], Position | None]:
    filters = more.pop("filters", Filters())
    return store.run(instances.list_page(store.ns, 0, status, filters, **{"limit": 10, **more}))


def walk(store: Store, limit: int, filters: Filters | None = None, budget: int = 5000) -> list[str]:
    """Every id, page by page."""
    found: list[str] = []
    position: Position | None = None
    for _ in range(1000):
        rows, position = page(
            store, limit=limit, filters=filters or Filters(), position=position, budget=budget
        )
        found += [row.instance_id for row in rows]
        if position is None:
            return found
    raise AssertionError("the listing does not end")


def at(store: Store, created: dict[str, int]) -> None:
    """Put instances into the index of RUNNING at chosen times."""
    store.start_all([NewInstance(i, "inc1", QUEUE, "flow", b"1") for i in created])
    for instance_id, ms in created.items():
        store.command("ZADD", store.ns.index(0, "RUNNING"), ms, instance_id)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_with_ties_show_every_instance_once_newest_first(store: Store, limit: int) -> None:
    names = ["a", "B", "_", "~", "-", ".", "Z", "z9", "z10", "@", ":", "0", "aa", "a-b", "a.b"]
    created = {name: 1795332253000 + n // 6 for n, name in enumerate(names)}
    at(store, created)

    found = walk(store, limit)

    expected = sorted(names, key=lambda n: (created[n], n.encode()), reverse=True)
    assert found == expected


def test_pages_stay_stable_while_instances_come_and_go(store: Store) -> None:
    at(store, {f"i{n:02}": 1000 for n in range(20)})
    first, position = page(store, limit=8)
    store.command("ZREM", store.ns.index(0, "RUNNING"), first[-1].instance_id, "i05")
    at(store, {"i99": 1000, "new": 5000})

    second, _ = page(store, limit=100, position=position)

    assert [r.instance_id for r in first] == [f"i{n:02}" for n in range(19, 11, -1)]
    assert [r.instance_id for r in second] == [f"i{n:02}" for n in range(11, -1, -1) if n != 5]


def test_a_budget_ends_a_page_early_without_ending_the_list(store: Store) -> None:
    at(store, {f"i{n:03}": 1000 + n // 50 for n in range(300)})

    found = walk(store, 10, Filters(id_part="7"), budget=20)

    assert found == [f"i{n:03}" for n in range(299, -1, -1) if "7" in f"{n:03}"]


def test_filters_narrow_a_listing(store: Store) -> None:
    store.start("a", name="one", extra={"tags": {"team": "x", "n": "1"}})
    store.start("b", name="two", queue="other", extra={"tags": {"team": "xy"}})
    store.start("c", name="one", extra={"tags": {"note": '"team":"x"'}})

    def ids(**filters: Any) -> list[str]:
        return sorted(walk(store, 10, Filters(**filters)))

    assert ids() == ["a", "b", "c"]
    assert ids(name="one") == ["a", "c"]
    assert ids(queue="other") == ["b"]
    assert ids(tag=("team", "x")) == ["a"]
    assert ids(id_part="b") == ["b"]
    assert ids(id_part="%a") == []


def test_times_bound_a_listing_on_both_ends(store: Store) -> None:
    at(store, {f"i{n}": 1000 + n for n in range(6)})

    found = walk(store, 2, Filters(created_from_ms=1001, created_to_ms=1004))

    assert found == ["i4", "i3", "i2", "i1"]


def test_a_row_tells_what_is_known_without_payloads(store: Store) -> None:
    store.start("a", extra={"tags": {"k": "v"}})
    store.own()
    ((entry, _),) = store.read_events()
    store.commit(
        part("a", 1, ("S", "custom", "[]"), record=["T", 77, "n", [], [], None]), last=entry
    )

    (row,), position = page(store)

    assert position is None
    assert (row.instance_id, row.turns, row.changed_ms) == ("a", 2, 77)
    assert row.fields["custom"] == "[]"
    assert row.status == "RUNNING"
    assert (row.birth, row.last) == (None, None)


def test_a_server_in_another_locale_pages_by_bytes(
    start_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lua compares text by the server's locale; an index is in the order of the bytes."""
    try:
        made = subprocess.run(
            ["localedef", "--no-archive", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"],
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("no localedef to make a locale with an order of its own")
    if made.returncode:
        pytest.skip("no source of a locale with an order of its own (package locales)")
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    store = Store(start_server("redis").url)
    assert store.command("EVAL", "return 'a' < 'B' and 1 or 0", 0) == 1, "the order of the bytes"
    at(store, dict.fromkeys(("a", "B", "_", "A", "b"), 1000))

    assert walk(store, 1) == ["b", "a", "_", "B", "A"]
    store.close()


class TestRead:
    def test_payloads_are_read_only_where_asked_for(self, store: Store) -> None:
        store.start("a", payload=b"[]")

        full, none = store.run(instances.read(store.ns, 0, ["a", "nobody"]))
        (bare,) = store.run(instances.read(store.ns, 0, ["a"], payloads=False))

        assert none is None
        assert full is not None
        assert bare is not None
        assert full.birth is not None
        assert full.birth[5] == []
        assert full.birth == full.last
        assert (bare.birth, bare.last) == (None, None)
        assert full.changed_ms == bare.changed_ms == full.created_ms

    def test_an_instance_is_pending_until_its_first_turn(self, store: Store) -> None:
        store.start("a")
        store.start("late", due_ms=10**13)
        before = store.read("a")
        store.own()
        ((entry, _),) = store.read_events()
        store.commit(part("a", 1), last=entry)

        after, late = store.read("a"), store.read("late")

        assert before is not None
        assert before.status == "PENDING"
        assert after is not None
        assert after.status == "RUNNING"
        assert late is not None
        assert late.status == "PENDING"

    def test_a_later_generation_is_running_from_its_birth_on(self, store: Store) -> None:
        store.start("a")
        store.own()
        ((entry, _),) = store.read_events()
        birth = b'["B",5,"inc1",1,"flow",null,null,null]'
        store.commit(part("a", 1, ("N", birth), record=None), last=entry)

        snapshot = store.read("a")

        assert snapshot is not None
        assert (snapshot.status, snapshot.turns) == ("RUNNING", 1)


class TestFetch:
    def test_whole_histories_come_with_what_an_owner_needs(self, store: Store) -> None:
        store.start("a")
        store.own()
        ((entry, _),) = store.read_events()
        operations = [
            ("S", "status", "STALLED"),
            ("S", "stalled", "no code"),
            ("S", "version", "2"),
        ]
        store.commit(part("a", 1, *operations), last=entry)

        found, none = store.run(instances.fetch(store.ns, 0, ["a", "nobody"]))

        assert none is None
        assert found is not None
        assert (found.incarnation, found.queue, found.status) == ("inc1", QUEUE, "STALLED")
        assert (found.stalled, found.version) == ("no code", "2")
        assert [orjson.loads(r)[0] for r in found.records] == ["B", "T"]


class TestPurge:
    @pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "TERMINATED"])
    def test_an_ended_instance_leaves_no_key(self, store: Store, status: str) -> None:
        empty = set(store.image())
        store.start("a")
        store.set_status("a", status)
        store.command("HSET", store.ns.cursors(0), "a", "n1 5")

        assert store.purge("a") == "purged"
        assert store.purge("a") == "unknown"
        left = set(store.image()) - empty
        assert left == {store.ns.events(0, QUEUE), f"{store.ns.prefix(0)}removals"}

    @pytest.mark.parametrize("status", ["", "SUSPENDED", "STALLED", "PENDING"])
    def test_a_live_instance_is_refused(self, store: Store, status: str) -> None:
        store.start("a")
        if status:
            store.set_status("a", status)
        image = store.image()

        assert store.purge("a") == "running"
        assert store.image() == image

    def test_a_live_instance_removed_by_force_makes_its_owner_look_again(
        self, store: Store
    ) -> None:
        store.start("a")
        store.own()
        entries = store.read_events()

        assert store.purge("a", force=True) == "purged"

        assert store.commit(part("a", 1), last=entries[-1][0]).stale == "token"
        assert store.indexes("a") == []
        assert store.own("next", owner="other").takeovers == 0

    def test_purging_works_on_a_full_redis(self, full_store: Store) -> None:
        full_store.start("a")
        full_store.set_status("a", "COMPLETED")
        full_store.full(True)

        assert full_store.purge("a") == "purged"

    def test_purge_and_start_in_a_loop_never_stall_the_partition(self, store: Store) -> None:
        """FAULTS 6.7."""
        store.own()
        position = b"0"
        for n in range(10):
            store.start("a", f"inc{n}")
            ((entry, _),) = store.read_events()
            store.set_status("a", "COMPLETED")
            store.purge("a")
            reply = store.commit(part("a", 1, inc=f"inc{n}"), position=position, last=entry)
            assert (reply.stale, reply.dropped) == ("", ("a",))
            position = entry

        assert store.events() == []
        assert store.history("a") == []

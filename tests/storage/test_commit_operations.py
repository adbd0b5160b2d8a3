"""commit.lua: what a turn may do to other instances, to its own history and to children."""

from __future__ import annotations

import orjson
import pytest

from tests.storage.kit import QUEUE, Store, done, message, new_child, part


class TestMessages:
    """Operations that send events to instances of the same partition."""

    def test_an_event_for_an_instance_is_queued_behind_the_batch(self, running: Store) -> None:
        entries = running.read_events()

        running.commit(part("a", 1, ("E", "other", "b", b'["C",0,"n",[]]')), last=entries[-1][0])

        assert running.events("other") == [("b", ["C", 0, "n", []])]

    @pytest.mark.parametrize(
        ("inc", "status", "arrives"),
        [("inc1", "", True), ("inc2", "", False), ("inc1", "COMPLETED", False)],
    )
    def test_an_outcome_goes_to_the_parent_that_lives(
        self, running: Store, inc: str, status: str, arrives: bool
    ) -> None:
        running.command("HSET", running.ns.instance("b"), "queue", "home")
        if status:
            running.command("HSET", running.ns.instance("b"), "status", status)
        entries = running.read_events()

        running.commit(part("a", 1, ("P", "b", inc, b'["C",0,"n",1]')), last=entries[-1][0])

        assert running.events("home") == ([("b", ["C", 0, "n", 1])] if arrives else [])

    @pytest.mark.parametrize(
        ("status", "arrives"), [("", True), ("SUSPENDED", True), ("FAILED", False)]
    )
    def test_a_sent_event_counts_in_the_inbox(
        self, running: Store, status: str, arrives: bool
    ) -> None:
        running.command("HSET", running.ns.instance("b"), "queue", "home")
        if status:
            running.command("HSET", running.ns.instance("b"), "status", status)
        entries = running.read_events()

        running.commit(
            part("a", 1, ("M", "b", b',"e1","go",[]]'), ("M", "nobody", b',"e2","go",[]]')),
            last=entries[-1][0],
        )

        assert running.events("home") == ([("b", ["E", "inc1", "e1", "go", []])] if arrives else [])
        assert running.fields("b").get("inbox", "0") == ("1" if arrives else "0")

    def test_a_message_for_another_partition_goes_to_the_outbox_and_wakes_a_carrier(
        self, running: Store
    ) -> None:
        entries = running.read_events()

        with running.listening(running.ns.wake(0)) as heard:
            running.commit(part("a", 1, ("O", b'["E"]'), ("O", b'["C"]')), last=entries[-1][0])
            woken = heard()

        rows = running._raw("XRANGE", running.ns.outbox(0), "-", "+")
        assert [fields for _, fields in rows] == [[b"m", b'["E"]'], [b"m", b'["C"]']]
        assert woken == [b"0"]

    def test_a_part_may_only_pass_events_on(self, running: Store) -> None:
        """An event that landed with an owner the instance has left is forwarded, unfenced."""
        entries = running.read_events()

        reply = running.commit(
            part("a", None, ("E", "new home", "a", b'["F",0,"n"]'), record=None),
            last=entries[-1][0],
        )

        assert done(reply)
        assert len(running.history("a")) == 1
        assert running.events("new home") == [("a", ["F", 0, "n"])]


class TestChildren:
    """Operations C and R: child instances in the same partition."""

    def test_a_child_is_born_with_its_start_event(self, running: Store) -> None:
        entries = running.read_events()

        running.commit(part("a", 1, new_child()), last=entries[-1][0])

        assert running.fields("a~kid") == {
            "inc": "n1.0", "name": "kid", "queue": "kids", "created": "77", "parent": "a",
        }  # fmt: skip
        (birth,) = running.history("a~kid")
        assert birth[2:7] == ["n1.0", 0, "kid", [], ["a", "inc1", 0, "n1"]]
        assert running.events("kids") == [("a~kid", ["S", "n1.0", birth])]
        assert running.indexes("a~kid") == ["RUNNING"]

    @pytest.mark.parametrize("status", ["", "COMPLETED"])
    def test_a_taken_id_fails_the_task_and_not_the_batch(self, running: Store, status: str) -> None:
        """FAULTS 6.6."""
        running.start("a~kid", "earlier", queue="kids")
        if status:
            running.command("HSET", running.ns.instance("a~kid"), "status", status)
        entries = running.read_events()

        reply = running.commit(part("a", 1, new_child()), last=entries[-1][0])

        assert done(reply)
        assert running.events() == [("a", ["X", 0, "n1", {"type": "InstanceAlreadyExists"}])]
        assert running.fields("a~kid")["inc"] == "earlier"
        assert len(running.history("a~kid")) == 1
        assert len(running.events("kids")) == 1

    def test_two_parents_of_one_child_id_in_one_batch(self, running: Store) -> None:
        entries = running.read_events()

        running.commit(
            part("a", 1, new_child("n1.0")), part("b", 1, new_child("n2.0")), last=entries[-1][0]
        )

        assert running.fields("a~kid")["inc"] == "n1.0"
        assert [(i, e[0]) for i, e in running.events()] == [("b", "X")]

    def test_the_same_child_again_is_left_alone(self, running: Store) -> None:
        (first, _), (second, _) = running.read_events()
        running.commit(part("a", 1, new_child()), last=first)

        running.commit(part("a", 2, new_child()), position=first, last=second)

        assert len(running.events("kids")) == 1
        assert running.events() == []

    @pytest.mark.parametrize(("status", "replaced"), [("FAILED", True), ("", False)])
    def test_a_retried_child_may_replace_an_ended_instance(
        self, running: Store, status: str, replaced: bool
    ) -> None:
        running.start("a~kid", "earlier", queue="kids")
        if status:
            running.command("HSET", running.ns.instance("a~kid"), "status", status, "custom", "1")
            running.command("ZREM", running.ns.index(0, "RUNNING"), "a~kid")
            running.command("ZADD", running.ns.index(0, status), 1, "a~kid")
        entries = running.read_events()

        running.commit(part("a", 1, new_child(letter="R")), last=entries[-1][0])

        if replaced:
            assert running.fields("a~kid") == {
                "inc": "n1.0", "name": "kid", "queue": "kids", "created": "77", "parent": "a",
            }  # fmt: skip
            assert [b[2] for b in running.history("a~kid")] == ["n1.0"]
            assert running.indexes("a~kid") == ["RUNNING"]
        else:
            assert running.fields("a~kid")["inc"] == "earlier"
            assert [e[0] for _, e in running.events()] == ["X"]


class TestContinueAsNew:
    def test_the_history_begins_again(self, running: Store) -> None:
        (first, _), (second, _) = running.read_events()
        running.commit(part("a", 1, ("U", "n1 1000")), last=first)
        birth = orjson.dumps(["B", 9, "inc1", 1, "flow", [], None, None])

        running.commit(
            part("a", 2, ("N", birth), ("E", QUEUE, "a", b'["S","inc1",%b]' % birth), record=None),
            position=first,
            last=second,
        )

        assert running.history("a") == [orjson.loads(birth)]
        assert running.fields("a")["gen"] == "1"
        assert running.fields("a")["inc"] == "inc1"
        assert running.events() == [("a", ["S", "inc1", orjson.loads(birth)])]
        assert running.own("next", present="tok").cursors == {}

    def test_an_instance_moves_to_another_queue_with_its_events_in_order(
        self, running: Store
    ) -> None:
        """FAULTS 6.5: one writer, in order, nothing lost."""
        entries = running.read_events()
        for n in range(3):
            running.raise_event("a", f"e{n}")
            running.raise_event("b", f"x{n}")
        birth = orjson.dumps(["B", 9, "inc1", 1, "flow", None, None, None])
        start = b'["S","inc1",%b]' % birth

        running.commit(
            part("a", 1, ("N", birth), ("E", "v2", "a", start), ("Q", "v2"), record=None),
            part("b", 1),
            last=entries[-1][0],
        )
        running.raise_event("a", "e3")

        assert running.fields("a")["queue"] == "v2"
        moved = running.events("v2")
        assert [i for i, _ in moved] == ["a"] * 5
        assert [e[2] for _, e in moved[1:]] == ["e0", "e1", "e2", "e3"]
        left = [(i, e[2]) for i, e in running.events()]
        assert [e for i, e in left if i == "b"] == ["x0", "x1", "x2"]


def test_a_dispatch_with_a_start_deadline_remembers_its_entry(running: Store) -> None:
    entries = running.read_events()

    running.commit(part("a", 1, ("Y", QUEUE, message("n1", 0), "0 n1")), last=entries[-1][0])

    assert running.tasks() == {"s a 0 n1": running.entries()[0]}

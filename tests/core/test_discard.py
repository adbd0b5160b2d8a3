"""Dropping code: it can neither act nor speak any more, whatever it does on its way out."""

from __future__ import annotations

import gc
import logging
import time
import warnings
import weakref
from collections.abc import Generator
from typing import Any

import pytest

from tests.core.world import START_MS, registry_of
from wfq.core import flow
from wfq.core.context import WorkflowContext
from wfq.core.instance import Instance
from wfq.core.ports import TurnAborted

Flow = Generator[Any, Any, Any]
BIRTH = ["B", START_MS, "inc1", 0, "workflow", None, None, None]


def running(workflow: Any) -> Instance:
    instance = Instance.load("order-7", [BIRTH], registry_of(workflow))
    instance.apply([["S", "inc1"]], START_MS, "n0")
    return instance


def discard(instance: Instance) -> None:
    """Discard, and let the garbage collector do what it would do; nothing may be reported."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        instance.discard()
        del instance
        gc.collect()


@pytest.fixture(autouse=True)
def nothing_unraisable(monkeypatch: pytest.MonkeyPatch) -> Any:
    seen: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", seen.append)
    yield
    assert [str(item.exc_value) for item in seen] == []


def test_a_finally_clause_cannot_schedule() -> None:
    acted: list[str] = []

    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.call_activity("a")
        finally:
            acted.append("finally")
            for act in (
                lambda: ctx.call_activity("b"),
                lambda: ctx.call_child_workflow("c"),
                lambda: ctx.wait_for_external_event("d"),
                lambda: ctx.continue_as_new(1),
                lambda: ctx.set_custom_status("e"),
                lambda: ctx.send_event("f-1", "g"),
                lambda: ctx.is_patched("h"),
            ):
                try:
                    act()
                    acted.append("did it")
                except TurnAborted:
                    continue

    discard(running(workflow))

    assert acted == ["finally"]


def test_the_logger_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.call_activity("a")
        finally:
            assert ctx.is_replaying
            ctx.logger.error("rolled back")

    caplog.set_level(logging.DEBUG)
    discard(running(workflow))

    assert caplog.records == []


@pytest.mark.parametrize("catch", [GeneratorExit, BaseException])
def test_a_generator_that_yields_in_finally(catch: type[BaseException]) -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        task = ctx.call_activity("a")
        try:
            yield task
        finally:
            try:
                yield task
            except catch:
                yield task

    discard(running(workflow))


def test_a_generator_that_cannot_be_closed() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        task = ctx.call_activity("a")
        while True:
            try:
                yield task
            except BaseException:
                continue

    before = len(flow._UNCLOSABLE)
    discard(running(workflow))

    assert len(flow._UNCLOSABLE) == before + 1


def test_a_coroutine_that_awaits_in_finally() -> None:
    async def inner(ctx: WorkflowContext) -> None:
        task = ctx.call_activity("a")
        try:
            await task
        finally:
            await ctx.call_activity("cleanup")

    async def workflow(ctx: WorkflowContext) -> None:
        try:
            await inner(ctx)
        except BaseException:
            await ctx.call_activity("more")

    discard(running(workflow))


def test_code_that_raises_on_its_way_out() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.call_activity("a")
        finally:
            raise SystemExit("I quit")

    discard(running(workflow))


def test_code_that_never_began() -> None:
    async def workflow(ctx: WorkflowContext) -> None:
        raise AssertionError("not run")

    discard(Instance.load("order-7", [BIRTH], registry_of(workflow)))


def test_a_discarded_instance_can_be_loaded_again() -> None:
    def workflow(ctx: WorkflowContext) -> Flow:
        try:
            yield ctx.call_activity("a")
        except GeneratorExit:
            ctx.call_activity("cleanup")
        return "ended"

    registry = registry_of(workflow)
    instance = Instance.load("order-7", [BIRTH], registry)
    record = instance.apply([["S", "inc1"]], START_MS, "n0").record()
    instance.discard()
    instance.discard()
    again = Instance.load("order-7", [BIRTH, record], registry)
    turn = again.apply([["C", 0, "n0", None]], START_MS, "n1")

    assert turn.actions == [["K", "ended"]]


def test_an_ended_instance_needs_no_garbage_collector() -> None:
    class Local:
        """Something that only the workflow's frame refers to."""

    alive: list[weakref.ref[Local]] = []

    def workflow(ctx: WorkflowContext) -> Flow:
        local = Local()
        alive.append(weakref.ref(local))
        ctx.call_activity("forgotten")
        yield ctx.call_activity("a", input=str(local))

    gc.disable()
    try:
        instance = running(workflow)
        instance.apply([["C", 1, "n0", None]], START_MS, "n1")
        assert alive[0]() is None
    finally:
        gc.enable()


class TestTheWatchdog:
    """A turn that does not yield is given up, whatever the workflow does about it."""

    def test_its_exception_escapes_from_apply(self) -> None:
        def workflow(ctx: WorkflowContext) -> Flow:
            yield ctx.call_activity("a")
            raise TurnAborted

        instance = running(workflow)

        with pytest.raises(TurnAborted):
            instance.apply([["C", 0, "n0", None]], START_MS, "n1")
        discard(instance)

    @pytest.mark.parametrize("swallow", [Exception, BaseException])
    def test_code_that_swallows_it_does_not_get_through(self, swallow: type[BaseException]) -> None:
        def workflow(ctx: WorkflowContext) -> Flow:
            yield ctx.call_activity("a")
            try:
                instance.abort()
                raise TurnAborted
            except swallow:
                return "swallowed"

        instance = running(workflow)

        with pytest.raises(TurnAborted):
            instance.apply([["C", 0, "n0", None]], START_MS, "n1")
        discard(instance)

    def test_a_busy_loop_is_stopped_from_another_thread(self) -> None:
        import ctypes
        import threading

        def workflow(ctx: WorkflowContext) -> Flow:
            yield ctx.call_activity("a")
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    while time.monotonic() < deadline:
                        pass
                except Exception:
                    continue

        instance = running(workflow)
        me = threading.get_ident()

        def watchdog() -> None:
            instance.abort()
            raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(me), ctypes.py_object(TurnAborted)
            )
            assert raised == 1

        timer = threading.Timer(0.05, watchdog)
        timer.start()
        with pytest.raises(TurnAborted):
            instance.apply([["C", 0, "n0", None]], START_MS, "n1")
        timer.join()
        discard(instance)

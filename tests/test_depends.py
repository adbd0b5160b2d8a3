"""Depends: opened once, shared, closed in reverse order, sync and async alike."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest

from wfq.depends import Dependency, DependencyScope, Depends, dependencies_of
from wfq.errors import ConfigurationError


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def scope(loop: asyncio.AbstractEventLoop) -> Iterator[DependencyScope]:
    scope = DependencyScope(lambda: loop)
    yield scope
    scope.close()


events: list[str] = []


@pytest.fixture(autouse=True)
def _no_events() -> None:
    events.clear()


def plain() -> object:
    events.append("open plain")
    return object()


def generator() -> Iterator[str]:
    events.append("open generator")
    yield "generator"
    events.append("close generator")


@contextlib.contextmanager
def manager() -> Iterator[str]:
    events.append("open manager")
    yield "manager"
    events.append("close manager")


async def coroutine() -> str:
    await asyncio.sleep(0)
    return "coroutine"


async def async_generator() -> AsyncIterator[str]:
    # A task group may only be left by the task that has entered it.
    async with asyncio.timeout(60):
        events.append("open async")
        yield "async generator"
        events.append("close async")


@contextlib.asynccontextmanager
async def async_manager() -> AsyncIterator[str]:
    yield "async manager"


def nested(inner: str = Depends(generator)) -> Iterator[str]:
    yield f"nested {inner}"
    events.append("close nested")


@pytest.mark.parametrize(
    ("provider", "value"),
    [
        (generator, "generator"),
        (manager, "manager"),
        (coroutine, "coroutine"),
        (async_generator, "async generator"),
        (async_manager, "async manager"),
        (nested, "nested generator"),
    ],
)
def test_providers_of_every_kind_give_their_value(
    scope: DependencyScope, provider: Any, value: str
) -> None:
    assert scope.get(Dependency(provider)) == value
    scope.close()


def test_a_dependency_is_opened_once_and_shared(scope: DependencyScope) -> None:
    first = scope.get(Dependency(plain))
    threads = [threading.Thread(target=scope.get, args=(Dependency(plain),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert scope.get(Dependency(plain)) is first
    assert events == ["open plain"]


def test_dependencies_are_closed_in_reverse_order(scope: DependencyScope) -> None:
    for provider in (async_generator, nested, manager):
        scope.get(Dependency(provider))
    events.clear()

    scope.close()
    scope.close()

    assert events == ["close manager", "close nested", "close generator", "close async"]
    with pytest.raises(RuntimeError, match="closed"):
        scope.get(Dependency(manager))


def test_a_lock_that_a_function_returns_is_not_entered(scope: DependencyScope) -> None:
    lock = scope.get(Dependency(threading.Lock))

    assert not lock.locked()


def test_a_provider_that_fails_is_tried_again(scope: DependencyScope) -> None:
    attempts = []

    def flaky() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("no database")
        return "open"

    async def flaky_async() -> AsyncIterator[str]:
        yield flaky()

    for provider in (flaky, flaky_async):
        attempts.clear()
        with pytest.raises(ConnectionError):
            scope.get(Dependency(provider))
        assert scope.get(Dependency(provider)) == "open"


def test_what_fails_to_close_does_not_keep_the_rest_open(
    scope: DependencyScope, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("cannot close")

    async def broken_async() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("cannot close")

    for provider in (generator, broken, broken_async):
        scope.get(Dependency(provider))

    with caplog.at_level(logging.ERROR):
        scope.close()

    assert events[-1] == "close generator"
    # Threads of other tests may log as well.
    assert [record.name for record in caplog.records].count("wfq.depends") == 2


def test_a_cycle_is_named(scope: DependencyScope) -> None:
    def first(value: Any = None) -> int:
        return 1

    def second(value: Any = Depends(first)) -> int:  # noqa: B008  # a marker
        return 2

    first.__defaults__ = (Depends(second),)

    with pytest.raises(ConfigurationError, match=r"first -> .*second -> .*first"):
        scope.get(Dependency(first))


def test_parameters_are_found_by_default_and_by_annotation() -> None:
    def activity(
        ctx: Any,
        value: int,
        one: str = Depends(generator),
        two: Annotated[str, Depends(manager)] = "",
    ) -> None: ...

    assert dependencies_of(activity) == {"one": Dependency(generator), "two": Dependency(manager)}


def test_only_functions_can_be_depended_on() -> None:
    with pytest.raises(ConfigurationError, match="Depends"):
        Depends("db")  # type: ignore[call-overload]  # what a test of misuse is about


def test_a_value_has_its_providers_type() -> None:
    text: str = Depends(generator)
    more: str = Depends(async_manager)
    number: int = Depends(len)

    assert [text, more, number] == [Dependency(p) for p in (generator, async_manager, len)]

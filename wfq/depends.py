"""`Depends`: values that activities share, opened once per worker and closed when it drains.

::

    def open_db() -> Iterator[Db]:
        db = Db.connect()
        yield db
        db.close()

    @wfr.activity
    def charge(ctx, order: Order, db: Db = Depends(open_db)) -> Receipt: ...

A provider is a function, a generator that yields once, or a function decorated with
`contextmanager`; or the async form of one of these. It may itself have parameters with
`Depends`. It is opened at its first use in a worker process and closed, in reverse order,
after the worker's last activity. What a plain function returns is passed as it is, also when
it could be entered: locks can.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from concurrent.futures import Future
from contextlib import (
    AbstractAsyncContextManager,
    _AsyncGeneratorContextManager,
    _GeneratorContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from wfq.errors import ConfigurationError

T = TypeVar("T")
Provider = Callable[..., Any]

log = logging.getLogger("wfq.depends")

#: Seconds that the closing of one dependency may take; a worker that drains must end.
CLOSE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Dependency:
    """The marker that `Depends` puts into a signature; equal when the provider is the same."""

    provider: Provider


@overload
def Depends(provider: Callable[..., Generator[T, Any, Any]]) -> T: ...
@overload
def Depends(provider: Callable[..., AsyncGenerator[T, Any]]) -> T: ...
@overload
def Depends(provider: Callable[..., _GeneratorContextManager[T]]) -> T: ...
@overload
def Depends(provider: Callable[..., _AsyncGeneratorContextManager[T]]) -> T: ...
@overload
def Depends(provider: Callable[..., Iterator[T]]) -> T: ...
@overload
def Depends(provider: Callable[..., AsyncIterator[T]]) -> T: ...
@overload
def Depends(provider: Callable[..., Awaitable[T]]) -> T: ...
@overload
def Depends(provider: Callable[..., T]) -> T: ...
def Depends(provider: Provider) -> Any:  # noqa: N802  # a marker, spelt as in FastAPI
    """Mark a parameter of an activity: the worker passes what `provider` opened.

    Typed as the value itself, so that ``db: Db = Depends(open_db)`` type-checks.
    """
    if not callable(provider):
        raise ConfigurationError(f"Depends() takes a function that opens a value, not {provider!r}")
    return Dependency(provider)


def dependencies_of(function: Callable[..., Any]) -> dict[str, Dependency]:
    """Return the parameters of `function` that a worker fills, by name.

    Both ``db: Db = Depends(open_db)`` and ``db: Annotated[Db, Depends(open_db)]`` count.
    """
    found: dict[str, Dependency] = {}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return found  # a built-in without a signature asks for nothing
    for name, parameter in parameters.items():
        if isinstance(parameter.default, Dependency):
            found[name] = parameter.default
    found.update(_annotated(function))
    return found


def _annotated(function: Callable[..., Any]) -> dict[str, Dependency]:
    """Return the dependencies written as ``Annotated[...]`` metadata."""
    if not any("Annotated" in str(a) for a in getattr(function, "__annotations__", {}).values()):
        return {}
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}  # annotations that cannot be resolved are the registry's to report
    return {
        name: mark
        for name, hint in hints.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, Dependency)
    }


class DependencyScope:
    """The dependencies that one worker process has open.

    `get_loop` returns the event loop, running in another thread, that async providers live
    on; it is asked for only when there is one.
    """

    def __init__(self, get_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._get_loop = get_loop
        self._values: dict[Dependency, Any] = {}
        self._closers: list[tuple[str, Callable[[], None]]] = []
        # One lock for all: a provider may wait for others that it depends on, never twice.
        self._lock = threading.RLock()
        self._opening: list[Dependency] = []
        self._closed = False

    def opened(self, dependency: Dependency) -> bool:
        """Tell whether `get` would return at once."""
        return dependency in self._values

    def get(self, dependency: Dependency) -> Any:
        """Return the value of `dependency`, opening it first if need be.

        Never call it on the event loop's own thread unless `opened`. Raises: what the
        provider raises (the next call tries again); ConfigurationError for a cycle;
        RuntimeError once the scope is closed.
        """
        try:
            return self._values[dependency]
        except KeyError:
            pass
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker has closed its dependencies")
            if dependency not in self._values:
                self._values[dependency] = self._open(dependency)
            return self._values[dependency]

    def close(self) -> None:
        """Close everything in reverse order of opening; errors are logged, not raised."""
        with self._lock:
            self._closed = True
            closers = self._closers[::-1]
            self._closers.clear()
            self._values.clear()
        for name, closer in closers:
            try:
                closer()
            except Exception:
                log.exception("closing dependency %s failed", name)

    def _open(self, dependency: Dependency) -> Any:
        if dependency in self._opening:
            names = " -> ".join(_name(d.provider) for d in [*self._opening, dependency])
            raise ConfigurationError(f"dependencies form a cycle: {names}")
        self._opening.append(dependency)
        try:
            provider = dependency.provider
            arguments = {name: self.get(d) for name, d in dependencies_of(provider).items()}
            return self._enter(_name(provider), _as_context(provider), arguments)
        finally:
            self._opening.pop()

    def _enter(self, name: str, provider: Provider, arguments: dict[str, Any]) -> Any:
        opened = provider(**arguments)
        if inspect.isawaitable(opened):
            opened = self._await(_awaited(opened))
        if isinstance(opened, _GeneratorContextManager):
            value = opened.__enter__()
            self._closers.append((name, lambda: _ignore(opened.__exit__(None, None, None))))
            return value
        if isinstance(opened, _AsyncGeneratorContextManager):
            return self._hold(name, opened)
        return opened

    def _await(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._get_loop()).result()

    def _hold(self, name: str, manager: AbstractAsyncContextManager[Any]) -> Any:
        """Enter and later leave `manager` within one task of the event loop.

        Task groups and cancel scopes refuse to be left by another task than they were
        entered by.
        """
        loop = self._get_loop()
        value: Future[Any] = Future()
        leave = asyncio.Event()
        ended = asyncio.run_coroutine_threadsafe(_held(manager, value, leave), loop)

        def close() -> None:
            loop.call_soon_threadsafe(leave.set)
            ended.result(CLOSE_TIMEOUT_S)

        result = value.result()
        self._closers.append((name, close))
        return result


async def _held(
    manager: AbstractAsyncContextManager[Any], value: Future[Any], leave: asyncio.Event
) -> None:
    try:
        async with manager as entered:
            value.set_result(entered)
            await leave.wait()
    except BaseException as exc:
        if value.done():
            raise
        value.set_exception(exc)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _as_context(provider: Provider) -> Provider:
    """Return `provider`, made a factory of context managers if it is a generator."""
    if inspect.isasyncgenfunction(provider):
        return asynccontextmanager(provider)
    if inspect.isgeneratorfunction(provider):
        return contextmanager(provider)
    return provider


def _name(provider: Provider) -> str:
    return getattr(provider, "__qualname__", None) or repr(provider)


def _ignore(_: object) -> None:
    """Drop a value where a lambda has to return None."""

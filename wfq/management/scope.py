"""Where a client or runtime works: the server, the namespace, the application."""

from __future__ import annotations

from dataclasses import dataclass, field

from wfq.codec import Codec, PayloadCodec
from wfq.encryption import AesGcmCodec, parse_keys
from wfq.errors import ConfigurationError
from wfq.settings import Settings, load_settings
from wfq.storage.embedded import ResolvedUrl, resolve_url
from wfq.storage.keys import Namespace
from wfq.urls import SCHEMES


@dataclass(frozen=True, slots=True)
class Scope:
    """What operations need to know; `app_id` is the queue of what is started."""

    namespace: Namespace
    app_id: str
    codec: Codec
    #: External events that an instance may hold undelivered.
    inbox_events: int
    #: Queues that this client has entered in the register of queues.
    told_queues: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to, not connected yet. Made by `find_target`."""

    settings: Settings
    codec: Codec

    def open(self) -> ResolvedUrl:
        """The server's URL; starts the embedded server where no URL is set.

        Raises: ConfigurationError, StorageUnavailable.
        """
        return resolve_url(self.settings)

    def scope(self, namespace: Namespace) -> Scope:
        """The scope within a namespace that was opened."""
        limits = self.settings.limits
        return Scope(namespace, self.settings.app_id, self.codec, limits.inbox_events)


def find_target(
    *,
    host: object = None,
    redis_url: str | None = None,
    namespace: str | None = None,
    app_id: str | None = None,
    settings: Settings | None = None,
    payload_codec: PayloadCodec | None = None,
) -> Target:
    """Return the target of a client or runtime; what is not given comes from the settings.

    `settings` stands for all three of URL, namespace and application, and is not loaded again.
    Without a `payload_codec`, the setting `encryption_keys` makes one.
    `host` is Dapr's, and ignored, unless it is a Redis URL: then that was meant.
    Raises: ConfigurationError.
    """
    if isinstance(host, str) and host.partition("://")[0].lower() in SCHEMES:
        if redis_url is not None:
            raise ConfigurationError("a Redis URL was given twice; give redis_url alone")
        redis_url = host
    if settings is None:
        settings = load_settings(redis_url=redis_url, namespace=namespace, app_id=app_id)
    elif not redis_url is namespace is app_id is None:
        raise ConfigurationError("give either settings, or redis_url, namespace and app_id")
    transform = payload_codec or _configured_codec(settings)
    codec = Codec(max_bytes=int(settings.limits.payload_bytes), transform=transform)
    return Target(settings, codec)


def _configured_codec(settings: Settings) -> PayloadCodec | None:
    """The codec that `encryption_keys` ask for. Raises: ConfigurationError."""
    if settings.encryption_keys is None:
        return None
    return AesGcmCodec(parse_keys(settings.encryption_keys.get_secret_value()))

"""Opening clients: what a URL names, and redis-py clients for it without hidden retries.

``redis+sentinel://`` names a group: each new connection asks the sentinels who its master is,
so whoever reconnects after a failover finds the promoted one. ``redis+cluster://`` names
several masters: `wfq.storage.cluster` knows which holds a key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlencode

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from wfq.errors import ConfigurationError
from wfq.urls import Address, check_redis_url, group_addresses, is_sentinel, split_group

T = TypeVar("T")

#: Seconds a command may take. Blocking reads have connections of their own, with more.
COMMAND_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
#: Seconds a sentinel may take to answer, before the next one is asked.
SENTINEL_TIMEOUT_S = 1.0


def is_memory(url: str) -> bool:
    """Whether the URL names the in-process store that keeps nothing."""
    return url.startswith("memory:")


def shown(url: str) -> str:
    """The server of a URL for messages: no user, password or query."""
    if is_memory(url):
        return url
    authority, parts = split_group(url)
    if parts.scheme == "unix":
        return f"Redis at unix://{parts.path}"
    host = authority.rpartition("@")[2]
    return f"Redis at {parts.scheme}://{host}{parts.path}"


@dataclass(frozen=True, slots=True)
class Group:
    """What a sentinel or cluster URL says: addresses, service name, and how to connect."""

    addresses: list[Address]
    service: str = ""
    #: How to connect to the servers themselves; for redis-py.
    options: dict[str, Any] = field(default_factory=dict)
    #: The same for sentinels.
    sentinel_options: dict[str, Any] = field(default_factory=dict)
    tls: bool = False


def parse_group(url: str) -> Group:
    """Take a sentinel or cluster URL apart. Raises: ValueError."""
    authority, parts = split_group(url)
    kind = parts.scheme.lower()
    tls = kind.startswith(("rediss+", "valkeys+"))
    userinfo = authority.rpartition("@")[0]
    addresses = group_addresses(check_redis_url(url))
    words = [unquote(word) for word in parts.path.split("/") if word]
    service = words.pop(0) if is_sentinel(url) else ""
    query = dict(parse_qsl(parts.query))
    own = {name: query.pop(name) for name in list(query) if name.startswith("sentinel_")}
    query["db"] = words[0] if words else query.get("db", "0")
    plain = f"{'rediss' if tls else 'redis'}://{userinfo}{'@' if userinfo else ''}host"
    options = dict(parse_url(f"{plain}?{urlencode(query)}"))
    for name in ("host", "connection_class"):
        options.pop(name, None)
    about_sentinels = {name.removeprefix("sentinel_"): value for name, value in own.items()}
    return Group(addresses, service, options, about_sentinels, tls)


_memory_servers: dict[str, Any] = {}
_memory_lock = threading.Lock()


def _memory_server(url: str) -> Any:
    """The fakeredis server behind a memory URL; one per URL and process."""
    import fakeredis

    with _memory_lock:
        if url not in _memory_servers:
            _memory_servers[url] = fakeredis.FakeServer()
        return _memory_servers[url]


def _options(timeout_s: float | None) -> dict[str, Any]:
    return {
        "decode_responses": False,
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
    }


def open_client(url: str, *, timeout_s: float | None = COMMAND_TIMEOUT_S) -> redis.Redis:
    """A redis-py client without hidden retries, of one server or a sentinel group's master.

    Raises: ConfigurationError on a bad URL.
    """
    return _opened(url, lambda: _client(url, Retry(NoBackoff(), 0), timeout_s))


def _client(url: str, retry: Retry, timeout_s: float | None) -> redis.Redis:
    if is_memory(url):
        import fakeredis

        return cast(redis.Redis, fakeredis.FakeRedis(server=_memory_server(url), protocol=2))
    if is_sentinel(url):
        group = parse_group(url)
        given: dict[str, Any] = {**_options(timeout_s), **group.options, "retry": retry}
        sentinel = redis.sentinel.Sentinel(
            group.addresses, sentinel_kwargs=_for_sentinels(group, Retry(NoBackoff(), 0))
        )
        return cast(redis.Redis, sentinel.master_for(group.service, ssl=group.tls, **given))
    return redis.Redis.from_url(_usual(url), retry=retry, **_options(timeout_s))


def open_async_client(url: str) -> redis.asyncio.Redis:
    """The asyncio twin of `open_client`."""
    return _opened(url, lambda: _async_client(url))


def _async_client(url: str) -> redis.asyncio.Redis:
    from redis.asyncio.retry import Retry as AsyncRetry

    retry = AsyncRetry(NoBackoff(), 0)
    if is_memory(url):
        import fakeredis

        return cast(
            redis.asyncio.Redis,
            fakeredis.FakeAsyncRedis(server=_memory_server(url), protocol=2),
        )
    if is_sentinel(url):
        group = parse_group(url)
        given: dict[str, Any] = {**_options(COMMAND_TIMEOUT_S), **group.options, "retry": retry}
        sentinel: Any = redis.asyncio.sentinel.Sentinel(
            group.addresses, sentinel_kwargs=_for_sentinels(group, AsyncRetry(NoBackoff(), 0))
        )
        client = sentinel.master_for(group.service, ssl=group.tls, **given)
        return cast(redis.asyncio.Redis, client)
    return redis.asyncio.Redis.from_url(_usual(url), retry=retry, **_options(COMMAND_TIMEOUT_S))


def open_node(group: Group, address: Address, *, timeout_s: float | None) -> redis.Redis:
    """A client of one node of a cluster, connected as the URL says."""
    host, port = address
    pool = redis.ConnectionPool(
        connection_class=redis.SSLConnection if group.tls else redis.Connection,
        **{**_options(timeout_s), **group.options},
        retry=Retry(NoBackoff(), 0), host=host, port=port,
    )  # fmt: skip
    return redis.Redis.from_pool(pool)


def open_async_node(group: Group, address: Address) -> redis.asyncio.Redis:
    """The asyncio twin of `open_node`."""
    from redis.asyncio.retry import Retry as AsyncRetry

    host, port = address
    kind: Any = redis.asyncio.SSLConnection if group.tls else redis.asyncio.Connection
    pool = redis.asyncio.ConnectionPool(
        connection_class=kind,
        **{**_options(COMMAND_TIMEOUT_S), **group.options},
        retry=AsyncRetry(NoBackoff(), 0), host=host, port=port,
    )  # fmt: skip
    return redis.asyncio.Redis.from_pool(pool)


def sentinels_of(client: redis.Redis | redis.asyncio.Redis) -> list[Any]:
    """The clients of the sentinels that a group's client asks; to be closed with it."""
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    return list(manager.sentinels) if manager is not None else []


def group_of(url: str) -> Group:
    """What a cluster URL says. Raises: ConfigurationError."""
    return _opened(url, lambda: parse_group(url))


def _for_sentinels(group: Group, retry: Any) -> dict[str, Any]:
    tls = {name: value for name, value in group.options.items() if name.startswith("ssl_")}
    return {
        **_options(SENTINEL_TIMEOUT_S),
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "retry": retry,
        **({"ssl": True, **tls} if group.tls else {}),
        **group.sentinel_options,
    }


def _usual(url: str) -> str:
    """The URL with the scheme that redis-py knows."""
    scheme, separator, rest = url.partition("://")
    name = {"valkey": "redis", "valkeys": "rediss"}.get(scheme.lower(), scheme)
    return f"{name}{separator}{rest}"


def _opened(url: str, opener: Callable[[], T]) -> T:
    try:
        return opener()
    except ValueError as exc:
        raise ConfigurationError(
            f"the Redis URL {shown(url)!r} is not usable: {exc}; "
            "use redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        ) from exc

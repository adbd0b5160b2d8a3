"""Redis URLs: which are understood, and how they are shown without their secrets."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "memory")
#: The same with TLS, and under Valkey's name.
ALSO = (
    "rediss+sentinel", "rediss+cluster", "valkey", "valkeys", "valkey+sentinel",
    "valkeys+sentinel", "valkey+cluster", "valkeys+cluster",
)  # fmt: skip

#: What a query may say of the connections, beside all that begins with ``ssl_``; the same with
#: ``sentinel_`` before it. Whatever else redis-py knows, wfq decides itself.
OPTIONS = (
    "client_name", "db", "health_check_interval", "max_connections", "password",
    "socket_connect_timeout", "socket_keepalive", "socket_read_size", "socket_timeout", "username",
)  # fmt: skip

SENTINEL_PORT = 26379
REDIS_PORT = 6379

#: Host and port.
Address = tuple[str, int]

#: ``scheme://user:`` then the password, up to the last @ before a space or quote.
_USERINFO = re.compile(
    r"""(?P<head>\b[a-z][a-z0-9+.\-]*://[^\s:@/?'"]*:)[^\s?'"]*@""", re.IGNORECASE
)
_QUERY = re.compile(r"""(?P<head>[?&][a-z_]*(?:password|secret|token)=)[^&#\s'"]*""", re.IGNORECASE)

#: What stands between the scheme and the path: user and password, hosts.
_AUTHORITY = re.compile(r"^([a-z][a-z0-9+.\-]*)://([^/?#]*)", re.IGNORECASE)

MASK = "***"


def split_group(url: str) -> tuple[str, SplitResult]:
    """Return what stands before the path, ``user:password@host:port,...``, and the parts.

    The parts name no host: Python's parser refuses several in brackets, in some releases.
    """
    found = _AUTHORITY.match(url)
    if found is None:
        return "", urlsplit(url)
    return found[2], urlsplit(f"{found[1]}://{url[found.end() :]}")


def mask_url(text: str) -> str:
    """Return `text` with the passwords of the URLs in it replaced by ``***``.

    Takes a URL or any text that holds some, such as the message of an exception.
    """
    masked = _USERINFO.sub(rf"\g<head>{MASK}@", text)
    return _QUERY.sub(rf"\g<head>{MASK}", masked)


def check_redis_url(url: str) -> str:
    """Return `url` without surrounding space.

    Raises: ValueError, in one line and without the password, when it is no URL that wfq opens.
    """
    url = url.strip()
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES + ALSO:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ValueError(f"{mask_url(url)!r} is not a Redis URL; it begins with one of {known}")
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise ValueError(f"{mask_url(url)!r} holds a space or control character")
    if scheme.lower() != "memory":
        _check_options(url)
    if is_sentinel(url) or is_cluster(url):
        _check_group(url)
        return url
    if scheme.lower() in ("redis", "rediss", "valkey", "valkeys"):
        _check_address(url)
    elif scheme.lower() == "unix" and not urlsplit(url).path.strip("/"):
        raise ValueError(f"{mask_url(url)!r} names no socket; write unix:///path/to/socket")
    return url


def is_sentinel(url: str) -> bool:
    """Whether the URL names a group of servers by its sentinels."""
    return url.partition("://")[0].lower().endswith("+sentinel")


def is_cluster(url: str) -> bool:
    """Whether the URL names a Redis Cluster or Valkey Cluster."""
    return url.partition("://")[0].lower().endswith("+cluster")


def group_addresses(url: str) -> list[Address]:
    """Return what a sentinel or cluster URL names. Raises: ValueError, without the password."""
    usual = SENTINEL_PORT if is_sentinel(url) else REDIS_PORT
    hosts = split_group(url)[0].rpartition("@")[2]
    found: list[Address] = []
    for word in filter(None, hosts.split(",")):
        try:
            parts = urlsplit(f"//{word}")
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise ValueError(f"{mask_url(url)!r}: {word!r} has no valid port") from exc
        if not host or port == 0:
            raise ValueError(f"{mask_url(url)!r}: {word!r} is no host:port")
        found.append((host, port or usual))
    if not found:
        raise ValueError(f"{mask_url(url)!r} names no host")
    return found


def _check_options(url: str) -> None:
    for name, _ in parse_qsl(split_group(url)[1].query, keep_blank_values=True):
        option = name.removeprefix("sentinel_") if is_sentinel(url) else name
        if option not in OPTIONS and not option.startswith("ssl_"):
            known = ", ".join(OPTIONS)
            raise ValueError(
                f"{mask_url(url)!r} names an unknown option {name!r}; known: {known}, ssl_..."
            )


def _check_group(url: str) -> None:
    group_addresses(url)
    _, parts = split_group(url)
    words = [word for word in parts.path.split("/") if word]
    if is_sentinel(url) and not words:
        raise ValueError(
            f"{mask_url(url)!r} names no service; write redis+sentinel://host:26379/mymaster/0"
        )
    rest = words[1:] if is_sentinel(url) else words
    database = "/".join(rest) or dict(parse_qsl(parts.query)).get("db", "0")
    if not database.isdecimal():
        raise ValueError(f"{mask_url(url)!r} names database {database!r}; it is a number")
    if is_cluster(url) and int(database):
        raise ValueError(f"{mask_url(url)!r} names database {database}; a cluster has only 0")


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as exc:
        # Not the parser's own text: it may quote a password with an unescaped character.
        raise ValueError(
            f"{mask_url(url)!r} has no valid port; percent-encode special characters"
        ) from exc
    if not host or port == 0:
        raise ValueError(f"{mask_url(url)!r} names no host; write redis://host:6379/0")
    database = parts.path.strip("/") or dict(parse_qsl(parts.query)).get("db", "0")
    if not database.isdecimal():
        raise ValueError(f"{mask_url(url)!r} names database {database!r}; it is a number")

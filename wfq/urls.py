"""Redis URLs: which are understood, and how they are shown without their secrets."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "memory")

#: ``scheme://user:`` then the password, up to the last @ before a space or quote.
_USERINFO = re.compile(
    r"""(?P<head>\b[a-z][a-z0-9+.\-]*://[^\s:@/?'"]*:)[^\s?'"]*@""", re.IGNORECASE
)
_QUERY = re.compile(r"""(?P<head>[?&][a-z_]*(?:password|secret|token)=)[^&#\s'"]*""", re.IGNORECASE)

MASK = "***"


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
    if not separator or scheme.lower() not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ValueError(f"{mask_url(url)!r} is not a Redis URL; it begins with one of {known}")
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise ValueError(f"{mask_url(url)!r} holds a space or control character")
    parts = urlsplit(url)
    if scheme.lower() == "unix" and not parts.path.strip("/"):
        raise ValueError(f"{mask_url(url)!r} names no socket; write unix:///path/to/socket")
    if scheme.lower() in ("redis", "rediss"):
        _check_address(url)
    return url


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    try:
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

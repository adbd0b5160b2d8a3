"""Who may call: bearer tokens with roles, and the Host, Origin and Sec-Fetch-Site checks.

Without a token the API answers on loopback alone, to every local program. A browser is a local
program too, and runs the pages of strangers; two checks keep those out, before any body is read:

- `Host` names this server. A page that points its own name at 127.0.0.1 (DNS rebinding) sends
  that name. An IP address cannot be re-pointed, so any address will do.
- A request with effects comes from no other site. Browsers say so in `Sec-Fetch-Site`, older ones
  in `Origin`; programs such as curl send neither. Content types cannot tell the two apart:
  ``curl -d`` sends the type that a browser sends across sites without asking.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256
from ipaddress import ip_address
from typing import Literal

from starlette.datastructures import Headers

from wfq.errors import ConfigurationError
from wfq.settings import Settings
from wfq_server.errors import ApiError

Role = Literal["read", "operate", "admin"]

_RANK: Mapping[Role, int] = {"read": 1, "operate": 2, "admin": 3}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Names that mean this machine, whoever resolves them.
_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain"})


class Tokens:
    """The tokens that open the API; none means that everybody is admin."""

    def __init__(self, tokens: Iterable[tuple[str, Role]]) -> None:
        # Digests have one length: comparing them tells nothing about the tokens'.
        self._known = [(sha256(token.encode()).digest(), role) for token, role in tokens]

    @classmethod
    def of(cls, settings: Settings) -> Tokens:
        """The tokens of the settings."""
        return cls((t.token.get_secret_value(), t.role) for t in settings.tokens)

    def __bool__(self) -> bool:
        return bool(self._known)

    def role(self, token: str) -> Role | None:
        """Return what the bearer of `token` may do, in a time that does not depend on it."""
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()
        found: Role | None = None
        for known, role in self._known:
            if hmac.compare_digest(known, digest):
                found = role
        return found

    def session_of(self, token: str) -> str | None:
        """Return what a browser may keep in the place of a token; None for an unknown token.

        It cannot be turned back into the token, and is void once the token is taken away.
        """
        return None if self.role(token) is None else _session(sha256(token.encode()).digest())

    def role_of_session(self, session: str) -> Role | None:
        """Return what the bearer of `session_of` may do."""
        found: Role | None = None
        given = session.encode("utf-8", "surrogateescape")
        for known, role in self._known:
            if hmac.compare_digest(_session(known).encode(), given):
                found = role
        return found

    def check(self, headers: Headers, needed: Role) -> None:
        """Raise ApiError 401 or 403 unless the request may do what needs `needed`."""
        if not self._known:
            return
        role = self.role(_sent_token(headers))
        if role is None:
            message = "a valid token is needed; send it as Authorization: Bearer <token>"
            raise ApiError(401, "ERR_UNAUTHORIZED", message, {"WWW-Authenticate": "Bearer"})
        if not allows(role, needed):
            raise ApiError(403, "ERR_PERMISSION_DENIED", "this token may not do that")


def allows(role: Role, needed: Role) -> bool:
    """Whether a role is enough."""
    return _RANK[role] >= _RANK[needed]


def _session(digest: bytes) -> str:
    return sha256(b"wfq dashboard " + digest).hexdigest()


def _sent_token(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    # What Dapr's own clients send.
    return headers.get("dapr-api-token", "")


class Doorkeeper:
    """Checks where a request says it goes to and comes from.

    `hosts` are further names of this server; None takes every Host (an outer application that
    mounts the API decides on that), and ``*`` among them does so as well.
    """

    def __init__(self, hosts: Iterable[str] | None) -> None:
        names = frozenset(("*",) if hosts is None else (host.lower().strip() for host in hosts))
        self._any = "*" in names
        self._hosts = _LOOPBACK_NAMES | names

    def check(self, method: str, headers: Headers) -> None:
        """Raise ApiError 403 for a foreign Host, or an effect that another site asks for."""
        host = headers.get("host", "")
        if not self._any and not self._is_ours(host):
            message = (
                f"host {host[:100]!r} is not served here; "
                "add the name to WFQ_API_ALLOWED_HOSTS if it should be"
            )
            raise ApiError(403, "ERR_HOST_NOT_ALLOWED", message)
        if method not in _SAFE_METHODS and _is_cross_site(headers, host):
            message = "a page of another site may not do that"
            raise ApiError(403, "ERR_CROSS_SITE_REQUEST", message)

    def _is_ours(self, host: str) -> bool:
        # A request without Host is HTTP/1.0: no browser sends it.
        if not host:
            return True
        name = host_name(host)
        return host.lower() in self._hosts or name in self._hosts or is_address(name)


def _is_cross_site(headers: Headers, host: str) -> bool:
    # Another port of this machine is the same site for a browser, and another origin: "same-site"
    # is as foreign as "cross-site". "none" is a person who typed the address.
    fetch_site = headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    origin = headers.get("origin")
    # Schemes are not compared: behind a proxy that ends TLS they differ.
    return origin is not None and origin.partition("://")[2].lower() != host.lower()


def host_name(host: str) -> str:
    """Return a Host header without its port, lower case, brackets off."""
    name = host.lower().strip()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def is_address(name: str) -> bool:
    """Whether `name` is an IP address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a bind to `host` can be reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() in _LOOPBACK_NAMES


def check_bind(settings: Settings) -> None:
    """Raise ConfigurationError for a bind beyond loopback without a token."""
    if not is_loopback(settings.api_host) and not settings.tokens:
        raise ConfigurationError(
            f"the API at {settings.api_host} can be reached from other machines and has no token; "
            "set WFQ_API_TOKEN, or bind 127.0.0.1"
        )

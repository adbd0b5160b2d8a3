"""What a server's refusals and lost connections mean, as wfq's errors."""

from __future__ import annotations

import re

import redis

from wfq.errors import StorageError, StorageFull, StorageUnavailable

_TRANSIENT = re.compile(
    r"\b(LOADING|BUSY|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|UNBLOCKED|NOGROUP|MOVED|ASK)\b"
)
#: A command inside a script met a slot that is being moved away: it will be whole again.
_MOVING = re.compile(r"attempted to access a non local key in a cluster node")
#: How redis-py names each sentinel before what that one has said.
_SENTINEL = re.compile(r"<redis\.\S*client\.Redis\(.*?\bhost=([^,]*),port=(\d+).*?\)> - ")
_FULL = re.compile(r"\b(OOM|MISCONF)\b")
_DENIED = re.compile(
    r"\b(NOPERM|NOAUTH|WRONGPASS|ACL failure in script)\b|user executing the script can't"
)
#: redis-py cuts the error code off the text of the errors it has a class for.
_CODES: dict[type[Exception], str] = {
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.AskError: "ASK",
    redis.exceptions.MovedError: "MOVED",
}


def translate(error: Exception, server: str) -> StorageError:
    """The wfq error for what redis-py raised; by text, since classes differ by server version."""
    text = " ".join([_CODES.get(type(error), ""), *str(error).split()]).strip()
    text = _SENTINEL.sub(r"\1:\2 ", text)[:300].rstrip(".")
    if _DENIED.search(text) or isinstance(error, redis.AuthenticationError):
        return StorageError(f"{server} refused access: {text}; check user, password and ACL")
    if _FULL.search(text):
        return StorageFull(f"{server} is full: {text}; free memory or disk")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)):
        return StorageUnavailable(f"cannot reach {server}: {text}; is it running?")
    if re.search(r"\bMOVED\b", text):
        text += "; a node of a cluster is meant by redis+cluster://"
    if _TRANSIENT.search(text) or _MOVING.search(text):
        return StorageUnavailable(f"{server} cannot answer now: {text}")
    return StorageError(f"{server} refused a command: {text}")


def is_missing_script(error: object) -> bool:
    """Whether the server does not (or no longer) know the script of an EVALSHA."""
    if not isinstance(error, Exception):
        return False
    return isinstance(error, redis.exceptions.NoScriptError) or str(error).startswith("NOSCRIPT")

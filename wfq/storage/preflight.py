"""A look at the server before work begins: what it lets us do, and whether it keeps its data.

`COMMANDS` are all that wfq needs; `acl_rule` gives them to a user who can touch nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from wfq.errors import ConfigurationError, StorageError
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.opening import is_memory

log = logging.getLogger("wfq.storage")

#: Every command that wfq sends, or that its scripts execute.
COMMANDS = (
    "del", "eval", "evalsha", "exists", "get", "hdel", "hexists", "hget", "hgetall", "hincrby",
    "hkeys", "hmget", "hset", "hsetnx", "incr", "incrby", "lindex", "llen", "lrange", "ltrim",
    "mget", "ping", "pttl", "publish", "rpush", "sadd", "script|load",
    "set", "smembers", "subscribe", "time", "unlink", "unsubscribe", "xack", "xadd", "xautoclaim",
    "xclaim", "xdel", "xgroup|create", "xgroup|createconsumer", "xgroup|delconsumer",
    "xgroup|destroy", "xinfo|consumers", "xinfo|groups", "xlen", "xpending", "xrange",
    "xreadgroup", "xrevrange", "xtrim", "zadd", "zcard", "zcount", "zrange", "zrangebyscore",
    "zrank", "zrem", "zremrangebyscore", "zrevrangebyscore", "zscore",
)  # fmt: skip
#: What only `weaknesses`, listeners to patterns, ``wfq doctor --deep``, and on a cluster everybody
#: (the slots) and schedulers, use.
OPTIONAL = ("cluster|slots", "info", "psubscribe", "punsubscribe", "scan", "type")

#: Asks the server itself, so that nothing is written and nothing half done.
_CHECK = """
local missing = {}
for _, name in ipairs(ARGV) do
  local bar = string.find(name, '|', 1, true)
  local command = bar and {string.sub(name, 1, bar - 1), string.sub(name, bar + 1)} or {name}
  if name == 'publish' or name == 'subscribe' then
    command[2] = KEYS[1]
  elseif name == 'eval' or name == 'evalsha' then
    command[2], command[3], command[4] = 'return 1', '1', KEYS[1]
  elseif name == 'xreadgroup' then
    command = {name, 'GROUP', 'g', 'c', 'STREAMS', KEYS[1], '>'}
  else
    for n = #command + 1, 6 do command[n] = KEYS[1] end
  end
  if not redis.acl_check_cmd(unpack(command)) then missing[#missing + 1] = name end
end
return missing
"""


def acl_rule(namespace: str = "*") -> str:
    """The rule of ``ACL SETUSER`` for a user of one namespace, or of all of them."""
    keys = "~wfq:*" if namespace == "*" else f"~wfq:{{{namespace}}}:* ~wfq:{{{namespace}:*"
    channels = keys.replace("~", "&")
    granted = " ".join(f"+{command}" for command in (*COMMANDS, *OPTIONAL))
    return f"resetkeys {keys} resetchannels {channels} -@all {granted}"


def look(link: SyncLink, namespace: Namespace) -> None:
    """Look before workers start; warn of what may lose data.

    Raises: ConfigurationError where work cannot be done; StorageError.
    """
    check_permissions(link, namespace)
    for weakness in weaknesses(link, namespace):
        log.warning("%s", weakness)


def check_permissions(link: SyncLink, namespace: Namespace) -> None:
    """Find out whether this user may do all that wfq needs; writes nothing.

    Raises: ConfigurationError, which names what is missing; StorageError.
    """
    if is_memory(link.url):
        return
    channel = f"{namespace.prefix(0)}changes"
    try:
        missing = [item.decode() for item in link.command("EVAL", _CHECK, 1, channel, *COMMANDS)]
    except StorageError as exc:
        if "acl_check_cmd" in str(exc):
            return  # a server that cannot be asked will refuse at the first command
        if "NOPERM" in str(exc) or "permission" in str(exc):
            raise ConfigurationError(
                f"this Redis user lacks a permission that wfq needs: {exc}; "
                "docs/reliability.md has the ACL rule"
            ) from None
        raise
    if missing:
        shown = ", ".join(missing[:8]) + (" ..." if len(missing) > 8 else "")
        what = "key or channel" if len(missing) > len(COMMANDS) // 2 else "command"
        raise ConfigurationError(
            f"this Redis user lacks {len(missing)} permissions that wfq needs on "
            f"{namespace.prefix(0)}*, by {what}: {shown}; docs/reliability.md has the ACL rule"
        )


def weaknesses(link: SyncLink, namespace: Namespace) -> Iterator[str]:
    """Say in one line each how this server (of a cluster, one node) may lose what it was given.

    Nothing is said where INFO is refused. Raises: ConfigurationError for a replica, which takes
    no writes; StorageError.
    """
    if is_memory(link.url):
        return
    try:
        info = _info(link, namespace)
    except StorageError:
        return
    if info.get("role") == "slave":
        raise ConfigurationError(
            "this Redis is a replica and takes no writes; give the URL of its master"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"maxmemory-policy is {policy}: this server throws workflows away when its memory "
            "is short; set it to noeviction"
        )
    if info.get("aof_enabled") == "0":
        yield (
            "appendonly is no: what was acknowledged since the last snapshot is lost when this "
            "server ends; set it to yes"
        )


def _info(link: SyncLink, namespace: Namespace) -> dict[str, str]:
    found: dict[str, str] = {}
    for section in ("memory", "persistence", "replication"):
        found |= info_of(link, namespace.meta, section)
    return found


def info_of(link: SyncLink, key: str, section: str) -> dict[str, str]:
    """What INFO tells of the server that holds a key. Raises: StorageError."""
    reply: Any = link.beside(key, "INFO", section)
    if isinstance(reply, dict):  # redis-py has read it already
        return {str(name): str(value) for name, value in reply.items()}
    lines = reply.decode().splitlines()
    return {name: value for name, _, value in (line.partition(":") for line in lines)}

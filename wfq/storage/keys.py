"""Every Redis key of wfq: its name, type and lifetime.

=====================================  ==========  ============================================
key                                    type        holds, and until when
=====================================  ==========  ============================================
``wfq:{ns}:meta``                      hash        schema version, partitions, epoch; for ever
``wfq:{ns}:queues``                    set         queues that were ever used; for ever
``wfq:{ns}:workers``                   sorted set  worker id, last heartbeat ms; swept
``wfq:{ns}:members:<queue>``           sorted set  orchestrators of a queue, last report ms; swept
``wfq:{ns}:short:<queue>``             sorted set  short activities of a queue, said when; swept
``wfq:{ns}:turn:<name>``               string      who looks around for all; has a TTL
``wfq:{ns}:worker:<id>``               string      what a worker registered; has a TTL
``wfq:{ns}:about:<queue>``              hash        workflow -> its picture and input schema
``wfq:{ns:p}:instance:<id>``           hash        one instance; until purged
``wfq:{ns:p}:history:<id>``            list        birth record, then one element a turn
``wfq:{ns:p}:events:<queue>``          stream      events not yet in a history; trimmed by commits
``wfq:{ns:p}:activities:<queue>``      stream      activity attempts; trimmed by completions
``wfq:{ns:p}:lease:<queue>``           hash        the orchestrator that owns the partition
``wfq:{ns:p}:timers``                  sorted set  what becomes due, score = epoch ms
``wfq:{ns:p}:tasks``                   hash        messages of waiting tasks; heartbeats; splits
``wfq:{ns:p}:removals``                string      how many instances were removed, for commits
``wfq:{ns:p}:cursors``                 hash        instances whose dispatch is unfinished
``wfq:{ns:p}:index:<status>``          sorted set  instance ids by creation ms; until purged
``wfq:{ns:p}:outbox``                  stream      messages for other partitions; until forwarded
``wfq:{ns:p}:inbox-from``              hash        last outbox id applied, by source partition
``wfq:{ns:p}:dead``                    stream      dead letters; capped
``wfq:{ns:p}:sweep``                   string      which scheduler removes old ones; has a TTL
``wfq:{ns:p}:turn:<name>``              string      who looks around in this partition; has a TTL
``wfq:{ns:p}:life``                    string      life of its server that is reconciled; for ever
=====================================  ==========  ============================================

Channels: ``wfq:{ns:p}:changes`` (ids changed by a commit), ``wfq:{ns:p}:wake`` (an earlier
timer). All keys of one partition share a hash slot: the tag holds the namespace and the
partition number, never anything a user can choose freely.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from functools import lru_cache
from string import ascii_letters, digits

from wfq.errors import InvalidIdentifier

#: Where the keys of one partition may differ from each other: behind the hash tag.
PARTITION_KEYS = (
    "instance:",
    "history:",
    "events:",
    "activities:",
    "lease:",
    "timers",
    "tasks",
    "removals",
    "cursors",
    "index:",
    "outbox",
    "inbox-from",
    "dead",
    "sweep",
    "life",
    "turn:",
)
NAMESPACE_KEYS = ("meta", "queues", "workers", "members:", "short:", "turn:", "worker:", "about:")

#: Partitions of a new namespace. Fixed at its creation, since it decides where an id lives.
DEFAULT_PARTITIONS = 16

_ALPHANUMERIC = [letter.encode() for letter in ascii_letters + digits]
_USER_ID = re.compile(r"[A-Za-z0-9._:@-]{1,200}\Z")
#: Engine-made child ids append `~` parts to the parent's id, so they may be longer.
_ANY_ID = re.compile(r"[A-Za-z0-9._:@~-]{1,1000}\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_QUEUE = re.compile(r"[A-Za-z0-9._:@-]{1,200}\Z")


def check_new_instance_id(instance_id: object) -> str:
    """Return an id a user chose for a new instance. Raises: InvalidIdentifier."""
    if not isinstance(instance_id, str) or not _USER_ID.match(instance_id):
        raise InvalidIdentifier(
            f"instance id {_shown(instance_id)} is not allowed; "
            "use 1 to 200 of the characters A-Z a-z 0-9 . _ : @ -"
        )
    return instance_id


def check_instance_id(instance_id: object) -> str:
    """Return an id that names an existing instance. Raises: InvalidIdentifier."""
    if not isinstance(instance_id, str) or not _ANY_ID.match(instance_id):
        raise InvalidIdentifier(
            f"instance id {_shown(instance_id)} is not allowed; "
            "ids have 1 to 200 of the characters A-Z a-z 0-9 . _ : @ -"
        )
    return instance_id


def check_queue(queue: object) -> str:
    """Return a queue name (app id). Raises: InvalidIdentifier."""
    if not isinstance(queue, str) or not _QUEUE.match(queue):
        raise InvalidIdentifier(
            f"queue {_shown(queue)} is not allowed; "
            "use 1 to 200 of the characters A-Z a-z 0-9 . _ : @ -"
        )
    return queue


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


class Namespace:
    """Names the keys of one namespace; `partitions` is fixed when it is created."""

    __slots__ = ("_prefixes", "name", "partitions")

    def __init__(self, name: str = "default", partitions: int = DEFAULT_PARTITIONS) -> None:
        if not _NAMESPACE.match(name):
            raise InvalidIdentifier(
                f"namespace {_shown(name)} is not allowed; "
                "use 1 to 64 of the characters A-Z a-z 0-9 . _ -"
            )
        self.name = name
        self.partitions = partitions
        self._prefixes = [f"wfq:{{{name}:{p}}}:" for p in range(partitions)]

    def partition_of(self, instance_id: str) -> int:
        """The partition an instance lives in: by the part of its id before the first `~`."""
        return _crc16(instance_id.partition("~")[0]) % self.partitions

    def id_in(self, partition: int, head: str) -> str | None:
        """The head with one more letter or digit, so that it lives there; None where none fits."""
        begun = crc_hqx(head.encode(), 0)
        for last in _ALPHANUMERIC:
            if crc_hqx(last, begun) % self.partitions == partition:
                return head + last.decode()
        return None

    def prefix(self, partition: int) -> str:
        """What every key of the partition begins with."""
        return self._prefixes[partition]

    def instance(self, instance_id: str) -> str:
        return f"{self._prefixes[self.partition_of(instance_id)]}instance:{instance_id}"

    def history(self, instance_id: str) -> str:
        return f"{self._prefixes[self.partition_of(instance_id)]}history:{instance_id}"

    def events(self, partition: int, queue: str) -> str:
        return f"{self._prefixes[partition]}events:{queue}"

    def activities(self, partition: int, queue: str) -> str:
        return f"{self._prefixes[partition]}activities:{queue}"

    def lease(self, partition: int, queue: str) -> str:
        return f"{self._prefixes[partition]}lease:{queue}"

    def timers(self, partition: int) -> str:
        return f"{self._prefixes[partition]}timers"

    def tasks(self, partition: int) -> str:
        return f"{self._prefixes[partition]}tasks"

    def cursors(self, partition: int) -> str:
        return f"{self._prefixes[partition]}cursors"

    def index(self, partition: int, status: str) -> str:
        return f"{self._prefixes[partition]}index:{status}"

    def outbox(self, partition: int) -> str:
        return f"{self._prefixes[partition]}outbox"

    def inbox_from(self, partition: int) -> str:
        return f"{self._prefixes[partition]}inbox-from"

    def dead(self, partition: int) -> str:
        return f"{self._prefixes[partition]}dead"

    def life(self, partition: int) -> str:
        """Which life of its server was reconciled with the others; in a cluster only."""
        return f"{self._prefixes[partition]}life"

    def changes(self, partition: int) -> str:
        """Channel on which commits name the instances they changed."""
        return f"{self._prefixes[partition]}changes"

    def wake(self, partition: int) -> str:
        """Channel that tells schedulers of an earlier timer."""
        return f"{self._prefixes[partition]}wake"

    @property
    def meta(self) -> str:
        return f"wfq:{{{self.name}}}:meta"

    @property
    def queues(self) -> str:
        return f"wfq:{{{self.name}}}:queues"

    @property
    def workers(self) -> str:
        return f"wfq:{{{self.name}}}:workers"

    def members(self, queue: str) -> str:
        """The orchestrators that serve a queue."""
        return f"wfq:{{{self.name}}}:members:{queue}"

    def short(self, queue: str) -> str:
        """The activities of a queue that were found to be short."""
        return f"wfq:{{{self.name}}}:short:{queue}"

    def turn(self, name: str) -> str:
        """Who does now what one worker is to do now and then."""
        return f"wfq:{{{self.name}}}:turn:{name}"

    def turn_in(self, partition: int, name: str) -> str:
        """The same of one partition: a node of a cluster is not asked for another's."""
        return f"{self._prefixes[partition]}turn:{name}"

    def worker(self, worker_id: str) -> str:
        return f"wfq:{{{self.name}}}:worker:{worker_id}"

    def about(self, queue: str) -> str:
        """Descriptions of a queue's workflows; each worker that starts writes its own."""
        return f"wfq:{{{self.name}}}:about:{queue}"


@lru_cache(maxsize=16384)
def _crc16(text: str) -> int:
    """CRC-16/XMODEM, the function Redis Cluster hashes keys with."""
    return crc_hqx(text.encode(), 0)

"""Ids of instances that remember what their workflow returns."""

from __future__ import annotations

import os
import random
import time
from binascii import b2a_base64
from typing import Any, Generic, TypeVar

from wfq.storage.keys import Namespace, check_new_instance_id

#: Instances started together in one partition, where as many are started at once.
TOGETHER = 16
#: Seconds for which all clients put the instances that they start one by one into one partition.
MOMENT_S = 0.005
#: Partitions up to which an id is made for one of them: with more it takes too many attempts.
MOST_CHOSEN = 64
#: 2**32 divided by the golden ratio: multiples of it are spread as evenly as can be.
_GOLDEN = 0x9E3779B1

T_co = TypeVar("T_co", covariant=True)


class InstanceId(str, Generic[T_co]):
    """An instance id, as any text; `output()` of a state fetched with it has the result's type."""

    __slots__ = ("output_type",)

    #: The annotated result of the workflow function, None where it has none.
    output_type: Any

    @classmethod
    def of(cls, instance_id: str, output_type: Any) -> InstanceId[Any]:
        """Return the id of an instance of a workflow with that result."""
        made: InstanceId[Any] = cls(instance_id)
        made.output_type = output_type
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # Types do not travel: elsewhere it is a plain id.
        return (str, (str(self),))


def output_type_of(instance_id: str) -> Any:
    """Return the result type that an id remembers, or None."""
    return getattr(instance_id, "output_type", None) if type(instance_id) is not str else None


#: Ids are letters and digits, which no shell, URL or option parser takes for anything else.
_ONLY_ALPHANUMERIC = bytes.maketrans(b"+/", b"aZ")


def chosen_instance_id(space: Namespace, given: str | None) -> str:
    """The caller's id, or a new one. Raises: InvalidIdentifier."""
    return new_instance_id(space) if given is None else check_new_instance_id(given)


def new_instance_id(space: Namespace) -> str:
    """A random id of 18 letters and digits, with 100 random bits, so that no two are ever the same.

    Every key, index, event and record of an instance holds its id, and Redis hashes, copies and
    keeps each of these: the 32 digits of a UUID cost it 3 % more time and up to 64 bytes more.

    Whatever is started in the same moment, by any client, goes into the same partition, so that
    it shares batches and commits; the next moment has another, and in the long run all have as
    many. Clocks that differ cost only that.
    """
    if space.partitions > MOST_CHOSEN:
        return _random_text(18)
    partition = partition_of_moment(int(time.time() / MOMENT_S), space.partitions)
    while (made := space.id_in(partition, _random_text(17))) is None:
        pass
    return made


def partition_of_moment(number: int, partitions: int) -> int:
    """The partition for what is started in a moment, by the moment's number."""
    return ((number * _GOLDEN & 0xFFFFFFFF) * partitions) >> 32


def new_instance_ids(space: Namespace, count: int) -> list[str]:
    """Ids of instances that are started together; of few instances, in few partitions.

    A start call is worth its fixed cost to Redis from some `TOGETHER` instances on, and what was
    started together goes on together, in shared batches and entries. So a hundred instances are
    not spread over all partitions, but in a hundred calls every partition has its share.
    """
    partitions = space.partitions
    used = max(1, count // TOGETHER)
    if used >= partitions:
        return [_random_text(18) for _ in range(count)]
    chosen = random.sample(range(partitions), used)
    ids: list[str] = []
    while len(ids) < count:
        made = space.id_in(chosen[len(ids) % used], _random_text(17))
        if made is not None:
            ids.append(made)
    return ids


def new_incarnation() -> str:
    """What tells a new instance from an earlier one of its id: 47 random bits in 8 characters.

    Short, since an instance's records and messages all hold it. Made by whoever starts, so that a
    start that is sent again is known for the same.
    """
    return _random_text(8)


def _random_text(length: int) -> str:
    """Random letters and digits, nearly six bits each."""
    return b2a_base64(os.urandom(length)).translate(_ONLY_ALPHANUMERIC)[:length].decode()

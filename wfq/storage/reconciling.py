"""The call that puts back what is missing around one instance."""

from __future__ import annotations

from dataclasses import dataclass, field

from wfq.storage import scripts
from wfq.storage.keys import Namespace
from wfq.storage.scripts import Argument, Call


@dataclass(slots=True)
class Mending:
    """What is to be put back or removed; `items` are those documented in reconcile.lua.

    incarnation, generation, elements and queue: of the instance as it was looked at;
    incarnation "" for leftovers of one that does not exist.
    """

    instance_id: str
    incarnation: str
    generation: int
    elements: int
    queue: str
    items: list[Argument] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def add(self, words: str, *item: Argument) -> None:
        """Add one item: its letter and values; `words` say what it is."""
        self.items += item
        self.words.append(words)


def reconcile(namespace: Namespace, mending: Mending) -> Call[list[str] | None]:
    """Mend one instance: the words of the items that were needed; None if it has changed."""

    def parse(reply: list[bytes]) -> list[str] | None:
        if reply[0] == b"changed":
            return None
        done = [answer == b"added" for answer in reply[1:]]
        return [words for words, needed in zip(mending.words, done, strict=True) if needed]

    args: list[Argument] = [
        mending.instance_id,
        mending.incarnation,
        mending.generation,
        mending.elements,
        mending.queue,
        len(mending.words),
        *mending.items,
    ]
    partition = namespace.partition_of(mending.instance_id)
    return Call(scripts.RECONCILE, [namespace.prefix(partition)], args, parse)

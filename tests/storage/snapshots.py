"""Taking a store back to an earlier moment, as a failover that loses writes does."""

from __future__ import annotations

from tests.storage.kit import Store


def dump(store: Store) -> dict[bytes, bytes]:
    """Everything the server holds, consumer groups and pending entries included."""
    return {key: store._raw("DUMP", key) for key in set(store.link.scan("*"))}


def restore(store: Store, content: dict[bytes, bytes]) -> None:
    store.command("FLUSHALL")
    for key, value in content.items():
        store.command("RESTORE", key, 0, value)

"""Which app and which histories a command means: files, folders and ids of instances."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import orjson

from wfq.core.steps import unfold
from wfq.errors import InstanceNotFound
from wfq.storage import instances
from wfq.testing.histories import SavedHistory, read_histories
from wfq_cli.session import Session, open_session


def split_app(words: Sequence[str], app: str | None) -> tuple[list[str], str | None]:
    """Return what is replayed, and the app: that of ``--app``, or the last word if it is one."""
    given = list(words)
    if app is not None or len(given) < 2 or not _is_app(given[-1]):
        return given, app
    return given[:-1], given[-1]


def _is_app(word: str) -> bool:
    place = word.partition(":")[0]
    if place.endswith(".py"):
        return True
    if Path(word).exists() or not all(part.isidentifier() for part in place.split(".")):
        return False
    if Path(place.replace(".", "/")).with_suffix(".py").exists():
        return True
    try:
        return importlib.util.find_spec(place) is not None
    except (ImportError, ValueError):
        return False


def find_histories(words: Sequence[str]) -> Iterator[SavedHistory]:
    """Yield the histories of files, folders and (all else) ids. Raises: InstanceNotFound."""
    files = [word for word in words if Path(word).exists()]
    ids = [word for word in words if word not in files]
    for word in ids:
        if word.endswith(".json") or "/" in word:
            raise click.UsageError(f"there is no file {word!r}")
    yield from read_histories(*files)
    if ids:
        with open_session() as session:
            for instance_id in ids:
                yield fetch_history(session, instance_id)


def fetch_history(session: Session, instance_id: str) -> SavedHistory:
    """Return the present history of an instance. Raises: InstanceNotFound, StorageError."""
    # The id is checked, and an unknown one said, as everywhere.
    session.client.get_workflow_state(instance_id, fetch_payloads=False)
    namespace = session.namespace
    partition = namespace.partition_of(instance_id)
    stored = session.link.run(instances.fetch(namespace, partition, [instance_id]))[0]
    if stored is None:
        raise InstanceNotFound(
            f"no workflow instance {instance_id!r}; 'wfq list' shows those there are", instance_id
        )
    return saved(instance_id, stored)


def saved(instance_id: str, stored: instances.Stored) -> SavedHistory:
    """Return what is stored of an instance as a saved history."""
    records = unfold(orjson.loads(record) for record in stored.records)
    status = stored.status or "RUNNING"
    return SavedHistory.of(instance_id, records, status=status, app_id=stored.queue)

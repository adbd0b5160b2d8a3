"""Saved histories: what ``wfq history ID --save`` writes and replay tests read.

A saved history is one JSON document::

    {"wfq_history": 1, "instance_id": "order-7", "workflow": "order", "status": "RUNNING",
     "app_id": "default", "events": 9, "records": [...]}

`records` is what Redis holds of the present generation; it is replayed as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wfq.core.events import B_NAME, BIRTH, TURN, Record
from wfq.core.history import expand_history
from wfq.errors import ConfigurationError

#: Of the document. A newer one is refused, not guessed at.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class SavedHistory:
    """The history of one generation of an instance. `source` is the file it was read from."""

    instance_id: str
    workflow: str
    status: str
    app_id: str
    records: list[Record]
    source: str = ""

    @classmethod
    def of(
        cls,
        instance_id: str,
        records: list[Record],
        *,
        status: str = "",
        app_id: str = "default",
        source: str = "",
    ) -> SavedHistory:
        """Return the history that stored records (birth record first) make."""
        return cls(instance_id, str(records[0][B_NAME]), status, app_id, records, source)

    def __str__(self) -> str:
        return self.source or self.instance_id

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "wfq_history": FORMAT,
            "instance_id": self.instance_id,
            "workflow": self.workflow,
            "status": self.status,
            "app_id": self.app_id,
            "events": len(expand_history(self.records)),
            "records": self.records,
        }

    def to_text(self) -> str:
        """Return the document as text with one record a line, for readable diffs in git."""
        document = self.to_json()
        records = document.pop("records")
        head = json.dumps(document, ensure_ascii=False)[:-1]
        lines = ",\n  ".join(json.dumps(record, ensure_ascii=False) for record in records)
        return f'{head},\n "records": [\n  {lines}\n]}}\n'


def write_history(history: SavedHistory, path: str | Path) -> Path:
    """Write a history to a file; to a folder, as ``INSTANCE_ID.json``. Returns the file.

    A new name without a suffix is a folder: each further history would overwrite a file.
    """
    target = Path(path)
    if target.is_dir() or not (target.suffix or target.exists()):
        target = target / f"{history.instance_id}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(history.to_text(), encoding="utf-8")
    return target


def read_histories(*places: str | Path) -> Iterator[SavedHistory]:
    """Yield the histories in files, and in all ``*.json`` files of folders and those below.

    Raises: ConfigurationError for a file that is none, or a folder without any.
    """
    for place in map(Path, places):
        if not place.is_dir():
            yield read_history(place)
            continue
        files = sorted(place.rglob("*.json"))
        if not files:
            raise ConfigurationError(
                f"no saved history in {str(place)!r}; 'wfq history ID --save {place}' writes one"
            )
        for file in files:
            yield read_history(file)


def read_history(path: str | Path) -> SavedHistory:
    """Return the history in a file. Raises: ConfigurationError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise ConfigurationError(f"cannot read the history {str(path)!r}: {reason}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{str(path)!r} is not UTF-8 text") from exc
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise ConfigurationError(f"{str(path)!r} is not JSON: {exc}") from exc
    return history_of(document, str(path))


def history_of(document: Any, source: str = "") -> SavedHistory:
    """Return the history that a document holds. Raises: ConfigurationError."""
    if isinstance(document, list) or not isinstance(document, dict) or "records" not in document:
        raise ConfigurationError(
            f"{source!r} is no saved history; 'wfq history ID --save FILE' writes one"
        )
    version = document.get("wfq_history", FORMAT)
    if version != FORMAT:
        raise ConfigurationError(f"{source!r} has format {version!r}; this wfq reads {FORMAT}")
    records = document["records"]
    if not _well_formed(records):
        raise ConfigurationError(f"{source!r} is damaged: its records are not those of a history")
    return SavedHistory(
        str(document.get("instance_id") or Path(source).stem),
        str(records[0][B_NAME]),
        str(document.get("status") or ""),
        str(document.get("app_id") or "default"),
        records,
        source,
    )


def _well_formed(records: Any) -> bool:
    return (
        isinstance(records, list)
        and bool(records)
        and all(isinstance(record, list) and record for record in records)
        and records[0][0] == BIRTH
        and len(records[0]) == 8
        and all(record[0] == TURN and len(record) == 6 for record in records[1:])
    )


def as_histories(
    given: SavedHistory | str | Path | Iterable[SavedHistory | str | Path],
) -> Iterator[SavedHistory]:
    """Yield the histories that a test means: one or several, by value, file or folder."""
    several = [given] if isinstance(given, (SavedHistory, str, Path)) else given
    for one in several:
        if isinstance(one, SavedHistory):
            yield one
        else:
            yield from read_histories(one)

"""How the events of a history are shown."""

from __future__ import annotations

from typing import Any

from wfq.logs import plain_text
from wfq_cli import render
from wfq_cli.render import Column, Row


def detail(row: Row) -> str:
    """Return what an event says beyond its type and name."""
    parts: list[str] = []
    if "failure" in row:
        parts.append(f"{row['failure']['type']}: {row['failure']['message']}")
    if "value" in row:
        parts.append(_payload(row["value"]))
    if "due_at" in row:
        parts.append(f"due {row['due_at']}")
    if "target_id" in row:
        parts.append(f"instance {row['target_id']}")
    if row.get("attempts", 1) > 1:
        parts.append(f"after {row['attempts']} attempts")
    return plain_text("  ".join(parts))


def _payload(value: Any) -> str:
    return render.compact(value)


def clock(row: Row) -> str:
    """Return the time of day of an event, to the millisecond."""
    return str(row["timestamp"]).partition("T")[2].removesuffix("Z")


def subject(row: Row) -> str:
    """Return the name and the task number that an event is about."""
    name = row.get("name", "")
    task = f"#{row['task_id']}" if "task_id" in row else ""
    return " ".join(part for part in (name, task) if part)


def line(row: Row) -> str:
    """Return an event as one line for a live view."""
    kind = str(row["type"])
    return f"{clock(row)}  {kind.ljust(20)}  {subject(row).ljust(24)}  {detail(row)}".rstrip()


COLUMNS = (
    Column("N", lambda row: str(row["index"]), right=True),
    Column("TURN", lambda row: str(row["turn"]), right=True),
    Column("TIME", clock),
    Column("EVENT", lambda row: str(row["type"])),
    Column("NAME", subject),
    Column("DETAIL", detail),
)

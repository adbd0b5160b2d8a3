from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from wfq.logs import plain_text
from wfq_cli import render
from wfq_cli.render import Column

COLUMNS = (
    Column("ID", lambda row: str(row["instance_id"])),
    Column("TURNS", lambda row: str(row["turns"]), right=True),
    Column("NAME", lambda row: str(row["name"])),
)
ROWS: list[dict[str, Any]] = [
    {"instance_id": "a", "turns": 3, "name": "chain"},
    {"instance_id": "order-7", "turns": 12, "name": "bestellung"},
]


def test_a_list_is_one_json_line_per_row_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    count = render.print_rows(ROWS, None, COLUMNS, ident="instance_id")

    assert count == 2
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ROWS


def test_a_list_is_one_document_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_rows(ROWS, "json", COLUMNS, ident="instance_id")

    assert json.loads(capsys.readouterr().out) == ROWS


def test_ids_are_alone_on_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_rows(ROWS, "ids", COLUMNS, ident="instance_id")

    assert capsys.readouterr().out == "a\norder-7\n"


def test_a_table_has_aligned_columns(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_rows(ROWS, "table", COLUMNS, ident="instance_id")

    lines = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in lines] == [
        "ID       TURNS  NAME",
        "a            3  chain",
        "order-7     12  bestellung",
    ]


def test_an_empty_table_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert render.print_rows([], "table", COLUMNS, ident="instance_id") == 0
    assert capsys.readouterr().out == ""


def test_one_object_is_one_json_document_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 3, 1, 9, 0, 0, 123456, tzinfo=UTC)

    render.print_one({"id": "a", "at": moment}, None, [], "a")

    assert capsys.readouterr().out == '{"id":"a","at":"2026-03-01T09:00:00.123Z"}\n'


def test_a_table_cannot_steer_the_terminal() -> None:
    assert plain_text("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"


def test_wide_characters_are_cut_by_columns() -> None:
    assert render.clip("日本語の名前", 7) == "日本語…"
    assert render.clip("short", 7) == "short"
    assert render.cell_width("日本") == 4

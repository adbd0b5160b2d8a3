from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from wfq_cli.parsing import (
    parse_ago,
    parse_json,
    parse_moment,
    parse_tags,
    read_payload,
    split_event,
)


def complaint(text: str) -> str:
    with pytest.raises(click.UsageError) as caught:
        parse_json(text, "input")
    assert "\n" not in caught.value.message
    return caught.value.message


def test_no_payload_and_a_null_payload_are_different() -> None:
    none = read_payload(None, "input")
    null = read_payload("null", "input")

    assert none is None
    assert null is not None
    assert null.value is None


def test_a_payload_comes_from_a_file_or_from_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "order.json").write_text('{"total": 9.95}')
    monkeypatch.setattr("sys.stdin", io.StringIO("[1, 2]"))

    from_file = read_payload(f"@{tmp_path}/order.json", "input")
    from_stdin = read_payload("-", "input")

    assert from_file is not None
    assert from_file.value == {"total": 9.95}
    assert from_stdin is not None
    assert from_stdin.value == [1, 2]


def test_an_unreadable_file_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'"\xe9"')

    with pytest.raises(click.UsageError, match=r"missing\.json': No such file"):
        read_payload(f"@{tmp_path}/missing.json", "input")
    with pytest.raises(click.UsageError, match=r"is not UTF-8 text \(byte 1\)"):
        read_payload(f"@{tmp_path}/latin", "input")


def test_text_that_is_no_json_is_shown_as_it_must_be_quoted() -> None:
    assert complaint("hello") == (
        "the input is not JSON: unexpected character, expected a JSON value at character 1, "
        """near 'hello'; a string is written '"hello"'"""
    )
    assert complaint("it's").endswith("""a string is written '"it'\\''s"'""")


def test_an_error_points_at_the_place() -> None:
    assert "at character 9, near ',\"b\":2}'" in complaint('{"a": 1,,"b":2}')
    assert "at line 2, column 4, near 'x}'" in complaint('{"a":\n 1 x}')
    assert "at character 6, near its end" in complaint("[1, 2")


def test_what_the_engine_would_refuse_later_is_refused_here() -> None:
    assert "more than 64 bits" in complaint("1" * 30)
    assert "nested more than" in complaint("[" * 300 + "]" * 300)
    assert "not UTF-8" in complaint('"\ud800"')
    assert "is empty" in complaint("  ")
    assert "not JSON" in complaint("NaN")


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert parse_moment("2026-03-01T09:00") == datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert parse_moment("2026-03-01T09:00+02:00") == datetime(2026, 3, 1, 7, tzinfo=UTC)
    assert parse_moment("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)
    assert parse_moment("tomorrow") is None


def test_ago_takes_an_age_or_a_time() -> None:
    two_hours_ago = datetime.now(UTC) - timedelta(hours=2)

    assert abs(parse_ago("2h") - two_hours_ago) < timedelta(seconds=5)
    assert parse_ago("2026-03-01T09:00Z") == datetime(2026, 3, 1, 9, tzinfo=UTC)
    with pytest.raises(ValueError, match="neither an age nor a time"):
        parse_ago("lately")
    with pytest.raises(ValueError, match="neither an age nor a time"):
        parse_ago("9000000w")


def test_an_event_is_given_in_one_word_or_two() -> None:
    assert split_event(("po-7", "approval", "{}")) == ("po-7", "approval", "{}")
    assert split_event(("po-7/approval", "{}")) == ("po-7", "approval", "{}")
    assert split_event(("po-7/approval",)) == ("po-7", "approval", None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "missing argument 'ID'"),
        (("po-7",), "missing argument 'EVENT'"),
        (("po-7/",), "one of them is empty"),
        (("/approval",), "one of them is empty"),
        (("po-7", "approval", '{"a":', "1}"), "quote the JSON"),
    ],
)
def test_an_incomplete_event_is_refused(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        split_event(arguments)


def test_tags_are_pairs() -> None:
    assert parse_tags(("team=billing", "note=a=b")) == {"team": "billing", "note": "a=b"}
    with pytest.raises(click.UsageError, match="'billing' is not a tag"):
        parse_tags(("billing",))

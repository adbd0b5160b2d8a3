"""Durations as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfq.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30),
        ("1h30m", 5_400),
        ("250ms", 0.25),
        ("1.5h", 5_400),
        ("2d", 172_800),
        ("1w", 604_800),
        (" 10S ", 10),
        ("90", 90),
        ("0", 0),
        (90, 90),
        (0.5, 0.5),
        (timedelta(minutes=2), 120),
        ("PT5S", 5),
        ("pt1h30m", 5_400),
        ("P1DT2H", 93_600),
        ("P2W", 1_209_600),
        ("PT0.5S", 0.5),
    ],
)
def test_a_duration_is_read(written: str | float | timedelta, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    ["", " ", "s", "5x", "1m1m", "5s1h", "P", "PT", "P1M", "P1DT", "-5s", "-1", "1,5s", "nan",
     float("nan"), float("inf"), -0.1, True, None, "1h 30m", "9" * 400, 10**400, "\u0663s"],
)  # fmt: skip
def test_what_is_no_duration_says_so_in_one_line(written: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|out of range") as caught:
        parse_duration(written)

    assert "\n" not in str(caught.value)


@given(st.integers(min_value=0, max_value=10**12))
def test_what_is_shown_reads_back(milliseconds: int) -> None:
    shown = format_duration(milliseconds / 1000)

    assert parse_duration(shown) == pytest.approx(milliseconds / 1000)

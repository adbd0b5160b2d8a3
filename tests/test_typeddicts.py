"""TypedDict classes as annotations, of `typing` as of typing_extensions, on every Python."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, NotRequired, Optional, Required, TypedDict

import pydantic
import pytest

from wfq.codec import Codec
from wfq.errors import PayloadError

WHEN = dt.datetime(2026, 5, 3, tzinfo=dt.UTC)
TEXT = "2026-05-03T00:00:00Z"


class Line(TypedDict):
    at: dt.datetime


class Order(TypedDict, total=False):
    lines: Required[list[Line]]
    price: Decimal
    note: Annotated[str, pydantic.Field(max_length=3)]


class Large(Order):
    first: NotRequired[Line]
    number: int


@dataclass
class Cart:
    lines: list[Line]
    first: Line | None = None


@dataclass
class Shop:
    carts: dict[str, Cart]


def test_those_in_fields_of_dataclasses_are_validated() -> None:
    shop = decoder(Shop)({"carts": {"a": {"lines": [{"at": TEXT}]}}})

    assert shop == Shop({"a": Cart([{"at": WHEN}])})
    with pytest.raises(PayloadError) as caught:
        decoder(Shop)({"carts": {"a": {"lines": [{"at": "never"}]}}})
    assert caught.value.path == "$.carts.a.lines[0].at"


def decoder(annotation: Any) -> Callable[[Any], Any]:
    return Codec().decoder(annotation, "input of workflow", "order")


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (Line, {"at": TEXT}, {"at": WHEN}),
        (list[Line], [{"at": TEXT}], [{"at": WHEN}]),
        (dict[str, Line | None], {"a": {"at": TEXT}, "b": None}, {"a": {"at": WHEN}, "b": None}),
        (Optional[Line], None, None),  # noqa: UP045 - as older programs write it
        (Annotated[Line, "x"], {"at": TEXT}, {"at": WHEN}),
        (Order, {"lines": []}, {"lines": []}),
        (Order, {"lines": [], "price": "1.10"}, {"lines": [], "price": Decimal("1.10")}),
        (
            Large,
            {"lines": [{"at": TEXT}], "number": 7, "first": {"at": TEXT}},
            {"lines": [{"at": WHEN}], "number": 7, "first": {"at": WHEN}},
        ),
    ],
)
def test_values_are_validated(annotation: Any, given: Any, expected: Any) -> None:
    assert decoder(annotation)(given) == expected


@pytest.mark.parametrize(
    ("annotation", "given", "path"),
    [
        (Line, {"at": "never"}, "$.at"),
        (Line, {}, "$.at"),
        (list[Line], [{"at": TEXT}, {}], "$[1].at"),
        (Order, {"price": "1"}, "$.lines"),
        (Order, {"lines": [], "note": "long"}, "$.note"),
        (Large, {"lines": []}, "$.number"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    annotation: Any, given: Any, path: str
) -> None:
    with pytest.raises(PayloadError) as caught:
        decoder(annotation)(given)

    assert caught.value.path == path

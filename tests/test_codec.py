"""Payloads: what can be written, what is refused by path, and what comes back by annotation."""

from __future__ import annotations

import base64
import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import sys
import types
import uuid
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wfq.codec import Codec
from wfq.errors import PayloadError, PayloadTooLarge
from wfq.jsonform import MAX_DEPTH, write_json

CODEC = Codec()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Item:
    name: str
    price: decimal.Decimal
    _hidden: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Basket:
    items: list[Item]
    colour: Colour = Colour.RED
    when: dt.datetime | None = None


class Model(pydantic.BaseModel):
    number: int
    tags: set[str] = set()
    alias: str = pydantic.Field(default="a", alias="the-alias")


class Shape(TypedDict):
    side: int


class Point(NamedTuple):
    x: int
    y: int


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: dt.datetime


@pydantic.dataclasses.dataclass
class PydanticItem:
    n: int


class Opaque:
    """Something pydantic has no schema for."""


def stored(value: Any) -> Any:
    return orjson.loads(orjson.dumps(CODEC.encode(value, "input of activity", "f")))


def refused(value: Any) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        CODEC.encode(value, "input of activity", "f")
    assert len(str(caught.value)) < 600
    assert str(caught.value).startswith("input of activity 'f': ")
    return caught.value


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 2**64 - 1, -(2**63), 1.5, "", "text", "ünïcödé \x00 \u2028 😀", [], {},
        [1, [2, {"a": None}]], {"": 1}, "x" * 2_000,
    ],
)  # fmt: skip
def test_json_values_come_back_as_they_were(value: Any) -> None:
    assert stored(value) == value
    assert type(stored(value)) is type(value)
    assert CODEC.plain(CODEC.encode(value, "a", "b")) == value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset("ab"), ["a", "b"]),
        (collections.deque([1]), [1]),
        (
            {1: "a", None: "b", False: "c", 1.5: "d"},
            {"1": "a", "null": "b", "false": "c", "1.5": "d"},
        ),
        (Colour.BLUE, "blue"),
        ({Colour.BLUE: Level.LOW}, {"blue": 1}),
        (decimal.Decimal("1.10"), "1.10"),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC), "2024-01-02T03:00:00+00:00"),
        (dt.timedelta(seconds=90), "PT1M30S"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (Point(1, 2), [1, 2]),
        (types.SimpleNamespace(a=1), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (Item("n", decimal.Decimal(2), 3), {"name": "n", "price": "2", "_hidden": 3}),
        (Model(number=1, tags={"x"}), {"number": 1, "tags": ["x"], "the-alias": "a"}),
        (PydanticItem(4), {"n": 4}),
        (b"utf-8", "utf-8"),
        ([float("1e308"), -0.0], [1e308, -0.0]),
    ],
)
def test_other_values_have_a_json_form(value: Any, written: Any) -> None:
    assert stored(value) == written


def test_encoding_takes_a_snapshot() -> None:
    value = {"a": [1]}
    payload = CODEC.encode(value, "a", "b")
    value["a"].append(2)

    assert orjson.loads(orjson.dumps(payload)) == {"a": [1]}


def nested(depth: int, leaf: Any = 1) -> Any:
    value: Any = leaf
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (float("nan"), "$", "nan is not a JSON number"),
        ([1, float("inf")], "$[1]", "inf is not"),
        ({"a": [0, {"b": float("-inf"), "c": None}]}, "$.a[1].b", "-inf is not"),
        ({"x": None, "y": {"z": float("nan")}}, "$.y.z", "nan"),
        (Basket([Item("a", decimal.Decimal("nan"))]), "$.items[0].price", "no JSON form"),
        (types.SimpleNamespace(a=float("nan")), "$.a", "nan"),
        (1 << 64, "$", "more than 64 bits"),
        ({"n": [-(1 << 63) - 1]}, "$.n[0]", "more than 64 bits"),
        ("\ud800", "$", "lone surrogate"),
        ({"a": {"b": "x\udfff"}}, "$.a.b", "lone surrogate"),
        ({"\ud800": 1}, "$", "a key is text with a lone surrogate"),
        ({"a": {(1, 2): 3}}, "$.a", "the key (1, 2) (tuple) has no JSON form"),
        ({"a b": object()}, "$['a b']", "<object object> (object) has no JSON form"),
        ([Opaque()], "$[0]", "(Opaque) has no JSON form"),
        (Item, "$", "has no JSON form"),
        (print, "$", "has no JSON form"),
        ({"e": ValueError("x")}, "$.e", "has no JSON form"),
        (b"\xff", "$", "has no JSON form"),
        ((n for n in range(3)), "$", "has no JSON form"),
        (LOOP, "$[0][0]", "more than 200 levels"),
    ],
)
def test_what_json_cannot_say_is_refused_by_path(value: Any, path: str, reason: str) -> None:
    error = refused(value)

    assert error.path == path or (value is LOOP and error.path.startswith(path))
    assert reason in str(error)
    assert f" at {error.path}" in str(error)


def test_a_model_with_nan_is_refused() -> None:
    class Floats(pydantic.BaseModel):
        a: list[float]

    assert refused([Floats(a=[1.0, float("nan")])]).path == "$[0].a[1]"


@pytest.mark.parametrize("over", [0, 1, 5, 60, 100_000])
def test_nesting_has_a_limit_whatever_the_encoder_could(over: int) -> None:
    deep = nested(MAX_DEPTH + over)
    if over:
        assert "more than 200 levels of nesting" in str(refused(deep))
    else:
        assert write_json(deep)
        # Records embed payloads some levels down; the encoder must still take them.
        orjson.dumps([[[[[[[[[[deep]]]]]]]]]])
    while isinstance(deep, (list, dict)):  # a deep value must not be freed by recursion
        deep = deep[0] if isinstance(deep, list) else deep["k"]


def test_brackets_in_text_are_no_nesting() -> None:
    tricky = {"a": "[" * 300 + '\\"' + "{" * 300, "b": ['"[[' * 200, "\\" * 99 + "[" * 300]}

    assert stored(tricky) == tricky
    wide = [{"a": [1]} for _ in range(1_000)]
    assert stored(wide) == wide


def test_size_has_a_limit() -> None:
    small = Codec(max_bytes=100)

    assert small.encode("x" * 50, "input of activity", "f")
    with pytest.raises(PayloadTooLarge, match="202 bytes of JSON are over the limit of 100"):
        small.encode(["x" * 198], "input of activity", "f")
    with pytest.raises(PayloadTooLarge):
        CODEC.encode("x" * 1_048_575, "input of activity", "f")


def test_hostile_objects_are_refused_not_raised() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(name)

    class BadMapping(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("no items")

    assert "<unprintable>" in str(refused([Hostile()]))
    assert stored(BadMapping(a=1)) == {"a": 1}


# -- decoding


def decode(annotation: Any, payload: Any) -> Any:
    return CODEC.decoder(annotation, "input of workflow", "w")(payload)


@pytest.mark.parametrize(
    ("annotation", "payload", "value"),
    [
        (int, 5, 5),
        (float, 5, 5.0),
        (str, "x", "x"),
        (bool, True, True),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (dt.datetime, "2024-01-02T03:00:00Z", dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC)),
        (dt.timedelta, "PT1M30S", dt.timedelta(seconds=90)),
        (uuid.UUID, "00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
        (Colour, "blue", Colour.BLUE),
        (set[int], [1, 2], {1, 2}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dict[int, Colour], {"1": "red"}, {1: Colour.RED}),
        (list[Item], [{"name": "n", "price": "2"}], [Item("n", decimal.Decimal(2))]),
        (Item | None, None, None),
        (Item | None, {"name": "n", "price": 2}, Item("n", decimal.Decimal(2))),
        (Model, {"number": 1, "tags": ["x"]}, Model(number=1, tags={"x"})),
        (Strict, {"when": "2024-01-02T03:00:00"}, Strict(when=dt.datetime(2024, 1, 2, 3))),
        (Shape, {"side": 2}, {"side": 2}),
        (Point, [1, 2], Point(1, 2)),
        (Literal["a", "b"], "b", "b"),
        (Annotated[int, pydantic.Field(gt=3)], 4, 4),
        (Any, {"a": 1}, {"a": 1}),
        (None, {"a": 1}, {"a": 1}),
        (Opaque, {"a": 1}, {"a": 1}),
        ("Unresolved", {"a": 1}, {"a": 1}),
        (int, None, None),
    ],
)  # fmt: skip
def test_values_come_back_by_annotation(annotation: Any, payload: Any, value: Any) -> None:
    found = decode(annotation, payload)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        Basket([Item("a", decimal.Decimal("1.5"))], Colour.BLUE, dt.datetime(2024, 1, 1)),
        Model(number=3, tags={"a", "b"}, **{"the-alias": "z"}),
        PydanticItem(3),
        Point(3, 4),
        Level.LOW,
        dt.time(1, 2),
        b"bytes",
    ],
)
def test_typed_values_survive_the_round_trip(value: Any) -> None:
    assert decode(type(value), stored(value)) == value


@pytest.mark.parametrize(
    ("annotation", "payload", "path"),
    [
        (int, "x", "$"),
        (int, {"a": 1}, "$"),
        (Item, {"name": "n"}, "$.price"),
        (Basket, {"items": [{"name": "n", "price": "dear"}]}, "$.items[0].price"),
        (dict[str, int], {"a b": "x"}, "$['a b']"),
        (Colour, "green", "$"),
        (Annotated[int, pydantic.Field(gt=3)], 2, "$"),
    ],
)
def test_what_does_not_fit_is_named_by_path(annotation: Any, payload: Any, path: str) -> None:
    with pytest.raises(PayloadError) as caught:
        decode(annotation, payload)

    assert caught.value.path == path
    assert str(caught.value).startswith("input of workflow 'w': ")
    assert f" at {path}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_validators_may_raise_what_they_like() -> None:
    def explode(value: Any) -> Any:
        raise RuntimeError("boom")

    with pytest.raises(PayloadError, match="RuntimeError while decoding: boom"):
        decode(Annotated[int, pydantic.AfterValidator(explode)], 5)


def test_decoded_values_belong_to_the_caller() -> None:
    payload = {"a": [1], "b": {"c": 1}}

    for annotation in (None, Any, dict, dict[str, Any]):
        value = decode(annotation, payload)
        value["a"].append(2)
        value["b"]["c"] = 2

    assert payload == {"a": [1], "b": {"c": 1}}


def test_annotations_that_cannot_be_hashed_work() -> None:
    assert decode(Annotated[int, {"unhashable": []}], "5") == 5


def test_a_payload_can_be_a_fragment() -> None:
    assert CODEC.plain(orjson.Fragment(b"[1]")) == [1]
    assert decode(list[int], orjson.Fragment(b"[1]")) == [1]


def test_pydantic_is_not_imported_before_it_is_needed() -> None:
    import subprocess

    code = "import sys, wfq.codec; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Reversing:
    """A payload codec as a user would write one."""

    def encode(self, data: bytes) -> bytes:
        return data[::-1]

    def decode(self, data: bytes) -> bytes:
        if data == b"?":
            raise ValueError("wrong key")
        return data[::-1]


class TestATransformingCodec:
    codec = Codec(transform=Reversing())

    @pytest.mark.parametrize("value", [5, "text", [1, {"a": None}], Item("n", decimal.Decimal(2))])
    def test_nothing_is_stored_in_the_clear(self, value: Any) -> None:
        payload = self.codec.encode(value, "a", "b")

        assert isinstance(payload, str)
        assert payload.startswith("wfq+codec:")
        assert base64.b64decode(payload[10:])[::-1] == write_json(value)
        assert self.codec.plain(payload) == orjson.loads(write_json(value))
        assert self.codec.decoder(type(value), "a", "b")(payload) == value

    def test_no_input_stays_no_input(self) -> None:
        assert self.codec.encode(None, "a", "b") is None

    def test_payloads_from_before_it_was_switched_on_still_decode(self) -> None:
        assert self.codec.plain("text") == "text"
        assert self.codec.decoder(int, "a", "b")(5) == 5

    @pytest.mark.parametrize("payload", ["wfq+codec:!!", "wfq+codec:Pw==", "wfq+codec:AAAA"])
    def test_damage_is_a_payload_error(self, payload: str) -> None:
        with pytest.raises(PayloadError, match="cannot be transformed back"):
            self.codec.plain(payload)
        with pytest.raises(PayloadError):
            self.codec.decoder(list[int], "a", "b")(payload)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(JSON)
def test_every_json_value_survives(value: Any) -> None:
    assert stored(value) == value


@given(
    st.recursive(
        st.floats() | st.integers() | st.text() | st.binary() | st.complex_numbers() | st.dates(),
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner)
            | st.dictionaries(st.integers() | st.text() | st.dates() | st.tuples(), inner)
        ),
        max_leaves=20,
    )
)
def test_anything_else_is_written_or_refused_as_a_payload_error(value: Any) -> None:
    with contextlib.suppress(PayloadError):
        orjson.loads(write_json(value))

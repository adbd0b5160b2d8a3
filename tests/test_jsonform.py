"""How dataclasses are written, whatever their objects hold besides."""

from __future__ import annotations

import dataclasses

from wfq.jsonform import write_json


@dataclasses.dataclass
class Loose:
    a: int
    b: int = 2


@dataclasses.dataclass
class Scaled:
    """A field that is read through a property."""

    size: int

    def _get(self) -> int:
        return int(self.__dict__["size"]) * 10

    def _set(self, value: int) -> None:
        self.__dict__["size"] = value


Scaled.size = property(Scaled._get, Scaled._set)  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    parts: list[Loose]
    _hidden: int = 0


def test_of_a_dataclass_its_fields_are_written_however_it_holds_them() -> None:
    plain, more, less = Loose(1), Loose(1), Loose(1)
    more.c = 3  # type: ignore[attr-defined]
    del less.b

    # Twice: the second time the class is known.
    for _ in range(2):
        assert write_json(plain) == b'{"a":1,"b":2}'
        assert write_json(more) == b'{"a":1,"b":2}'
        assert write_json(less) == b'{"a":1,"b":2}'
        assert write_json(Scaled(4)) == b'{"size":40}'
        assert write_json(Slotted([Loose(5)])) == b'{"parts":[{"a":5,"b":2}],"_hidden":0}'

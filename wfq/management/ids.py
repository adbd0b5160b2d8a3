"""Ids of instances that remember what their workflow returns."""

from __future__ import annotations

import secrets
from typing import Any, Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class InstanceId(str, Generic[T_co]):
    """An instance id, as any text; `output()` of a state fetched with it has the result's type."""

    __slots__ = ("output_type",)

    #: The annotated result of the workflow function, None where it has none.
    output_type: Any

    @classmethod
    def of(cls, instance_id: str, output_type: Any) -> InstanceId[Any]:
        """Return the id of an instance of a workflow with that result."""
        made: InstanceId[Any] = cls(instance_id)
        made.output_type = output_type
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # Types do not travel: elsewhere it is a plain id.
        return (str, (str(self),))


def output_type_of(instance_id: str) -> Any:
    """Return the result type that an id remembers, or None."""
    return getattr(instance_id, "output_type", None) if type(instance_id) is not str else None


def new_incarnation() -> str:
    """What tells a new instance from an earlier one of its id: 48 random bits in 8 characters.

    Short, since an instance's records and messages all hold it. Made by whoever starts, so that a
    start that is sent again is known for the same.
    """
    return secrets.token_urlsafe(6)

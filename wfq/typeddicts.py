"""`typing.TypedDict` classes for pydantic, which before Python 3.12 takes only those of
typing_extensions (a dependency of its own): the classes of `typing` lack what it needs there.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, NotRequired, Required, get_args, get_origin

#: What pydantic asks a class for before it looks at what the class is.
_HOOK = "__get_pydantic_core_schema__"


def prepare(annotation: Any) -> None:
    """Teach pydantic every TypedDict in the annotation, in fields of dataclasses as well.

    The classes are given pydantic's hook for it, which nobody else reads. Raises what resolving
    a forward reference does.
    """
    _prepare(annotation, set())


def _prepare(annotation: Any, seen: set[type]) -> None:
    from typing_extensions import get_type_hints, is_typeddict

    for argument in get_args(annotation):
        _prepare(argument, seen)
    made = get_origin(annotation) or annotation
    if not isinstance(made, type) or made in seen:
        return
    is_dict = is_typeddict(made)
    if is_dict or is_dataclass(made):
        seen.add(made)
        for hint in get_type_hints(made, include_extras=True).values():
            _prepare(hint, seen)
        if is_dict and _HOOK not in vars(made):
            setattr(made, _HOOK, staticmethod(_schema))


def _schema(source: Any, handler: Any) -> Any:
    return handler.generate_schema(_converted(get_origin(source) or source))


def _converted(made: Any) -> Any:
    """The same class as one of typing_extensions."""
    from typing_extensions import TypedDict, get_type_hints

    fields: dict[str, Any] = {}
    for name, hint in get_type_hints(made, include_extras=True).items():
        # Where annotations are texts, `__required_keys__` knows nothing of what they say.
        said: Any = get_origin(hint)
        if said is Required or said is NotRequired:
            fields[name] = hint
        elif name in made.__required_keys__:
            fields[name] = Required[hint]
        else:
            fields[name] = NotRequired[hint]
    return TypedDict(made.__name__, fields)  # type: ignore[operator]  # the name is no literal

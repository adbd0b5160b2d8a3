"""`typing.TypedDict` classes for pydantic, which before Python 3.12 takes only those of
typing_extensions (a dependency of its own): the classes of `typing` lack what it needs there.
"""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin


def portable(annotation: Any) -> Any:
    """Return the annotation with every TypedDict in it as one that pydantic takes.

    Those inside of classes, such as a dataclass's fields, stay what they are. Raises what
    resolving a forward reference does, and RecursionError for a TypedDict that holds itself.
    """
    from typing_extensions import is_typeddict

    if is_typeddict(annotation):
        return _converted(annotation)
    arguments = get_args(annotation)
    if not arguments:
        return annotation
    origin = get_origin(annotation)
    if origin is Annotated:
        return Annotated[(portable(arguments[0]), *arguments[1:])]
    found = tuple(portable(argument) for argument in arguments)
    if found == arguments:
        return annotation
    if origin is Union or origin is UnionType:
        return Union[found]  # noqa: UP007 - built from values
    return origin[found] if origin is not None else annotation


def _converted(made: Any) -> Any:
    from typing_extensions import TypedDict, get_type_hints

    fields: dict[str, Any] = {}
    for name, hint in get_type_hints(made, include_extras=True).items():
        # Where annotations are texts, `__required_keys__` knows nothing of what they say.
        said: Any = get_origin(hint)
        if said is Required or said is NotRequired:
            fields[name] = said[portable(get_args(hint)[0])]
        elif name in made.__required_keys__:
            fields[name] = Required[portable(hint)]
        else:
            fields[name] = NotRequired[portable(hint)]
    return TypedDict(made.__name__, fields)  # type: ignore[operator]  # the name is no literal

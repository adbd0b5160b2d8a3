"""What a user's function takes and returns, read from its signature once at registration."""

from __future__ import annotations

import collections.abc
import inspect
import sys
import typing
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from wfq.activity_context import ActivityContext
from wfq.core.context import WorkflowContext
from wfq.core.options import MAX_NAME
from wfq.depends import dependencies_of
from wfq.errors import ConfigurationError

EMPTY: Any = inspect.Parameter.empty

#: Attribute under which `alternate_name` keeps a function's name.
_NAME_ATTRIBUTE = "__wfq_name__"

#: Attribute under which a runtime leaves the name that it registered a function under.
REGISTERED_NAME = "__wfq_registered_name__"

#: Names that say "this is the context" where a single parameter has no annotation.
_CONTEXT_NAMES = frozenset(
    ("_", "__", "_ctx", "_context", "activity_context", "activity_ctx", "context", "ctx", "wf_ctx")
)
#: Ends of annotations, as text, that mean a context: our names and Dapr's.
_ACTIVITY_CONTEXTS = ("WorkflowActivityContext", "ActivityContext")
_WORKFLOW_CONTEXTS = ("DaprWorkflowContext", "WorkflowContext")


@dataclass(frozen=True, slots=True)
class Signature:
    """How to call a function. `input` and `result` are annotations, EMPTY where there is none.

    `default` is that of the input parameter, EMPTY where it has none.
    """

    takes_context: bool
    takes_input: bool
    input: Any
    default: Any
    result: Any


def workflow_signature(fn: Callable[..., Any]) -> Signature:
    """Return the signature of a workflow: ``fn(ctx)`` or ``fn(ctx, input)``.

    Raises: ConfigurationError when it cannot be called so, or is an async generator.
    """
    if inspect.isasyncgenfunction(fn):
        raise ConfigurationError(
            f"workflow {where(fn)} is an async generator; use await in it, or yield in a plain def"
        )
    found = _positional(fn, "workflow", ())
    if not found or len(_required(found)) > 2:
        raise ConfigurationError(
            f"workflow {where(fn)} must take (ctx) or (ctx, input); its parameters are "
            f"{_signature(fn)}"
        )
    hints = _hints(fn)
    second = found[1] if len(found) > 1 else None
    return Signature(
        takes_context=True,
        takes_input=second is not None,
        input=EMPTY if second is None else hints.get(second.name, EMPTY),
        default=EMPTY if second is None else second.default,
        result=_returned(hints.get("return", EMPTY)),
    )


def activity_signature(fn: Callable[..., Any]) -> Signature:
    """Return the signature of an activity.

    With two parameters the first is the context, whatever its name, as in Dapr; unless it is
    annotated as something else and the second has a default, which stays. A single parameter
    is the context if it is annotated as one, or has no annotation and a context's name (`ctx`,
    `context`, `_`, ...); otherwise it is the input. Parameters filled by `Depends` do not count.
    Raises: ConfigurationError for anything else, and for generators.
    """
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigurationError(
            f"activity {where(fn)} is a generator; an activity returns its result"
        )
    found = _positional(fn, "activity", dependencies_of(fn))
    required = _required(found)
    hints = _hints(fn)
    if len(required) > 2:
        raise ConfigurationError(
            f"activity {where(fn)} takes one input besides the context; its parameters are "
            f"{_signature(fn)}"
        )
    context, given = _split(found, len(required), hints)
    if context is None and len(required) > 1:
        raise ConfigurationError(
            f"activity {where(fn)} takes one input, and its first parameter is annotated as "
            f"something else than a context; its parameters are {_signature(fn)}"
        )
    return Signature(
        takes_context=context is not None,
        takes_input=given is not None,
        input=EMPTY if given is None else hints.get(given.name, EMPTY),
        default=EMPTY if given is None else given.default,
        result=hints.get("return", EMPTY),
    )


def is_workflow_function(fn: Callable[..., Any]) -> bool:
    """Tell whether the first parameter of `fn` is annotated with a workflow context."""
    try:
        parameters = list(_signature(fn).parameters.values())
    except (TypeError, ValueError):
        return False
    if not parameters:
        return False
    annotation = _hints(fn).get(parameters[0].name, parameters[0].annotation)
    return _is_context(annotation, WorkflowContext, _WORKFLOW_CONTEXTS)


def alternate_name(name: str) -> Callable[[typing.Any], typing.Any]:
    """Decorate a workflow or activity with the name that it is registered and called under."""
    checked_label(name, "alternate_name")

    def mark(fn: Any) -> Any:
        given = getattr(fn, _NAME_ATTRIBUTE, None)
        if given is not None:
            raise ConfigurationError(f"{where(fn)} already has the alternate name {given!r}")
        setattr(fn, _NAME_ATTRIBUTE, name)
        return fn

    return mark


def given_name(fn: Any) -> str | None:
    """Return the alternate name of a function, or None."""
    name = getattr(fn, _NAME_ATTRIBUTE, None)
    return name if isinstance(name, str) else None


def registered_name(fn: Any) -> str | None:
    """Return the name that some runtime of this process registered a function under, or None."""
    name = getattr(fn, REGISTERED_NAME, None)
    return name if isinstance(name, str) else None


def own_name(fn: Any) -> str:
    """Return the name of a function that nobody gave another. Raises: ConfigurationError."""
    name = given_name(fn) or getattr(fn, "__name__", None)
    if name is None and hasattr(fn, "func"):
        return own_name(fn.func)  # functools.partial
    if name is None:
        name = type(fn).__name__ if callable(fn) else None
    if not isinstance(name, str) or not name or name == "<lambda>":
        raise ConfigurationError(f"{where(fn)} has no name of its own; give name=")
    return name


def checked_label(name: Any, what: str) -> str:
    """Return a name that is fit for registration. Raises: ConfigurationError."""
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"{what} must be a name of 1 to {MAX_NAME} characters, not {name!r:.100}"
        )
    if not name.isprintable():
        raise ConfigurationError(f"{what} must be printable, not {name!r:.100}")
    return name


def where(fn: Any) -> str:
    """Return a function as an error names it: ``module.name (file:line)``."""
    inner = inspect.unwrap(fn) if callable(fn) else fn
    label = f"{getattr(inner, '__module__', '?')}.{getattr(inner, '__qualname__', repr(inner))}"
    code = getattr(inner, "__code__", None)
    return label if code is None else f"{label} ({code.co_filename}:{code.co_firstlineno})"


def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of `fn`, with annotations that cannot be resolved left as they are.

    Raises: TypeError, ValueError when `fn` has none.
    """
    if sys.version_info >= (3, 14):
        # There, annotations are evaluated when asked for, and one may exist for checkers only.
        import annotationlib

        return inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(fn)


def _positional(
    fn: Callable[..., Any], kind: str, filled: Iterable[str]
) -> list[inspect.Parameter]:
    """Return the parameters that can be passed by position, without those filled otherwise."""
    try:
        parameters = _signature(fn).parameters.values()
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"{kind} {where(fn)} is not a function: {exc}") from exc
    found: list[inspect.Parameter] = []
    for parameter in parameters:
        if parameter.name in filled or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            if not filled:
                found.extend(_stand_ins(2 - len(found)))
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            found.append(parameter)
        elif parameter.default is EMPTY:
            raise ConfigurationError(
                f"{kind} {where(fn)} has the keyword-only parameter {parameter.name!r} "
                "without a default; it is called by position"
            )
    return found


def _stand_ins(count: int) -> list[inspect.Parameter]:
    """Return what ``*args`` is read as: a context and an input."""
    names = ("ctx", "input")[max(0, 2 - count) :]
    return [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in names]


def _required(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return [p for p in parameters if p.default is EMPTY]


def _split(
    found: list[inspect.Parameter], required: int, hints: dict[str, Any]
) -> tuple[inspect.Parameter | None, inspect.Parameter | None]:
    """Return the parameters of an activity that get the context and the input."""
    if not found:
        return None, None
    first = found[0]
    annotation = hints.get(first.name, first.annotation)
    vague = annotation is EMPTY or annotation is Any or annotation is object
    is_context = _is_context(annotation, ActivityContext, _ACTIVITY_CONTEXTS)
    if len(found) == 1:
        is_context = is_context or (vague and first.name in _CONTEXT_NAMES)
        return (first, None) if is_context else (None, first)
    # An annotation that cannot be resolved is left as text; it is not held against a context.
    if is_context or vague or isinstance(annotation, str):
        return first, found[1]
    if required <= 1:
        return None, first
    return None, None


def _is_context(annotation: Any, cls: type, names: tuple[str, ...]) -> bool:
    if isinstance(annotation, type):
        return issubclass(annotation, cls) or annotation.__name__ in names
    if isinstance(annotation, str):
        return annotation.strip("'\" ").endswith(names)
    # Optional[ActivityContext], Annotated[ActivityContext, ...]
    return any(_is_context(part, cls, names) for part in typing.get_args(annotation))


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    """Return the resolved annotations of `fn`; one that cannot be resolved stays text."""
    target: Any = fn
    if not inspect.isroutine(fn) and not isinstance(fn, type):
        target = getattr(fn, "func", None) or getattr(type(fn), "__call__", fn)  # noqa: B004
    target = inspect.unwrap(target)
    try:
        return typing.get_type_hints(target, localns=_closure(target), include_extras=True)
    except Exception:  # a name that exists for type checkers only, or a broken annotation
        return _hints_one_by_one(target)


def _hints_one_by_one(fn: Any) -> dict[str, Any]:
    try:
        annotations = dict(inspect.get_annotations(fn))
    except Exception:  # Python 3.14 evaluates all of them when asked, and one is broken
        found = _signature(fn)
        annotations = {p.name: p.annotation for p in found.parameters.values()}
        annotations["return"] = found.return_annotation
    namespace = getattr(fn, "__globals__", {})
    for name, annotation in annotations.items():
        if isinstance(annotation, str):
            with suppress(Exception):
                annotations[name] = eval(annotation, namespace, _closure(fn))
    return annotations


def _closure(fn: Any) -> dict[str, Any]:
    """Return the variables of enclosing functions that `fn` uses."""
    found: dict[str, Any] = {}
    code, cells = getattr(fn, "__code__", None), getattr(fn, "__closure__", None)
    for name, cell in zip(code.co_freevars if code else (), cells or (), strict=True):
        with suppress(ValueError):  # a cell that is not filled yet
            found[name] = cell.cell_contents
    return found


_GENERATORS = (collections.abc.Generator, collections.abc.Coroutine)
_STREAMS = (collections.abc.Iterator, collections.abc.Iterable)


def _returned(annotation: Any) -> Any:
    """Return what a workflow ends with: the R of ``Generator[Y, S, R]``, else the annotation."""
    origin = typing.get_origin(annotation) or annotation
    if origin in _GENERATORS:
        arguments = typing.get_args(annotation)
        return arguments[2] if len(arguments) == 3 else EMPTY
    if origin in _STREAMS:
        return EMPTY
    return annotation

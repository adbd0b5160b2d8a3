"""docs/python.md, from the signatures and docstrings of the public names."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from typing import Any

import wfq
from wfq import compat, testing

_INTRO = """\
# Python

This page is made from the signatures and docstrings of `wfq`. Names in parentheses mean the same.

`import wfq as wf`; the asynchronous client of the same verbs is `wf.aio.WorkflowClient`.
"""

_PARTS = (
    ("wfq", wfq, ()),
    ("wfq.testing", testing, ()),
    ("wfq.compat", compat, ("DaprClient",)),
)


def page() -> str:
    """Return the page."""
    lines = [_INTRO]
    for title, module, only in _PARTS:
        lines.append(f"## {title}\n")
        for names, value in _grouped(module, only):
            lines += _entry(names, value)
    return "\n".join(lines).rstrip() + "\n"


def _grouped(module: Any, only: tuple[str, ...]) -> Iterator[tuple[list[str], Any]]:
    """Yield the public values with all their names, in the order of the first."""
    found: dict[int, tuple[list[str], Any]] = {}
    for name in only or module.__all__:
        value = getattr(module, name)
        if not inspect.ismodule(value):
            found.setdefault(id(value), ([], value))[0].append(name)
    for names, value in found.values():
        own = getattr(value, "__name__", names[0])
        yield sorted(names, key=lambda name: (name != own, name)), value


def _entry(names: list[str], value: Any) -> Iterator[str]:
    also = f" ({', '.join(names[1:])})" if len(names) > 1 else ""
    yield f"### {names[0]}{also}\n"
    if inspect.isclass(value):
        yield from _class(names[0], value)
    elif callable(value):
        yield from _code(f"def {names[0]}{_signature(value)}")
        yield from _words(value)
    else:
        yield f"`{names[0]} = {value!r}`\n"


def _class(name: str, value: type) -> Iterator[str]:
    if issubclass(value, Enum):
        yield from _words(value)
        yield ", ".join(f"`{member.name}`" for member in value) + "\n"
        return
    bases = [base.__name__ for base in value.__bases__ if base is not object]
    inherited = f"({', '.join(bases)})" if bases else ""
    yield from _code(f"class {name}{inherited}{_signature(value)}".replace(")(", "):  # (", 1))
    yield from _words(value)
    rows = [*_members(value)]
    if rows:
        yield from ("\n".join(rows) + "\n",)


def _members(value: type) -> Iterator[str]:
    """Yield a line for each public method and property that the class, or a base of ours, has."""
    seen: set[str] = set()
    for owner in value.__mro__:
        if not owner.__module__.startswith("wfq"):
            continue
        for name, member in vars(owner).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            line = _member(name, member)
            if line:
                yield line


def _member(name: str, member: Any) -> str:
    if isinstance(member, property):
        return f"- `{name}`: {_first(member.fget)}"
    if isinstance(member, (classmethod, staticmethod)):
        member = member.__func__
    if not inspect.isfunction(member):
        return ""
    kind = "async " if inspect.iscoroutinefunction(member) else ""
    shown = re.sub(r"^\((self|cls)(, )?", "(", _signature(member))
    return f"- `{kind}{name}{shown}`: {_first(member)}"


def _first(value: Any) -> str:
    """Return the first paragraph of a docstring in one line, fit for Markdown."""
    text = (inspect.getdoc(value) or "").partition("\n\n")[0]
    return _escaped(" ".join(text.split())) or "see its name."


def _words(value: Any) -> Iterator[str]:
    text = inspect.cleandoc(value.__doc__ or "")
    # Words, and the code that is indented below them with its empty lines.
    for part in re.split(r"((?:^    .*\n?|^\n)*^    .*$)", text, flags=re.M):
        if part.lstrip("\n").startswith("    "):
            yield from _code(textwrap.dedent(part).strip("\n"))
        elif words := re.sub(r"\s*^::$|::$", "", part.strip(), flags=re.M).strip():
            yield _escaped(words) + "\n"


def _escaped(text: str) -> str:
    """Return text whose signs mean nothing in Markdown, but for code between backquotes."""
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    parts = re.split(r"(`[^`\n]+`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts
    )


def _code(text: str, language: str = "text") -> Iterator[str]:
    yield f"```{language}\n{text}\n```\n"


def _signature(value: Any) -> str:
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    shown = re.sub(r"((?:: |-> ))'([^']*)'", r"\1\2", str(found))
    # Addresses and enum values change, or say little.
    shown = re.sub(r" at 0x[0-9a-f]+", "", shown)
    return re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", shown)

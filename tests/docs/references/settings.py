"""docs/settings.md, from the settings: types and defaults from the models, words from comments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tests.docs.references.tables import code, table
from tests.house.sources import modules
from wfq import rules, settings
from wfq.durations import format_duration
from wfq.settings import ApiToken, Limits, Settings

_INTRO = """\
# Settings

This page is made from `wfq/settings.py`. `wfq config show` prints what is in force here, and where
each value came from.

A setting is taken from the first of these that has it: an argument or flag; the environment, as
`WFQ_` and the name in capitals, with `__` before the name within a group
(`WFQ_LIMITS__PAYLOAD_BYTES`); `.env`; `wfq.toml`; `[tool.wfq]` in `pyproject.toml`; the default.
The files are those of the working directory. `REDIS_URL` is taken where nothing sets
`redis_url`. A name in a file of ours that is no setting is an error, and so is a value that does
not fit: one line that says which, and where it came from.

```toml
# wfq.toml
namespace = "shop"
concurrency = 200
drain_s = "1m30s"

[limits]
payload_bytes = "4MiB"

[[listeners]]
channel = "approvals"
event = "approval"
instance_id_from = "$.order_id"
```

Durations (`_s`) are written `90`, `30s`, `1h30m`, `250ms` or `PT5S`; sizes (`_bytes`) as a number
or `4MiB`. Secrets are masked wherever they could be shown.

## General

{general}

## limits

What one instance, turn or payload may hold; over a limit is a clear error.

{limits}

## api_tokens

Each is a table with these keys.

{tokens}

## listeners

Rules that turn messages into events or starts; [listeners](listeners.md) explains them. Each is a
table with these keys.

{listeners}
"""

_COLUMNS = ("setting", "type", "default", "meaning")
#: Said of a setting that no module reads.
_UNUSED = "*Not in force yet.*"


def page() -> str:
    """Return the page."""
    return _INTRO.format(
        general=table(_COLUMNS, _rows(Settings, settings, skip=("limits",))),
        limits=table(_COLUMNS, _rows(Limits, settings)),
        tokens=table(_COLUMNS, _rows(ApiToken, settings)),
        listeners=table(_COLUMNS, _rows(rules.ListenerRule, rules)),
    )


def _rows(model: type[BaseModel], module: Any, skip: tuple[str, ...] = ()) -> Iterator[list[str]]:
    schema = model.model_json_schema()
    comments = _comments(module)
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        if name in skip:
            continue
        meaning = comments.get(name, "")
        if module is settings and not _is_read(name):
            meaning = f"{meaning} {_UNUSED}".strip()
        default = "required" if name in required else _default(name, field.get("default"))
        yield [code(name), _kind(name, field), default, meaning]


def _comments(module: Any) -> dict[str, str]:
    """Return what the `#:` comments above the fields of a module say, by field."""
    found: dict[str, str] = {}
    said: list[str] = []
    for line in inspect.getsource(module).splitlines():
        text = line.strip()
        field = re.match(r"(\w+): ", text)
        if text.startswith("#: "):
            said.append(text[3:])
        elif field is not None:
            found.setdefault(field[1], " ".join(said))
            said = []
        else:
            said = []
    return found


def _kind(name: str, field: dict[str, Any]) -> str:
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    kind = options[0]
    if "enum" in kind:
        return ", ".join(map(code, kind["enum"]))
    bounds = [
        f"{word} {field.get(key, kind.get(key))}"
        for key, word in (("minimum", "from"), ("ge", "from"), ("gt", "over"), ("maximum", "to"))
        if key in field or (key in kind and not name.endswith("_bytes"))
    ]
    if name.endswith("_s"):
        bounds = [f"{bound} s" for bound in bounds]
    return " ".join([_word(name, kind), *bounds])


def _word(name: str, kind: dict[str, Any]) -> str:
    if name.endswith("_s"):
        return "duration"
    if name.endswith("_bytes"):
        return "size"
    formats = {"password": "secret", "path": "path"}
    types = {"string": "text", "array": "list"}
    return formats.get(kind.get("format", "")) or types.get(kind["type"]) or str(kind["type"])


def _default(name: str, value: Any) -> str:
    if value in (None, [], ""):
        return ""
    if name.endswith("_s"):
        return code(format_duration(value))
    if name.endswith("_bytes"):
        return code(f"{value // 1024 // 1024}MiB")
    return code(str(value))


def _is_read(name: str) -> bool:
    """Whether any module asks for the setting, as an attribute or by its name."""
    return any(re.search(rf"\.{name}\b|[\"']{name}[\"']", text) for text in _sources())


def _sources() -> Iterator[str]:
    for path in modules().values():
        if path != Path(settings.__file__):
            yield path.read_text(encoding="utf-8")
    # Within the settings, a property may stand for a field.
    yield re.sub(r"#.*", "", inspect.getsource(Settings))

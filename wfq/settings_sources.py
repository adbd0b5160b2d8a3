"""Where settings are read from, in order, and how an error names its source.

`Reading` is one pass over the sources. pydantic-settings parses the environment and ``.env`` and
merges by precedence; what is added here is the trail that says where each value came from.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from wfq.errors import ConfigurationError
from wfq.urls import mask_url

#: A path into the settings, and the words for where its value came from.
Location = tuple[str | int, ...]
Origins = dict[Location, str]

ENV_PREFIX = "WFQ_"

#: Secrets that may stand in a file instead, named by the setting with `_file` behind it.
SECRETS_IN_FILES = ("redis_url", "encryption_keys")

#: Longest value that an error line repeats.
_SHOWN = 80

_reading: ContextVar[Reading] = ContextVar("wfq_settings_reading")


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one source; `kind` decides how its settings are named in messages."""

    kind: str
    values: dict[str, Any]

    def label(self, location: Location) -> str:
        """Return the setting's name as one writes it in this source."""
        name = ".".join(map(str, location))
        match self.kind:
            case "argument":
                return f"argument {name}"
            case "environment" | ".env":
                variable = ENV_PREFIX + "__".join(map(str, location)).upper()
                return variable if self.kind == "environment" else f"{variable} in .env"
            case "REDIS_URL" | "REDIS_URL in .env":
                return self.kind
            case _:
                return f"{name} in {self.kind}"


class _LayerSource(PydanticBaseSettingsSource):
    """A layer in the form that pydantic-settings merges."""

    def __init__(self, settings_cls: type[BaseSettings], layer: Layer) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._layer.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._layer.values


class Reading:
    """One pass over all sources of a directory; a context manager around `Settings()`."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self._environment = environment
        self._layers: list[Layer] = []
        #: Settings that were read from a file of their own -> where the file was named.
        self._file_origins: dict[str, str] = {}
        self._token: Token[Reading] | None = None

    @classmethod
    def current(cls) -> Reading:
        """Return the pass in progress; a bare `Settings()` reads the working directory."""
        return _reading.get(None) or cls(Path.cwd(), os.environ)

    def __enter__(self) -> Self:
        self._token = _reading.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _reading.reset(self._token)

    def sources(
        self,
        settings_cls: type[BaseSettings],
        arguments: PydanticBaseSettingsSource,
        environment: PydanticBaseSettingsSource,
        dotenv: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return every source, highest first. Raises: ConfigurationError."""
        dotenv_path = self.directory / ".env"
        has_dotenv = dotenv_path.is_file()
        # pydantic-settings drops names without our prefix that are settings: REDIS_URL is one.
        plain = dotenv_values(dotenv_path) if has_dotenv else {}
        prefixed = _read(".env", dotenv) if has_dotenv else {}
        layers = [
            Layer("argument", arguments()),
            Layer("environment", _read("the environment", environment)),
            # And it passes on names that are none of ours.
            Layer(".env", {k: v for k, v in prefixed.items() if k in settings_cls.model_fields}),
            Layer("wfq.toml", _toml(self.directory / "wfq.toml", settings_cls)),
            Layer("[tool.wfq] in pyproject.toml", self._pyproject(settings_cls)),
            Layer("REDIS_URL", _fallback(self._environment.get("REDIS_URL"))),
            Layer("REDIS_URL in .env", _fallback(plain.get("REDIS_URL"))),
        ]
        self._layers = layers
        for name in SECRETS_IN_FILES:
            self._settle(name, layers)
        return tuple(_LayerSource(settings_cls, layer) for layer in layers)

    def _pyproject(self, settings_cls: type[BaseSettings]) -> dict[str, Any]:
        return _toml(self.directory / "pyproject.toml", settings_cls, ("tool", "wfq"))

    def _settle(self, name: str, layers: list[Layer]) -> None:
        """Let the highest source decide between a secret and the file that holds it."""
        in_file = f"{name}_file"
        for layer in layers:
            path = layer.values.get(in_file)
            if path is None and layer.values.get(name) is None:
                continue
            if path is not None and layer.values.get(name) is not None:
                value, file = layer.label((name,)), layer.label((in_file,))
                raise ConfigurationError(f"{value} and {file} are both set; keep one")
            if path is not None:
                self._file_origins[name] = origin = layer.label((in_file,))
                layer.values[name] = _secret_in(self.directory / path, origin)
            return

    def layer(self, location: Location) -> tuple[Layer, Location] | None:
        """Return the source that decided a location, and how much of the location it holds."""
        for length in range(len(location), 0, -1):
            for layer in self._layers:
                if _holds(layer.values, location[:length]):
                    return layer, location[:length]
        return None

    def label(self, location: Location) -> str:
        """Return the words for a setting and its source: ``WFQ_API_PORT``."""
        if location and location[0] in self._file_origins:
            return self._file_origins[str(location[0])]
        found = self.layer(location)
        return found[0].label(location) if found else ".".join(map(str, location))

    def origins(self) -> Origins:
        """Return the label of every value that no default gave."""
        return {
            location: self.label(location)
            for layer in self._layers
            for location in _locations(layer.values)
        }


def explain(
    error: Exception, reading: Reading, settings_cls: type[BaseSettings]
) -> ConfigurationError:
    """Return the one-line error for what reading or validating the settings raised."""
    if not isinstance(error, ValidationError):
        return ConfigurationError(f"cannot read the settings: {mask_url(str(error))}")
    errors = error.errors(include_url=False)
    first, location = errors[0], errors[0]["loc"]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        return ConfigurationError(f"{reading.label(location)}: there is no such setting{more}")
    said = first["msg"].removeprefix("Value error, ")
    value = "" if _is_secret(settings_cls, location) else _shown(first["input"])
    return ConfigurationError(
        f"{reading.label(location)}{value}: {said[:1].lower()}{said[1:]}{more}"
    )


def _shown(value: object) -> str:
    if isinstance(value, (Mapping, list, tuple, BaseModel)):
        return ""
    text = mask_url(repr(value))
    return f" = {text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}"


def _is_secret(settings_cls: type[BaseSettings], location: Location) -> bool:
    """Whether a value may be a secret: its field's type says so, or any name on its way."""
    field = settings_cls.model_fields.get(str(location[0])) if location else None
    named = any(word in str(part) for part in location for word in ("token", "url", "secret"))
    return named or field is None or SecretStr.__name__ in repr(field.annotation)


def _read(what: str | Path, source: PydanticBaseSettingsSource) -> dict[str, Any]:
    try:
        return source()
    except (ValueError, OSError) as exc:
        # SettingsError names the field and hides its value; its cause is the JSON error.
        cause = f": {exc.__cause__}" if exc.__cause__ else ""
        raise ConfigurationError(f"cannot read {what}: {mask_url(str(exc))}{cause}") from exc


def _toml(
    path: Path, settings_cls: type[BaseSettings], table: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a TOML file's settings; none where there is no file or table."""
    try:
        with path.open("rb") as file:
            values: Any = tomllib.load(file)
    except (FileNotFoundError, IsADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path.name} is not valid TOML: {exc}") from exc
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path.name}: {exc.strerror}") from exc
    for name in table:
        values = values.get(name, {}) if isinstance(values, dict) else {}
    if not isinstance(values, dict):
        raise ConfigurationError(f"{'.'.join(table)} in {path.name} is not a table")
    # A misspelt name in a file of ours would otherwise be dropped in silence.
    for name in values:
        if name not in settings_cls.model_fields:
            near = difflib.get_close_matches(name, settings_cls.model_fields, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"{name} in {path.name}: there is no such setting{hint}")
    return values


def _fallback(url: str | None) -> dict[str, Any]:
    return {"redis_url": url} if url and url.strip() else {}


def _secret_in(path: Path, label: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"{label}: cannot read {str(path)!r}: {reason}") from exc
    if not text:
        raise ConfigurationError(f"{label}: {str(path)!r} is empty")
    return text


def _holds(values: object, location: Location) -> bool:
    for part in location:
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            return False
    return True


def _locations(values: Mapping[str, Any], prefix: Location = ()) -> Iterator[Location]:
    """Yield the location of every value, tables before what is in them."""
    for name, value in values.items():
        yield (*prefix, name)
        if isinstance(value, dict):
            yield from _locations(value, (*prefix, name))

"""Settings, and where each came from.

Precedence: argument > ``WFQ_*`` environment (nested with ``__``) > ``.env`` > ``wfq.toml`` >
``[tool.wfq]`` in ``pyproject.toml`` > default. The files are those of the working directory.
``REDIS_URL`` is taken, from the environment or ``.env``, where nothing sets `redis_url`.

::

    settings = load_settings(namespace="shop")
    settings.limits.payload_bytes
    settings.origin("namespace")          # "argument namespace"
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from wfq.durations import Seconds
from wfq.rules import ListenerRule
from wfq.settings_sources import Origins, Reading, explain
from wfq.urls import check_redis_url, mask_url

#: Namespaces enter hash tags and channel names, application ids enter key names.
_NAMESPACE = r"[A-Za-z0-9._-]{1,64}"
_APP_ID = r"[A-Za-z0-9._:@-]{1,200}"

_KIB = 1024
_MIB = 1024 * 1024


class Limits(BaseModel):
    """What one instance, turn or payload may hold; over a limit is a clear error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: One input, output, event or custom status, encoded.
    payload_bytes: Annotated[ByteSize, Field(ge=_KIB)] = ByteSize(_MIB)
    #: All that one turn decides, encoded; over it the instance is STALLED, until it is raised.
    turn_bytes: Annotated[ByteSize, Field(ge=_KIB)] = ByteSize(4 * _MIB)
    #: External events that wait in one instance for a waiter.
    inbox_events: Annotated[int, Field(ge=1)] = 10_000
    #: Events that one generation may consume (results, timers, external events). A fifth of it
    #: is warned of; at it, all but ending and continue_as_new raises HistoryTooLong.
    history_events: Annotated[int, Field(ge=10)] = 50_000
    #: Actions that one turn may decide.
    turn_actions: Annotated[int, Field(ge=1)] = 100_000


class ApiToken(BaseModel):
    """A token of the HTTP API and what its bearer may do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr
    role: Literal["read", "operate", "admin"] = "admin"


class Settings(BaseSettings):
    """Every setting of wfq. Made by `load_settings`; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="WFQ_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        # Foreign names in .env are none of our business; wfq.toml is checked by `explain`.
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,
    )

    #: redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// (also rediss+... with TLS,
    #: and valkey...) or memory://. None: the embedded server of this directory.
    redis_url: SecretStr | None = None
    #: A file that holds the URL, for a secret that must not stand in the environment.
    redis_url_file: Path | None = None
    #: Keys that encrypt payloads, NAME:BASE64 with commas between; the first one encrypts.
    encryption_keys: SecretStr | None = None
    #: A file that holds the keys.
    encryption_keys_file: Path | None = None
    #: The embedded server's binary, where the one found by itself will not do.
    redis_bin: Path | None = None
    #: Where the embedded server keeps its data.
    embedded_dir: Path = Path(".wfq")
    #: Keeps applications on one Redis apart: nothing is shared between two namespaces.
    namespace: Annotated[str, Field(pattern=f"^{_NAMESPACE}$")] = "default"
    #: Partitions of a namespace that does not exist yet; fixed from then on.
    partitions: Annotated[int, Field(ge=1, le=1024)] = 16
    #: The application: whose code runs an instance. Also the name of its queue.
    app_id: Annotated[str, Field(pattern=f"^{_APP_ID}$")] = "default"
    #: The module or file with the workflows, where a command gets none.
    app: str | None = None

    #: Activities that run at once in one worker process.
    concurrency: Annotated[int, Field(ge=1, le=100_000)] = 64
    #: Worker processes of one `wfq worker` or `wfq dev`, under a supervisor.
    processes: Annotated[int, Field(ge=1, le=1024)] = 1
    #: An orchestrator's right to a partition without renewal; a crash delays for so long.
    lease_s: Annotated[Seconds, Field(ge=0.5)] = 5.0
    #: An activity worker's right to a task without renewal.
    task_lease_s: Annotated[Seconds, Field(ge=0.5)] = 15.0
    #: Deliveries of one attempt without a result before the task fails with WorkerLost.
    max_deliveries: Annotated[int, Field(ge=1)] = 5
    #: A turn that runs longer is aborted.
    turn_timeout_s: Annotated[Seconds, Field(gt=0)] = 10.0
    #: How long an activity or a workflow may wait for a worker that knows its name, before STALLED.
    unknown_grace_s: Seconds = 30.0
    #: From the first SIGTERM to the end of running activities.
    drain_s: Seconds = 30.0
    #: How long an ended instance is kept; None keeps it until it is purged.
    retention_s: Annotated[Seconds, Field(ge=1)] | None = None
    #: The same for COMPLETED ones alone; None takes retention_s.
    retention_completed_s: Annotated[Seconds, Field(ge=1)] | None = None
    #: The same for FAILED ones alone; None takes retention_s.
    retention_failed_s: Annotated[Seconds, Field(ge=1)] | None = None
    #: The same for TERMINATED ones alone; None takes retention_s.
    retention_terminated_s: Annotated[Seconds, Field(ge=1)] | None = None
    limits: Limits = Limits()

    #: Where the HTTP API listens; beyond loopback it needs a token.
    api_host: str = "127.0.0.1"
    #: 0 takes a free one.
    api_port: Annotated[int, Field(ge=0, le=65_535)] = 3500
    #: The token of the HTTP API; needed for a bind beyond loopback.
    api_token: SecretStr | None = None
    #: Further tokens, each with its role.
    api_tokens: tuple[ApiToken, ...] = ()
    #: Names by which the API may be called besides loopback's (the Host header).
    api_allowed_hosts: tuple[str, ...] = ()
    #: Whether the HTTP API and its dashboard refuse everything that changes something.
    api_read_only: bool = False

    #: Where a worker process answers Prometheus at /metrics; none: nowhere. 0 takes a free port;
    #: of several processes, the next ones take the ports that follow.
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    #: Its address. The figures tell names of workflows and activities, no data of theirs.
    metrics_host: str = "127.0.0.1"

    #: Rules of `wfq worker --only listener` and of a `wfq listen` without options.
    listeners: tuple[ListenerRule, ...] = ()

    #: auto: text on a terminal, JSON lines otherwise.
    log_format: Literal["auto", "text", "json"] = "auto"
    #: debug also shows where an unexpected error of a command came from.
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ] = "info"

    _origins: Origins = PrivateAttr(default_factory=Origins)

    @field_validator("redis_url", mode="after")
    @classmethod
    def _known_url(cls, url: SecretStr | None) -> SecretStr | None:
        return SecretStr(check_redis_url(url.get_secret_value())) if url else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        reading = Reading.current()
        return reading.sources(settings_cls, init_settings, env_settings, dotenv_settings)

    @property
    def url(self) -> str | None:
        """The configured Redis URL with its password: for opening it, never for showing."""
        return self.redis_url.get_secret_value() if self.redis_url else None

    @property
    def masked_url(self) -> str | None:
        """The configured Redis URL as it may be shown."""
        return mask_url(self.url) if self.url else None

    @property
    def tokens(self) -> tuple[ApiToken, ...]:
        """Every token of the HTTP API; `api_token` has the role admin."""
        first = (ApiToken(token=self.api_token),) if self.api_token else ()
        return first + self.api_tokens

    def origin(self, name: str) -> str:
        """Return where a setting came from: ``WFQ_NAMESPACE``, ``wfq.toml``, ``default``, ..."""
        return self._origins.get((name,), "default")

    def shown(self) -> dict[str, Any]:
        """Return every setting as JSON-ready values, secrets masked."""
        values = self.model_dump(mode="json")
        values["redis_url"] = self.masked_url
        return values


def load_settings(directory: Path | None = None, /, **arguments: object) -> Settings:
    """Return the settings for `directory` (the working directory unless given).

    `arguments` are flags or keyword options by field name; None means not given.

    Raises: ConfigurationError, one line that names the setting and where its value came from.
    """
    given: dict[str, Any] = {k: value for k, value in arguments.items() if value is not None}
    reading = Reading(directory or Path.cwd(), os.environ)
    # pydantic-settings' own argument: which .env to read.
    given["_env_file"] = reading.directory / ".env"
    with reading:
        try:
            made = Settings(**given)
        except (ValidationError, ValueError, OSError) as exc:
            raise explain(exc, reading, Settings) from exc
    made._origins = reading.origins()
    return made


def override(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """Return a copy with some values replaced; the values are not validated again."""
    copied = settings.model_copy(update=dict(changes))
    copied._origins = {**settings._origins, **{(name,): "argument" for name in changes}}
    return copied

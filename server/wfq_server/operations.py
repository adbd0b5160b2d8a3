"""The operations of the API as data: the routes and the OpenAPI document both come from here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from wfq_server.security import Role

#: Dapr's versions of its workflow API; the answers are the same.
VERSIONS = ("/v1.0", "/v1.0-beta1", "/v1.0-alpha1")

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header; `schema` is its JSON schema."""

    name: str
    about: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    place: Literal["query", "header"] = "query"
    #: Whether it may be given several times; of any other the second value would be lost.
    repeatable: bool = False
    #: Other names that it answers to.
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One documented answer; `schema` names a schema of the document, None means no body."""

    about: str
    schema: str | None = None
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `path` stands behind the version where `versioned`.

    `code` is the errorCode of what goes wrong in this operation alone. `role` None means that no
    token is asked for.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    about: str
    handler: Handler
    role: Role | None
    code: str
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    #: What the JSON body means; None where there is none.
    body: str | None = None
    versioned: bool = True

    def paths(self) -> tuple[str, ...]:
        """Every path that the operation answers at."""
        if not self.versioned:
            return (self.path,)
        return tuple(version + self.path for version in VERSIONS)

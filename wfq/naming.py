"""Under which name a function is known, for clients that have no registry."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from wfq.errors import ConfigurationError
from wfq.signatures import (
    EMPTY,
    REGISTERED_NAME,
    checked_label,
    own_name,
    registered_name,
    workflow_signature,
)


def remember_name(fn: Callable[..., Any], name: str) -> None:
    """Let clients find the name that a function was registered under."""
    try:
        setattr(fn, REGISTERED_NAME, name)
    except (AttributeError, TypeError):
        pass  # a built-in or a slotted callable: its users pass the name


def workflow_ref(workflow: Callable[..., Any] | str) -> tuple[str, Any]:
    """Return the name of a workflow and its annotated result, None where there is none.

    The name is the one it was registered under, else its alternate name, else its own.
    Raises: ConfigurationError for what is neither a function nor a name.
    """
    if isinstance(workflow, str):
        return checked_label(workflow, "the name of the workflow"), None
    if not callable(workflow):
        raise ConfigurationError(f"{workflow!r:.100} is not a workflow; pass a function or a name")
    return registered_name(workflow) or own_name(workflow), _result_type(workflow)


@lru_cache(maxsize=1024)
def _result_type(workflow: Callable[..., Any]) -> Any:
    try:
        result = workflow_signature(workflow).result
    except ConfigurationError:
        return None
    return None if result is EMPTY else result

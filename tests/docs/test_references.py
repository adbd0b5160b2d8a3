"""The references say what the code says now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.references.pages import GENERATED


@pytest.mark.parametrize(
    ("path", "make"), GENERATED.items(), ids=lambda it: getattr(it, "stem", "")
)
def test_it_is_current(path: Path, make: Callable[[], str]) -> None:
    hint = f"{path.name} is not current; python -m tests.docs.references writes it"

    assert path.read_text(encoding="utf-8") == make(), hint

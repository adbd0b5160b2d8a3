"""Parsing source where Python itself may fail by chance."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from wfq.analysis import parsing


def test_a_failure_of_the_interpreter_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fails = ast.parse, [SystemError("depth mismatch"), SystemError("depth mismatch")]

    def parse(*args: Any) -> ast.Module:
        if fails:
            raise fails.pop()
        module: ast.Module = real(*args)
        return module

    monkeypatch.setattr(ast, "parse", parse)

    assert ast.unparse(parsing.parse("x = 1", "app.py")) == "x = 1"
    assert fails == []


def test_a_failure_that_stays_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: Any) -> ast.Module:
        raise SystemError("depth mismatch")

    monkeypatch.setattr(ast, "parse", parse)

    with pytest.raises(ValueError, match=r"app\.py cannot be parsed: depth mismatch"):
        parsing.parse("x = 1", "app.py")


def test_wrong_source_is_a_syntax_error() -> None:
    with pytest.raises(SyntaxError):
        parsing.parse("x = =", "app.py")

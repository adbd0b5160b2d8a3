from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from wfq_cli.app import cli


class Cli:
    """Runs `wfq` commands in this process, in a directory of their own, as if piped."""

    def __init__(self, url: str) -> None:
        self.env = {"WFQ_REDIS_URL": url}
        self._runner = CliRunner(env=self.env)

    def run(self, *arguments: str, stdin: str | None = None) -> Result:
        """Run a command; the result has exit_code, stdout and stderr."""
        return self._runner.invoke(cli, list(arguments), input=stdin)

    def ok(self, *arguments: str, stdin: str | None = None) -> str:
        """Run a command that must succeed and return its stdout."""
        done = self.run(*arguments, stdin=stdin)
        assert done.exit_code == 0, done.output
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command that must succeed and return the JSON it prints."""
        return json.loads(self.ok(*arguments))

    def rows(self, *arguments: str) -> list[Any]:
        """Run a command that must succeed and return its JSON lines."""
        return [json.loads(line) for line in self.ok(*arguments).splitlines()]

    def fails(self, code: int, *arguments: str, stdin: str | None = None) -> str:
        """Run a command that must end with `code`; returns its one line on stderr."""
        done = self.run(*arguments, stdin=stdin)
        assert done.exit_code == code, done.output
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("wfq: ")
        return lines[0].removeprefix("wfq: ")


@pytest.fixture
def wfq(valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The `wfq` command on an empty Valkey."""
    monkeypatch.chdir(tmp_path)
    # Many tests write a module of this name, and one process may run several of them.
    monkeypatch.delitem(sys.modules, "app", raising=False)
    return Cli(valkey_url)

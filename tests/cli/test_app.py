"""The command as a program: help, completion, usage errors."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from tests.servers import clean_env
from wfq_cli import exits
from wfq_cli.app import ALIASES, COMMANDS, cli


def wfq(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wfq_cli", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_env(env),
        stdin=subprocess.DEVNULL,
    )


def test_help_answers_without_redis_or_pydantic() -> None:
    script = (
        "import sys\n"
        "from wfq_cli.app import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'redis', 'pydantic', 'orjson', 'starlette', 'asyncio', 'wfq'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "terminate" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_explains_itself(name: str) -> None:
    done = CliRunner().invoke(cli, [name, "--help"])

    assert done.exit_code == 0, done.output
    assert f"wfq {name}" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_the_list_is_the_help_of_the_command(name: str) -> None:
    entry = COMMANDS[name]

    command = getattr(import_module(f"wfq_cli.{entry.module}"), entry.function)

    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help is not None


def test_an_alias_is_the_command() -> None:
    assert ALIASES == {"query": "get", "status": "get"}
    for alias in ALIASES:
        assert CliRunner().invoke(cli, [alias, "--help"]).exit_code == 0


def test_no_command_shows_the_help() -> None:
    done = CliRunner().invoke(cli, [])

    assert done.exit_code == 0, done.output
    assert "Commands" in done.stdout or "Instances:" in done.stdout


def test_the_version_is_that_of_the_package() -> None:
    done = CliRunner().invoke(cli, ["--version"])

    assert done.stdout.startswith("wfq 0.")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["strat"], "there is no command 'strat'; did you mean 'start'?"),
        (["xyzzy"], "there is no command 'xyzzy'; 'wfq --help' lists them"),
        (["--frob"], "no such option '--frob'; see 'wfq --help'"),
        (["list", "--where", "a=b"], "no such option '--where'; see 'wfq list --help'"),
        (["list", "--stats", "FAILED"], "no such option '--stats'; did you mean '--status'?"),
        (["start", "saga", "-5"], "no such option '-5'; put '--' before a value"),
        (["get"], "missing argument 'ID'; see 'wfq get --help'"),
        (["list", "-o", "yaml"], "yaml"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(arguments: list[str], line: str) -> None:
    done = CliRunner().invoke(cli, arguments)

    assert done.exit_code == 2
    assert done.stdout == ""
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_module_runs_as_a_program() -> None:
    done = wfq("strat")

    assert done.returncode == 2
    assert done.stderr == "wfq: there is no command 'strat'; did you mean 'start'?\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])

    assert done.exit_code == 0, done.output
    assert "_WFQ_COMPLETE" in done.stdout


def test_completion_without_a_shell_takes_that_of_the_user() -> None:
    runner = CliRunner(env={"SHELL": "/usr/bin/fish"})

    assert "fish" in runner.invoke(cli, ["completion"]).stdout
    assert runner.invoke(cli, ["completion"], env={"SHELL": "/bin/tcsh"}).exit_code == 2


def test_commands_are_completed_without_loading_them() -> None:
    done = wfq(_WFQ_COMPLETE="bash_complete", COMP_WORDS="wfq su", COMP_CWORD="1")

    assert done.stdout.split() == ["plain,suspend"]


def test_an_unexpected_error_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise RuntimeError("a\nb")

    monkeypatch.setitem(cli.commands, "get", broken)
    monkeypatch.setattr(type(cli), "get_command", lambda *_: broken)

    done = CliRunner().invoke(cli, ["get"])

    assert done.exit_code == exits.UNEXPECTED
    assert done.stderr == ("wfq: unexpected RuntimeError: a b (WFQ_LOG_LEVEL=debug shows where)\n")


def test_an_interrupt_has_its_own_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(cli), "get_command", lambda *_: interrupted)

    done = CliRunner().invoke(cli, ["get"])

    assert done.exit_code == 130
    assert done.stderr.strip().splitlines()[-1] == "wfq: interrupted"


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "wfq_cli", "--help"],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_env(),
        )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m wfq_cli config show {closed}', sys.executable],
        capture_output=True,
        text=True,
        env=clean_env(),
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert ("redis_url" in done.stdout) == (closed == "2>&-")

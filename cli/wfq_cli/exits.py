"""How a command ends: its exit code, and an error as one line on stderr.

====  =============================================================
code  meaning
====  =============================================================
0     done
1     unexpected
2     usage or bad input
3     the instance FAILED
4     the instance was TERMINATED
5     no such instance
6     a wait timed out
7     conflict: the instance is in another state than the verb needs
8     nondeterminism was found
69    Redis or the API cannot be reached
130   interrupted
====  =============================================================

Only click is imported here; the errors of wfq are looked at when one was raised.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn

import click

OK = 0
UNEXPECTED = 1
USAGE = 2
FAILED = 3
TERMINATED = 4
NOT_FOUND = 5
TIMED_OUT = 6
CONFLICT = 7
NONDETERMINISM = 8
UNREACHABLE = 69
INTERRUPTED = 130

#: What an instance's final status means for the verbs that wait for it.
BY_STATUS = {"COMPLETED": OK, "FAILED": FAILED, "TERMINATED": TERMINATED}

#: An error line may quote a payload; a terminal's worth of it is enough.
_LONGEST_LINE = 2000


class Exit(Exception):
    """Ends the command with `exit_code` and one line; for what is no error of the library."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ReaderLeft(Exception):
    """Whoever reads stdout (`| head`) has what it wanted."""


def run(command: Callable[[], Any]) -> NoReturn:
    """Run `command` and end the process with its exit code; errors become one line."""
    _open_closed_streams()
    try:
        code = command()
        sys.stdout.flush()
    except click.exceptions.Exit as exc:
        code = exc.exit_code
    except ReaderLeft:
        # Python would complain about the pipe once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = OK
    except (Exception, KeyboardInterrupt) as exc:
        code, line = explain(exc)
        warn(line, colour="red")
        if os.environ.get("WFQ_LOG_LEVEL", "").lower() == "debug":
            sys.excepthook(type(exc), exc, exc.__traceback__)
    sys.exit(code if isinstance(code, int) else OK)


def _open_closed_streams() -> None:
    """Let output go nowhere where nobody gave us a place for it (`>&-`, some supervisors)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Open for as long as the process lives.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Raise ReaderLeft for a broken pipe, which click would make an exit code 1."""
    try:
        yield
    except BrokenPipeError as exc:
        raise ReaderLeft from exc


def coloured() -> bool:
    """Whether colours and other emphasis are wanted (NO_COLOR, TERM=dumb)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def emphasis() -> bool | None:
    """What click takes as `color`: never escape codes, or those that fit the stream."""
    return None if coloured() else False


def warn(line: str, *, colour: str = "yellow") -> None:
    """Write one line to stderr, after the program's name."""
    name = click.style("wfq:", fg=colour, bold=True)
    click.echo(f"{name} {line}", err=True, color=emphasis())


def note(line: str) -> None:
    """Write a remark to stderr: it is worth a line in a log, too."""
    click.secho(line, err=True, dim=True, color=emphasis())


def hint(line: str) -> None:
    """Write what to do next to stderr, for a person; scripts know."""
    if sys.stderr.isatty():
        note(line)


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the one line for what a command raised."""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return INTERRUPTED, "interrupted"
    if isinstance(error, click.UsageError):
        return USAGE, _usage(error)
    if isinstance(error, click.ClickException):
        return USAGE, one_line(error.format_message())
    if isinstance(error, Exit):
        return error.exit_code, one_line(str(error))
    code = code_of(error)
    if code is None:
        kind = type(error).__name__
        debug = "WFQ_LOG_LEVEL=debug shows where"
        return UNEXPECTED, one_line(f"unexpected {kind}: {error}") + f" ({debug})"
    return code, one_line(str(error))


def code_of(error: BaseException) -> int | None:
    """Return the exit code of an error that wfq raises on purpose, None for any other."""
    from wfq import errors

    table: tuple[tuple[type[errors.WfqError], int], ...] = (
        (errors.InstanceNotFound, NOT_FOUND),
        (errors.InstanceError, CONFLICT),
        (errors.WaitTimeout, TIMED_OUT),
        (errors.NonDeterministicWorkflow, NONDETERMINISM),
        (errors.SchemaMismatch, USAGE),
        (errors.StorageError, UNREACHABLE),
        (errors.ConfigurationError, USAGE),
        (errors.InvalidIdentifier, USAGE),
        (errors.PayloadError, USAGE),
        (errors.WorkflowError, USAGE),
        (errors.WfqError, UNEXPECTED),
    )
    return next((code for kind, code in table if isinstance(error, kind)), None)


def _usage(error: click.UsageError) -> str:
    unknown = isinstance(error, click.NoSuchOption)
    message = one_line(error.message if unknown else error.format_message()).rstrip(".")
    message = message[:1].lower() + message[1:]
    path = error.ctx.command_path if error.ctx else "wfq"
    # Our own messages say what to do next, behind a semicolon.
    if ";" in message:
        return message
    instead = _instead(error) if isinstance(error, click.NoSuchOption) else ""
    return f"{message}; {instead}" if instead else f"{message}; see '{path} --help'"


def _instead(error: click.NoSuchOption) -> str:
    """What was meant by an option that does not exist, where that can be guessed."""
    given = error.option_name.lstrip("-")
    if given[:1].isdigit():
        return "put '--' before a value that begins with '-'"
    # click compares the dashes too, which every option has.
    names = {name.lstrip("-"): name for name in error.possibilities or ()}
    near = get_close_matches(given, names, 1)
    return f"did you mean '{names[near[0]]}'?" if near else ""


def one_line(text: str) -> str:
    """Return `text` without line breaks and control characters, cut where it is very long."""
    flat = " ".join(text.split())
    plain = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in flat)
    return plain if len(plain) <= _LONGEST_LINE else plain[:_LONGEST_LINE] + "..."

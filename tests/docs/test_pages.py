"""Every page: its links lead somewhere, and what it shows is accepted by what it is shown for."""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import wfq as wf
from tests.docs.executed import PATTERNS, excerpts, on, programs, settings_files
from tests.docs.markdown import DOCS, Block, all_blocks, anchors, blocks, links, pages
from tests.house.sources import modules
from tests.servers import ROOT, clean_env
from wfq import compat
from wfq.management.starting import StartKeywords
from wfq.settings import load_settings
from wfq_cli.app import cli

LANGUAGES = {"diff", "python", "sh", "text", "toml"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# --- links


@pytest.mark.parametrize("page", pages(), ids=name)
def test_its_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)

    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = [target.partition("#")[0] for target in links(page) if ":" not in target]
        ahead += [(page.parent / target).resolve() for target in targets if target]

    missing = [name(page) for page in pages() if page not in reached]
    assert missing == [], "link it from README.md, or from a page that is linked there"


# --- blocks


@pytest.mark.parametrize("page", pages(), ids=name)
def test_its_blocks_say_what_they_are(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert len(blocks(page)) * 2 == page.read_text(encoding="utf-8").count("```")


@pytest.mark.parametrize("block", settings_files(), ids=str)
def test_its_settings_are_settings(block: Block, tmp_path: Path) -> None:
    assert tomllib.loads(block.text)
    (tmp_path / "wfq.toml").write_text(block.text)

    load_settings(tmp_path)


def commands() -> list[tuple[str, str]]:
    """Every line of a shell block that calls `wfq`, and where it stands."""
    return [
        (f"{block} {line.partition('#')[0].strip()}", line)
        for block in all_blocks("sh")
        for line in block.text.splitlines()
        if line.startswith("wfq ")
    ]


@pytest.mark.parametrize("line", [c[1] for c in commands()], ids=[c[0] for c in commands()])
def test_its_commands_are_taken_by_the_command_line(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    for sign in ("|", "||", "&&", ">"):
        words = words[: words.index(sign)] if sign in words else words
    command: click.Command = cli
    context = click.Context(cli, info_name="wfq")
    while isinstance(command, click.Group) and words:
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        # Raises click.UsageError for an option or argument that is not there.
        context = command.make_context(command.name, list(words), parent=context)
        words = [*getattr(context, "_protected_args", ()), *context.args]


# --- Python


def example_sources() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")]


@pytest.mark.parametrize("block", excerpts(), ids=str)
def test_an_excerpt_stands_in_an_example(block: Block) -> None:
    assert any(block.text in source for source in example_sources())


def _keep_the_tracer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page set the process's tracer provider for its own test only."""
    with contextlib.suppress(ImportError):
        from opentelemetry import trace
        from opentelemetry.util._once import Once

        monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
        monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


@pytest.mark.parametrize("block", programs(), ids=str)
def test_its_programs_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WFQ_REDIS_URL", f"memory://docs-{block.page.stem}-{block.line}")
    _keep_the_tracer(monkeypatch)

    own: dict[str, object] = {"__name__": "page"}
    exec(compile(block.text, str(block), "exec", dont_inherit=True), own)

    # What it exports spans with goes before pytest closes the stream that they are printed to.
    if (provider := own.get("provider")) is not None:
        provider.shutdown()  # type: ignore[attr-defined]  # a TracerProvider


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_type_checker_accepts_its_python(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="the type checker is not installed")
    for page in pages():
        if page == PATTERNS:
            continue
        python = on(page, "python")
        if page == ROOT / "README.md":
            (tmp_path / "readme.py").write_text("\n\n".join(b.text for b in python))
            continue
        for block in python:
            file = re.match(r"# (\w+\.py)\n", block.text)
            own = f"{page.stem.replace('-', '_')}_{block.line}.py"
            (tmp_path / (file[1] if file else own)).write_text(block.text)

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-version", "3.11", "--check-untyped-defs",
         "--cache-dir", tmp_path / "cache", *sorted(tmp_path.glob("*.py"))],
        cwd=tmp_path,
        env=clean_env({"MYPYPATH": str(ROOT)}),
        capture_output=True,
        text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


# --- words


def test_the_reasons_that_it_explains_are_those_of_the_code() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    table = page.partition("| reason |")[2].partition("\n\n")[0]
    reasons = re.findall(r"^\| `([^`]+)`", table, re.M)
    said = " ".join(_texts())

    assert len(reasons) > 5
    for reason in reasons:
        assert [part for part in reason.split("...") if part.strip() not in said] == [], reason


def _texts() -> list[str]:
    """Every text in the code, joined as the compiler joins it."""
    found = []
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_what_is_the_same_as_in_dapr_is_there() -> None:
    page = (DOCS / "migrating-from-dapr.md").read_text(encoding="utf-8")
    names = page.partition("## Names")[2].partition("### Command line")[0]
    rows = [row.split("|")[1:3] for row in names.splitlines() if row.startswith("| ")]
    same = [dapr for dapr, ours in rows if "the same" in ours]
    known = _public_names()

    assert len(same) > 25
    missing = {
        word
        for cell in same
        for shown in re.findall(r"`([^`]+)`", cell)
        for word in re.findall(r"[A-Za-z_]\w{2,}", shown.replace("...", ""))
        if word not in known
    }
    assert missing == set()


def _public_names() -> set[str]:
    """Names of our public classes, their members and the parameters of these."""
    words = {"wfr", "task", "tasks", "dapr", "datetime", "timedelta", *wf.__all__}
    for value in [getattr(wf, public) for public in wf.__all__] + [compat.DaprClient]:
        words.add(getattr(value, "__name__", ""))
        for member in [value, *(getattr(value, attribute) for attribute in dir(value))]:
            words.add(getattr(member, "__name__", ""))
            with contextlib.suppress(TypeError, ValueError):
                words.update(inspect.signature(member).parameters)
        words.update(dir(value))
    return words | set(StartKeywords.__annotations__)


# --- decisions


def decisions() -> list[Path]:
    return sorted((DOCS / "decisions").glob("[0-9]*.md"))


def test_decisions_are_numbered_and_listed() -> None:
    numbers = [int(page.name[:4]) for page in decisions()]

    assert numbers == list(range(1, len(numbers) + 1))
    assert list(links(DOCS / "decisions" / "README.md")) == [page.name for page in decisions()]


@pytest.mark.parametrize("page", decisions(), ids=name)
def test_a_decision_is_short_and_says_why_what_and_what_follows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert text.startswith(f"# {page.name[:4]} ")
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.M) == ["Context", "Decision", "Consequences"]
    assert text.count("\n") <= 40

"""Every Lua script is a contract that can be read on its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.sources import PACKAGES
from tests.servers import command_client
from wfq.storage import scripts

FOLDER = PACKAGES["wfq"] / "storage" / "lua"
FILES = sorted(FOLDER.glob("*.lua"))


def header(path: Path) -> list[str]:
    """Return the comment lines that a script begins with, without their dashes."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").removeprefix(" "))
    return lines


def code(path: Path) -> str:
    """Return a script without its comments."""
    text = path.read_text(encoding="utf-8")
    return "\n".join(line.partition("--")[0] for line in text.splitlines())


def documented(path: Path, what: str) -> list[tuple[str, str]]:
    """Return the index ("" for all of them) and the description of each KEYS or ARGV."""
    shape = re.compile(rf"{what}(?:\[(\d+)\])?\s+(\S.*)")
    found = (shape.fullmatch(line) for line in header(path))
    return [(match[1] or "", match[2]) for match in found if match]


def used(path: Path, what: str) -> set[int]:
    return {int(index) for index in re.findall(rf"\b{what}\[(\d+)\]", code(path))}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_says_what_it_does_and_guarantees(path: Path) -> None:
    lines = header(path)

    assert lines[0].startswith(f"{path.stem}: ")
    assert any(line.startswith("Guarantee: ") for line in lines)
    assert any(line.startswith("Reply: ") for line in lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_documents_every_key_with_its_type(path: Path) -> None:
    told = documented(path, "KEYS")

    assert [int(index) for index, _ in told] == list(range(1, len(told) + 1))
    assert used(path, "KEYS") <= set(range(1, len(told) + 1))
    for _, words in told:
        assert re.match(r"(string|hash|stream|list|set|sorted set)\s+\w", words), words


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_documents_every_argument(path: Path) -> None:
    told = documented(path, "ARGV")
    indexes = [int(index) for index, _ in told if index]

    assert indexes == list(range(1, len(indexes) + 1))
    # Without an index, or with "onwards", all that follow are meant.
    open_ended = any(not index or "onwards" in words or "per " in words for index, words in told)
    assert open_ended or used(path, "ARGV") <= set(indexes)
    if re.search(r"\bARGV\b", code(path)):
        assert told


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_uses_nothing_that_some_server_lacks(path: Path) -> None:
    text = code(path)

    assert not path.read_text(encoding="utf-8").startswith("#!")
    for lacking in ("cmsgpack", "struct.", "bit.", "redis.sha1hex", "redis.setresp"):
        assert lacking not in text
    # Arrays that are empty come out as objects, and large numbers rounded.
    assert "cjson" not in text


def test_every_script_is_known_and_every_known_script_exists() -> None:
    assert {script.name for script in scripts.ALL} == {path.stem for path in FILES}


def test_every_script_compiles(real_redis_url: str) -> None:
    with command_client(real_redis_url) as client:
        for script in scripts.ALL:
            assert client.script_load(script.body) in (script.sha, script.sha.encode())

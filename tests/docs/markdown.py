"""The pages of the documentation, and what is in them: code blocks, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.servers import ROOT

DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `line` is that of its first line of text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        page = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page
        return f"{page}:{self.line}"


@cache
def pages() -> tuple[Path, ...]:
    """Return every page: those at the top of the project, of the examples and of docs/."""
    return (
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "examples").glob("*.md")),
        *sorted(DOCS.rglob("*.md")),
    )


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """Return the fenced blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    return tuple(
        Block(page, text[: match.start("text")].count("\n") + 1, match["language"], match["text"])
        for match in _FENCE.finditer(text)
    )


def all_blocks(language: str) -> list[Block]:
    """Return every block of a language, over all pages."""
    return [block for page in pages() for block in blocks(page) if block.language == language]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links; what stands in code is no link."""
    for match in _LINK.finditer(re.sub(r"`[^`\n]*`", "", prose(page))):
        yield match["target"]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that the headings of a page make."""
    return frozenset(_anchor(match["title"]) for match in _HEADING.finditer(prose(page)))


def _anchor(title: str) -> str:
    """Return the anchor of a heading, as code hosts make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")

"""The site builds without a warning and without the network, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.markdown import DOCS
from tests.docs.site import ELSEWHERE, rewritten
from tests.servers import ROOT, clean_env


class Site(HTMLParser):
    """Links and loaded files of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: dict[str, Any] = dict(attrs)
        self.ids.add(given.get("id") or "")
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") != "canonical":
            self.loaded.append(given.get("href") or "")
        elif given.get("src"):
            self.loaded.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `run.py docs` does it."""
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    made = tmp_path_factory.mktemp("site") / "html"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(made)],
        cwd=ROOT,
        # Whoever asks for the network gets none.
        env=clean_env({"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return made


def pages_of(site: Path) -> dict[Path, Site]:
    return {path: Site(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_page_of_the_documentation_is_in_it(site: Path) -> None:
    missing = [
        page.name
        for page in DOCS.rglob("*.md")
        if page.name != "README.md"
        and not (site / page.relative_to(DOCS).with_suffix(".html")).is_file()
    ]

    assert missing == []
    assert (site / "index.html").is_file()
    assert (site / "changes.html").is_file()


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path, page in pages_of(site).items():
        if path.name != "404.html":
            outside = [target for target in page.loaded if re.match(r"(\w+:)?//", target)]
            assert outside == [], path
            for target in page.loaded:
                assert (path.parent / target.partition("?")[0]).is_file(), (path, target)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", sheet.read_text()), sheet


def test_links_lead_to_what_is_there(site: Path) -> None:
    pages = pages_of(site)
    broken = []
    for path, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if path.name == "404.html" or re.match(r"\w+:", link) or link == "#":
                continue
            wanted = (path.parent / target).resolve() if target else path
            if wanted.is_dir():
                wanted /= "index.html"
            if not wanted.is_file() or (anchor and anchor not in pages[wanted].ids):
                broken.append(f"{path.name}: {link}")

    assert broken == []


def test_every_page_is_in_the_navigation() -> None:
    # The file holds no tags of mkdocs's own.
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text)["nav"]
    listed = {page for part in nav for page in _listed(part)}
    written = {page.relative_to(DOCS).as_posix() for page in DOCS.glob("*.md")}

    wanted = written | set(ELSEWHERE.values()) | {"decisions/README.md"}
    assert listed == wanted, "put new pages into the nav of mkdocs.yml"


def _listed(part: Any) -> list[str]:
    if isinstance(part, str):
        return [part]
    inside = part.values() if isinstance(part, dict) else part
    return [page for one in inside for page in _listed(one)]


def test_links_are_moved_and_code_is_not() -> None:
    text = "[a](docs/cli.md#run) [b](CHANGELOG.md)\n```sh\n[c](docs/cli.md)\n```\n[d](#here)"

    moved = rewritten(text, "index.md")

    assert moved == "[a](cli.md#run) [b](changes.md)\n```sh\n[c](docs/cli.md)\n```\n[d](#here)"
    assert rewritten("[x](../examples/README.md)", "patterns.md") == "[x](examples/README.md)"
    assert rewritten("[x](../concepts.md)", "decisions/README.md") == "[x](../concepts.md)"

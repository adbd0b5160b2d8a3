"""What mkdocs needs to make a site of this repository: pages and links from outside of docs/.

The README is the first page, the changelog one of the last; examples come along as files, so that
every link that works in the repository works in the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Pages of the site by their place in the repository, for those outside of docs/.
ELSEWHERE = {"README.md": "index.md", "CHANGELOG.md": "changes.md"}
#: What pages link to as a file.
FILES = ("docker-compose.yml", "deploy/grafana/wfq.json", "deploy/prometheus/alerts.yml")
_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Any, config: Any) -> Any:
    """Add what stands elsewhere: two pages, the examples and what they link to."""
    from mkdocs.structure.files import File

    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for path in sorted((ROOT / "examples").iterdir()):
        if path.suffix in (".md", ".py"):
            name = f"examples/{path.name}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for name in FILES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to where their targets are in the site."""
    return rewritten(markdown, page.file.src_uri)


def rewritten(markdown: str, page: str) -> str:
    """Return a page with links that fit the site; `page` is its place there."""
    places = {target: source for source, target in ELSEWHERE.items()}
    source = places.get(page) or (page if page.startswith("examples/") else f"docs/{page}")

    def moved(match: re.Match[str]) -> str:
        target = (ROOT / source).parent / match[2]
        try:
            wanted = target.resolve().relative_to(ROOT).as_posix()
        except ValueError:
            return match[0]
        inside = ELSEWHERE.get(wanted) or wanted.removeprefix("docs/")
        return f"{match[1]}{_relative(inside, page)}{match[3]}"

    # Code is shown, not linked.
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else _LINK.sub(moved, part) for part in parts)


def _relative(target: str, page: str) -> str:
    ups = "../" * page.count("/")
    own = page.rpartition("/")[0]
    if own and target.startswith(own + "/"):
        return target[len(own) + 1 :]
    return ups + target

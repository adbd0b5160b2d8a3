"""Every block of code in the documentation is executed by a test."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.executed import EACH, WHOLE, Shown
from tests.docs.markdown import Block, blocks, pages, prose
from tests.servers import ROOT

HERE = Path(__file__).parent
CLAIMED = Counter(
    [
        *(block for each in EACH.values() for block in each()),
        *(block for claimed in WHOLE.values() for block in claimed),
    ]
)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_executed(page: Path) -> None:
    forgotten = [str(block) for block in blocks(page) if block not in CLAIMED]

    assert forgotten == [], "let a test execute it, and say which in tests/docs/executed.py"


def test_what_is_claimed_is_there_once() -> None:
    there = {block for page in pages() for block in blocks(page)}

    assert set(CLAIMED) == there
    assert [str(block) for block, times in CLAIMED.items() if times > 1] == []


@pytest.mark.parametrize("name", [*EACH, *WHOLE])
def test_the_test_that_claims_it_exists_and_looks_at_it(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    (test,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]

    if name in WHOLE:
        assert WHOLE[name], "there is no such block any more"
        assert "shown" in [argument.arg for argument in test.args.args]
    elif EACH[name].__name__ != "signatures":
        (decorator,) = [one for one in test.decorator_list if "parametrize" in ast.unparse(one)]
        assert f"{EACH[name].__name__}()" in ast.unparse(decorator)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_code_hides_from_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^[ \t>]*(?:```|~~~).*$", text, re.M)
    indented = re.findall(r"(?<=\n\n)(?: {4}|\t)(?![-*\d ]).*", prose(page))

    assert len(fences) == 2 * len(blocks(page)), "fences begin a line, with ``` and a language"
    assert indented == [], "put it between fences"
    assert "<pre" not in text


def test_a_block_that_is_left_is_told() -> None:
    one, other = (Block(HERE, line, "sh", "true\n") for line in (1, 2))
    shown = Shown([one, other])

    shown.use(one)

    assert shown.left == [other]
    with pytest.raises(ValueError, match="another test's"):
        shown.use(Block(HERE, 3, "sh", "true\n"))

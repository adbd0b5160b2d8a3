"""Which test executes which block of the documentation.

A block that no test executes is a promise that nobody keeps: `test_executed.py` finds it. There
are two ways. Tests of `EACH` have a case for every block of a list, and are made from that list.
Those of `WHOLE` go through their blocks in order, as a reader would: they ask for the fixture
`shown`, say of each block that they `use` it, and fail at their end if one is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.docs.markdown import DOCS, Block, all_blocks, blocks
from tests.docs.references.pages import GENERATED
from tests.servers import ROOT

README = ROOT / "README.md"
#: The page whose Python is that of the examples, word for word.
PATTERNS = DOCS / "patterns.md"
#: Pages whose Python makes files of a project.
AS_FILES = (README, DOCS / "quickstart.md", DOCS / "testing.md")
#: Pages whose commands speak of a program of the reader's own.
ABOUT_AN_INSTANCE = ("dashboard", "operations", "troubleshooting", "versioning")


def on(page: str | Path, *languages: str) -> list[Block]:
    """Return the blocks of these languages on a page, in order."""
    path = page if isinstance(page, Path) else DOCS / f"{page}.md"
    return [block for block in blocks(path) if block.language in languages]


def programs() -> list[Block]:
    """Python that runs by itself."""
    return [b for b in all_blocks("python") if b.page not in (*AS_FILES, PATTERNS)]


def excerpts() -> list[Block]:
    """Python out of the examples, each of which runs in `tests/examples`."""
    return on(PATTERNS, "python")


def settings_files() -> list[Block]:
    """What stands in a wfq.toml."""
    return all_blocks("toml")


def signatures() -> list[Block]:
    """What the references print from the code, where it is asked what the code says now."""
    return [block for page in GENERATED for block in on(page, "text")]


#: Tests with one case for each block, by file and name.
EACH: dict[str, Callable[[], list[Block]]] = {
    "test_pages.py::test_its_programs_run": programs,
    "test_pages.py::test_an_excerpt_stands_in_an_example": excerpts,
    "test_pages.py::test_its_settings_are_settings": settings_files,
    "test_references.py::test_it_is_current": signatures,
}
#: Tests that go through their blocks, by file and name.
WHOLE: dict[str, Sequence[Block]] = {
    "test_readme.py::test_the_set_up_commands_run_in_a_clone": on(README, "sh", "text")[:2],
    "test_readme.py::test_its_commands_give_the_answers_that_it_promises": [
        *on(README, "python"),
        *on(README, "sh", "text")[2:],
    ],
    "test_quickstart.py::test_every_step_works_and_prints_what_the_page_shows": blocks(
        DOCS / "quickstart.md"
    ),
    "test_testing_page.py::test_its_tests_pass": on("testing", "python"),
    "test_testing_page.py::test_its_commands_do_what_they_say": on("testing", "sh"),
    "test_testing_page.py::test_its_failures_look_as_it_shows_them": on("testing", "text"),
    "test_commands_run.py::test_commands_about_an_instance_work": [
        block for page in ABOUT_AN_INSTANCE for block in on(page, "sh")
    ],
    "test_commands_run.py::test_the_patterns_run_as_they_are_shown": on(PATTERNS, "sh"),
    "test_commands_run.py::test_the_examples_of_the_reference_work": on("cli", "sh"),
    "test_commands_run.py::test_the_quick_test_of_an_installation_runs": on("performance", "sh"),
    "test_listeners_page.py::test_its_listeners_raise_start_and_keep": on("listeners", "sh"),
    "test_server_pages.py::test_the_least_privilege_is_enough": on("reliability", "text"),
    "test_server_pages.py::test_payloads_are_ciphertext_with_the_keys": on("reliability", "sh"),
    "test_server_pages.py::test_a_lone_master_refuses_writes": on("scaling", "text"),
    "test_claims.py::test_a_dapr_program_runs_after_the_change": on("migrating-from-dapr", "diff"),
    "test_claims.py::test_code_that_does_not_fit_stalls_with_the_words_of_the_page": on(
        "versioning", "text"
    ),
}


class Shown:
    """The blocks that one test has to go through."""

    def __init__(self, claimed: Sequence[Block]) -> None:
        self.left = list(claimed)
        self._all = tuple(claimed)

    def of(self, *languages: str) -> list[Block]:
        """Those of these languages, in order; all of them where none is named."""
        return [block for block in self._all if not languages or block.language in languages]

    def use(self, block: Block) -> Block:
        """Return the block, which is executed now. Raises: ValueError for another test's."""
        if block not in self._all:
            raise ValueError(f"{block} is another test's")
        if block in self.left:
            self.left.remove(block)
        return block

"""What must not stand in any file, and how long a module may be."""

from __future__ import annotations

import re

import pytest

from tests.house.sources import tracked
from tests.servers import ROOT

#: Put together here, so that this file passes its own test.
REGISTRIES = re.compile(
    "|".join(
        [
            "py" + r"pi\.(org|python\.org)",
            "python" + "hosted",
            "npm" + r"js\.(org|com)",
            r"--(extra-)?" + "index-url",
            "^" + r"\s*(extra-)?index-url\s*=",
            "^" + "UV_(DEFAULT_)?INDEX",
            "PIP_(EXTRA_)?" + "INDEX_URL",
            "/sim" + r"""ple/?(["'\s]|$)""",
            '"resolved"' + r":\s*\"http",
        ]
    ),
    re.MULTILINE,
)
MACHINE = re.compile("|".join(["/work/" + "(main|shared)", "/ro" + r"ot/\.", "/ho" + "me/[a-z]+/"]))

LONGEST_MODULE = 450


def texts() -> list[tuple[str, str]]:
    found = []
    for path in tracked():
        try:
            found.append((str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found


@pytest.mark.parametrize(
    ("pattern", "what"),
    [(REGISTRIES, "names a package registry"), (MACHINE, "names a path of one machine")],
    ids=["registry", "machine"],
)
def test_no_file_names_what_is_somebody_elses(pattern: re.Pattern[str], what: str) -> None:
    wrong = [
        f"{name}:{text[: match.start()].count(chr(10)) + 1} {what}: {match[0]}"
        for name, text in texts()
        for match in pattern.finditer(text)
    ]

    assert wrong == []


def test_no_module_has_a_second_subject() -> None:
    long = {
        name: text.count("\n")
        for name, text in texts()
        if name.endswith((".py", ".lua")) and text.count("\n") > LONGEST_MODULE
    }

    assert long == {}


def test_the_readme_names_the_commands_that_run() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("no README.md yet")

    text = readme.read_text(encoding="utf-8")

    assert "python3 run.py demo" in text
    assert "python3 run.py test" in text
    assert "run.py test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_dependency_has_an_exact_version() -> None:
    pins = [
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]

    assert [pin for pin in pins if not re.match(r"[a-z0-9.-]+==[\w.]+( *;.*)?$", pin)] == []
    assert pins == sorted(pins, key=lambda pin: pin.partition("==")[0])

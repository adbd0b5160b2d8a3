"""What a user gets: the contents of the wheel, and that it works on its own."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import wfq
from tests.house.sources import PACKAGES
from tests.servers import ROOT, clean_env


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel, built by the backend alone: no network, no isolated environment."""
    folder = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=clean_env(),
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.Path(path)


def test_it_adds_four_packages_and_nothing_generic(wheel: zipfile.Path) -> None:
    names = {entry.name for entry in wheel.iterdir()}

    assert {name for name in names if not name.endswith(".dist-info")} == set(PACKAGES)
    assert len(names) == len(PACKAGES) + 1


def test_it_holds_every_file_of_the_packages(wheel: zipfile.Path) -> None:
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    held = {name for name in wheel.root.namelist() if ".dist-info/" not in name and name[-1] != "/"}

    assert held == expected
    assert any(name.endswith(".lua") for name in held)
    assert {f"{package}/py.typed" for package in PACKAGES} <= held


def test_the_package_knows_its_version(wheel: zipfile.Path) -> None:
    (info,) = (entry for entry in wheel.iterdir() if entry.name.endswith(".dist-info"))

    assert info.name == f"wfq-{wfq.__version__}.dist-info"


def test_it_installs_the_command(wheel: zipfile.Path) -> None:
    (info,) = (entry for entry in wheel.iterdir() if entry.name.endswith(".dist-info"))

    assert "wfq = wfq_cli.app:main" in (info / "entry_points.txt").read_text()


def test_it_finds_its_scripts_when_it_is_unpacked(wheel: zipfile.Path, tmp_path: Path) -> None:
    # Not through the Path: before 3.11.4 it lists folders that are not in the file.
    with zipfile.ZipFile(str(wheel.root.filename)) as unpacked:
        unpacked.extractall(tmp_path)

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import wfq.storage.scripts as scripts; "
        "print(scripts.__file__, len(scripts.ALL))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=clean_env(),
    )

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(str(tmp_path))

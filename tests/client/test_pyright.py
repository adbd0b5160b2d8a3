"""What mypy infers of the public names, pyright infers as well."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TYPED = Path(__file__).with_name("test_types.py")


@pytest.mark.timeout(180)
def test_pyright_agrees_with_the_typed_examples() -> None:
    pyright = shutil.which("pyright")
    if pyright is None:
        pytest.skip("pyright is not on PATH")

    checked = subprocess.run(
        [pyright, "--pythonpath", sys.executable, str(TYPED)],
        capture_output=True,
        text=True,
        cwd=TYPED.parents[2],
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr

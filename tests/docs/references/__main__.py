"""Write the references: ``python -m tests.docs.references``."""

from __future__ import annotations

from tests.docs.references.pages import GENERATED

if __name__ == "__main__":
    for path, make in GENERATED.items():
        path.write_text(make(), encoding="utf-8")

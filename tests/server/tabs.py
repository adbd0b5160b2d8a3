"""Pages in a real browser, for the tests of the dashboard."""

from __future__ import annotations

from typing import Any

#: Milliseconds that a page may take to show what is waited for.
PATIENCE_MS = 15_000


class Tab:
    """A page of the browser; what goes wrong in it is kept."""

    def __init__(self, browser: Any, base: str, **options: Any) -> None:
        self.context = browser.new_context(base_url=base, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog {dialog.message}"))
        self.page.on("console", self._said)

    def _said(self, message: Any) -> None:
        if message.type == "error" and "404" not in message.text:
            self.wrong.append(message.text)

    def open(self, path: str) -> Any:
        self.page.goto(f"/ui{path}")
        return self.page

    def has(self, text: str) -> None:
        """Wait until the page shows a text."""
        self.page.get_by_text(text).first.wait_for()

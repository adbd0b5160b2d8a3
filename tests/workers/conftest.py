"""Shops of activities that close with their test, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.workers.activity_kit import Shop


@pytest.fixture
def open_shop() -> Iterator[Callable[[str], Shop]]:
    """Open shops by URL; name it after the fixture of the server, which must live longer."""
    shops: list[Shop] = []

    def make(url: str) -> Shop:
        shops.append(Shop(url))
        return shops[-1]

    yield make
    for shop in shops:
        shop.close()

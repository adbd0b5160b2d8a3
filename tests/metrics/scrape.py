"""Reading what a worker or the API answers to Prometheus."""

from __future__ import annotations

import re
from urllib.request import urlopen

SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$", re.M)


def scrape(url: str) -> dict[str, float]:
    """Return every sample by name and labels, as they stand in the answer."""
    with urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {f"{name}{labels}": float(value) for name, labels, value in SAMPLE.findall(text)}


def names(samples: dict[str, float]) -> set[str]:
    """Return the names of samples."""
    return {sample.partition("{")[0] for sample in samples}

"""Deliberate defects: with any of them, the campaign must find violations.

Each takes one of the protections out of wfq, in a worker process of the campaign alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

MUTATIONS: Mapping[str, Callable[[], None]] = {}

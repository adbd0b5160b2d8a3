"""The W3C trace context, without OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.servers import clean_env
from wfq.tracing import current, incoming, parse, with_trace, written

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("text", [f"00-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-will-be"])
def test_a_valid_context_is_read(text: str) -> None:
    assert parse(text) == (TRACE, SPAN, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}",
    ],
)
def test_what_is_no_context_is_ignored(text: str) -> None:
    assert parse(text) is None
    with incoming(text):
        assert current() is None
        assert with_trace(None) is None


def test_a_context_holds_within_its_block_and_loses_what_is_not_known_to_everybody() -> None:
    with incoming(f"00-{TRACE}-{SPAN}-ff"):
        assert current() == f"00-{TRACE}-{SPAN}-01"
        assert with_trace({"tags": {}}) == {"tags": {}, "trace": f"00-{TRACE}-{SPAN}-01"}
    assert current() is None


def test_a_context_is_written_as_it_is_read() -> None:
    assert parse(written(1, 2, 0)) == ("0" * 31 + "1", "0" * 15 + "2", 0)


def test_everything_works_where_opentelemetry_is_not_installed() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None;"
        "import wfq_workers.loops, wfq_server.app, wfq_cli.run, wfq;"
        "from wfq_workers.tracing import find_tracer;"
        "assert find_tracer() is None;"
        "from wfq.tracing import current; assert current() is None;"
        "print('fine')"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean_env()
    )

    assert shown.stdout.strip() == "fine", shown.stderr

from __future__ import annotations

import json
import logging
import sys

from wfq_cli.logs import JsonLines, TextLines


def record(message: str, **given: object) -> logging.LogRecord:
    made = logging.LogRecord("wfq.worker", logging.WARNING, "x.py", 1, message, (), None)
    vars(made).update(given)
    return made


def test_a_json_line_holds_what_was_given_with_the_message() -> None:
    line = json.loads(JsonLines().format(record("slow\nturn", instance_id="order-7")))

    assert line["level"] == "warning"
    assert line["logger"] == "wfq.worker"
    assert line["message"] == "slow\nturn"
    assert line["instance_id"] == "order-7"
    assert line["time"].endswith("+00:00")


def test_an_exception_is_in_the_json_line() -> None:
    made = record("failed")
    try:
        raise ValueError("no")
    except ValueError:
        made.exc_info = sys.exc_info()

    assert "ValueError: no" in json.loads(JsonLines().format(made))["exception"]


def test_a_text_line_stays_one_line() -> None:
    line = TextLines(colours=False).format(record("a\nb\x1b[2J", instance_id="order-7"))

    assert "\n" not in line
    assert "\x1b" not in line
    assert line.endswith("WARNING wfq.worker: a\\nb\\x1b[2J (instance_id=order-7)")

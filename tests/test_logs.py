from __future__ import annotations

import json
import logging
import sys

from wfq.activity_context import GivenFacts
from wfq.logs import ACTIVITY, InstanceIds, JsonLines, TextLines, plain_text


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


def test_control_characters_are_escaped() -> None:
    assert plain_text("a\r\n\x1b[0m\u202e\ud800") == "a\\r\\n\\x1b[0m\\u202e\\ud800"
    assert plain_text("Grüße") == "Grüße"


def test_ids_are_added_to_what_comes_from_an_activity_and_to_nothing_else() -> None:
    facts = GivenFacts("order-7", "inc1.0", 3, "charge", 2, None)
    ids = InstanceIds()
    before, within, about_another = record("idle"), record("paid"), record("x", instance_id="b")

    ids.filter(before)
    token = ACTIVITY.set(facts)
    ids.filter(within)
    ids.filter(about_another)
    ACTIVITY.reset(token)

    assert not hasattr(before, "instance_id")
    line = TextLines(colours=False).format(within)
    assert line.endswith("paid (instance_id=order-7 activity=charge task_id=3 attempt=2)")
    assert not hasattr(about_another, "activity")

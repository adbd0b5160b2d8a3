"""Listener rules and the paths they use."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wfq.rules import ListenerRule, PathMissing, look_up, parse_path

MESSAGE = {"order": {"id": "order-7", "lines": [{"sku": "a"}, {"sku": "b"}]}, "odd name": 1}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", MESSAGE),
        ("$.order.id", "order-7"),
        ("order.id", "order-7"),
        ("$.order.lines[1].sku", "b"),
        ("$['odd name']", 1),
        ('$["order"].id', "order-7"),
    ],
)
def test_a_path_finds_its_value(path: str, found: object) -> None:
    assert look_up(MESSAGE, parse_path(path)) == found


@pytest.mark.parametrize("path", ["$.none", "$.order.lines[2]", "$.order[0]", "$.order.id.x"])
def test_a_missing_value_is_told(path: str) -> None:
    with pytest.raises(PathMissing, match="the message has no"):
        look_up(MESSAGE, parse_path(path))


@pytest.mark.parametrize(
    "path", ["", " ", "$.", "$..id", "$order", ".id", "$.a[*]", "$.a[-1]", "a b"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        parse_path(path)


def test_a_rule_says_what_it_listens_to() -> None:
    rule = ListenerRule(pattern="shop.*", event_from="$.type", instance_id_from="$.id")

    assert rule.source == "pattern shop.*"
    assert rule.data_from == "$"


def test_a_rule_that_starts_a_workflow_needs_no_instance() -> None:
    rule = ListenerRule(stream="orders", workflow="process_order", data_from="$.order")

    assert rule.instance_id_from is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channel": None}, "exactly one of channel"),
        ({"stream": "s"}, "exactly one of channel"),
        ({"event": None}, "exactly one of event"),
        ({"event_from": "$.type"}, "exactly one of event"),
        ({"workflow": "order"}, "exactly one of event"),
        ({"instance_id_from": None}, "needs instance_id_from"),
        ({"instance_id_from": "$.a b"}, "is not a path"),
        ({"chanel": "c"}, "Extra inputs"),
    ],
)
def test_an_unclear_rule_is_refused(changes: dict[str, object], said: str) -> None:
    rule = {"channel": "c", "event": "e", "instance_id_from": "$.id"}

    with pytest.raises(ValidationError, match=said):
        ListenerRule.model_validate({**rule, **changes})

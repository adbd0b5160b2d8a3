"""Messages and what rules make of them: values in, values out."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from wfq.rules import ListenerRule
from wfq_workers.listening.intents import CompiledRule, Intent, Misfit, Raise, Start
from wfq_workers.listening.messages import Message, Rejected, decode, decode_entry, raw_entry

EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/payments",
    "type": "payment.received",
    "data": {"order": "order-7", "paid": 9.5},
}


def read(value: object, limit: int = 10_000) -> Message:
    return decode(json.dumps(value).encode(), limit=limit)


def made(rule: dict[str, Any], message: Message, default_id: str | None = None) -> Intent:
    given = {"channel": "c", "event": "paid", "instance_id_from": "$.order", **rule}
    present = {name: value for name, value in given.items() if value is not None}
    return CompiledRule(ListenerRule.model_validate(present)).apply(message, default_id)


def test_a_plain_message_becomes_an_event_with_the_whole_as_data() -> None:
    message = read({"order": "order-7", "paid": 9.5})

    assert made({}, message) == Raise("order-7", "paid", {"order": "order-7", "paid": 9.5}, None)


def test_the_same_rule_works_when_the_sender_wraps_its_messages() -> None:
    intent = made({}, read(EVENT))

    assert intent == Raise("order-7", "paid", EVENT["data"], "/payments:e-1")


def test_attributes_of_a_cloud_event_are_found_behind_its_data() -> None:
    rule = {"event": None, "event_from": "$.type", "instance_id_from": "$.subject"}

    intent = made(rule, read({**EVENT, "subject": "order-8"}))

    assert intent == Raise("order-8", "payment.received", EVENT["data"], "/payments:e-1")


def test_data_can_be_a_part_and_the_event_id_be_found() -> None:
    rule = {"data_from": "$.lines[0].sku", "event_id_from": "$.nr"}

    intent = made(rule, read({"order": "o", "lines": [{"sku": "a"}], "nr": 17}))

    assert intent == Raise("o", "paid", "a", "17")


def test_a_number_names_an_instance_as_its_digits() -> None:
    intent = made({}, read({"order": 12345678}))

    assert isinstance(intent, Raise)
    assert intent.instance_id == "12345678"


@pytest.mark.parametrize("order", [None, True, 1.5, "", [], {}])
def test_what_is_no_text_names_no_instance(order: object) -> None:
    with pytest.raises(Misfit, match=r"at \$\.order is no text"):
        made({}, read({"order": order}))


def test_a_message_without_what_the_rule_needs_does_not_fit() -> None:
    with pytest.raises(Misfit, match=r"nothing at \$\.order"):
        made({}, read({"other": 1}))


def test_an_id_outside_the_alphabet_is_rejected() -> None:
    with pytest.raises(Rejected, match="is not allowed"):
        made({}, read({"order": "a b\nc"}))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'"\xff"', "not UTF-8"),
        (b"[" * 100_000, "nested"),
        (b'{"order": 123456789012345678901234567890}', "64 bits"),
        (b'{"specversion": "0.3", "id": "1"}', "version '0.3'"),
        (b'{"specversion": "1.0", "id": "1", "type": "t"}', "without source"),
        (
            b'{"specversion": "1.0", "id": "1", "type": "t", "source": "s", "data_base64": "*"}',
            "64",
        ),
    ],
)
def test_a_bad_message_is_rejected_with_the_reason(raw: bytes, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        decode(raw, limit=1_000_000)


def test_a_message_over_the_limit_is_not_even_parsed() -> None:
    with pytest.raises(Rejected, match="over the limit of 10"):
        decode(b"[" * 11, limit=10)


def test_base64_data_is_decoded_where_it_is_json() -> None:
    encoded = base64.b64encode(b'{"order":"order-9"}').decode()
    event = {k: v for k, v in EVENT.items() if k != "data"}

    intent = made({}, read({**event, "data_base64": encoded}))

    assert isinstance(intent, Raise)
    assert intent.instance_id == "order-9"


@pytest.mark.parametrize(
    "fields",
    [
        {b"data": b'{"order":"o"}', b"other": b"x"},
        {b"message": b'{"order":"o"}'},
        {b"order": b"o", b"n": b"1"},
        {
            b"specversion": b"1.0",
            b"id": b"1",
            b"source": b"s",
            b"type": b"t",
            b"data": b'{"order":"o"}',
        },
    ],
)
def test_stream_entries_hold_messages_in_several_forms(fields: dict[bytes, bytes]) -> None:
    intent = made({}, decode_entry(fields, limit=1000))

    assert isinstance(intent, Raise)
    assert intent.instance_id == "o"


def test_an_entry_of_plain_fields_is_kept_whole_when_it_is_rejected() -> None:
    assert raw_entry({b"a": b"1", b"b": b"\xff"}) == '{"a":"1","b":"\ufffd"}'.encode()


def test_the_delivery_identifies_an_event_that_has_no_id() -> None:
    intent = made({}, read({"order": "o"}), "orders-1-1")

    assert isinstance(intent, Raise)
    assert intent.event_id == "orders-1-1"


def test_two_rules_of_one_source_raise_two_events_in_one_instance() -> None:
    rule = ListenerRule(channel="c", event="seen", instance_id_from="$.order")
    message = read({"order": "o"})

    ids = [CompiledRule(rule, number).apply(message, "s-1-1") for number in range(2)]

    assert [intent.event_id for intent in ids if isinstance(intent, Raise)] == ["s-1-1", "s-1-1#1"]


def test_a_rule_starts_a_workflow_under_an_id_of_the_message() -> None:
    rule = {"event": None, "workflow": "process", "data_from": "$.paid", "app_id": "shop"}

    intent = made(rule, read({"order": "order-7", "paid": 1}))

    assert intent == Start("process", "order-7", 1, "shop")


def test_a_message_that_comes_twice_starts_one_instance() -> None:
    rule = {"event": None, "workflow": "process", "instance_id_from": None}

    first, second = (made(rule, read({"n": 1}), "orders-1-1") for _ in range(2))

    assert first == second
    assert isinstance(first, Start)
    assert first.instance_id is not None

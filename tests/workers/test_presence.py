"""The register of live workers."""

from __future__ import annotations

from tests.servers import poll
from wfq.storage.keys import Namespace
from wfq.storage.link import SyncLink
from wfq.storage.membership import live_workers
from wfq_workers.presence import Presence


def test_a_worker_is_registered_until_it_stops(redis_url: str) -> None:
    namespace, link = Namespace("shop", 4), SyncLink(redis_url)
    presence = Presence(redis_url, namespace, "host-1-abcd", lambda: {"queues": ["default"]})

    presence.start()
    assert presence.wait_ready(10)
    (found,) = live_workers(link, namespace)
    presence.stop()

    assert (found.worker_id, found.details) == ("host-1-abcd", {"queues": ["default"]})
    assert live_workers(link, namespace) == []
    link.close()


def test_a_presence_that_was_never_started_can_be_stopped(redis_url: str) -> None:
    Presence(redis_url, Namespace("shop", 4), "host-1-abcd", dict).stop(1)


def test_what_goes_wrong_in_the_details_is_no_end(redis_url: str) -> None:
    calls: list[int] = []

    def details() -> dict[str, object]:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("not yet")
        return {}

    presence = Presence(redis_url, Namespace("shop", 4), "host-1-abcd", details)
    presence.start()
    poll(lambda: presence.wait_ready(0.1))
    presence.stop()

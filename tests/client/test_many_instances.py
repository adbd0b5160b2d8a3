"""Listing stays whole and quick with very many instances."""

from __future__ import annotations

import pytest

import wfq as wf
from tests.servers import command_client
from wfq.client import WorkflowClient

MANY = 100_000
PAGE = 1_000


@pytest.mark.long
@pytest.mark.timeout(240)
def test_pages_over_a_hundred_thousand_instances_hold_each_once(valkey_url: str) -> None:
    with WorkflowClient(redis_url=valkey_url) as client:
        for first in range(0, MANY, 10_000):
            client.schedule_many("order", range(first, first + 10_000))
        late = client.schedule_new_workflow("order", tags={"late": "yes"})

        seen: list[str] = []
        page = client.list_workflows(limit=PAGE)
        # It reads its own writes at once, newest first.
        assert page.items[0].instance_id == late
        while True:
            seen += [state.instance_id for state in page]
            if page.cursor is None:
                break
            if len(seen) % 10_000 == 0:
                # What starts while somebody turns the pages moves none of them.
                client.schedule_new_workflow("other")
            page = client.list_workflows(limit=PAGE, cursor=page.cursor)

        assert len(seen) == len(set(seen)) == MANY + 1
        assert client.count_workflows(name="order")[wf.WorkflowStatus.PENDING] == MANY + 1
        tagged = client.list_workflows(tags={"late": "yes"}, limit=10)
        assert [state.instance_id for state in tagged] == [late]
    with command_client(valkey_url) as server:
        # Looking at each key that a test leaves takes longer than all of this.
        server.flushall()

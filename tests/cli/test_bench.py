"""``wfq bench``: works on any installation, and leaves nothing behind."""

from __future__ import annotations

from tests.cli.conftest import Cli
from tests.groups import ClusterGroup
from tests.servers import command_client


def test_a_bench_leaves_nothing_on_any_node(wfq: Cli, cluster: ClusterGroup) -> None:
    wfq.env["WFQ_REDIS_URL"] = cluster.url

    rows = wfq.rows("bench", "--count", "20", "-o", "jsonl")

    assert all(row["redis_us"] > 0 for row in rows)
    assert [key for node in cluster.masters for key in node.ask("KEYS", "*bench*")] == []


def test_a_bench_tells_figures_and_leaves_nothing(wfq: Cli, valkey_url: str) -> None:
    rows = wfq.rows("bench", "--count", "20", "-o", "jsonl")

    assert [row["what"] for row in rows] == [
        "3 activities", "3 inline activities", "nothing to do", "3 activities, one by one",
    ]  # fmt: skip
    assert all(row["per_second"] > 0 and row["redis_us"] > 0 for row in rows)
    with command_client(valkey_url) as client:
        assert [key for key in client.scan_iter("*") if b"bench" in key] == []

"""The dashboard and the alert rules: every metric that they name is really there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric

from tests.servers import ROOT
from wfq.registry import Registry
from wfq.settings import load_settings
from wfq.storage.figures import Figures
from wfq.storage.keys import Namespace
from wfq_server.exposition import namespace_families, request_families, worker_families
from wfq_server.metrics import Metrics
from wfq_workers.loops import DEFAULT_ROLES, Job, Place, make_loops
from wfq_workers.metrics.collector import WorkerCollector

DASHBOARD = ROOT / "deploy" / "grafana" / "wfq.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
#: Metrics, and after `by` and in braces, labels of ours.
NAME = re.compile(r"\bwfq_\w+")
LABELS = re.compile(r"\b(?:by|on) \(([\w, ]+)\)|\{(\w+)[=!]")


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> list[str]:
    shown = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return shown + [rule["expr"] for rule in rules()]


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Every sample that a worker and the API expose, with the labels that its family has."""
    url = "memory://deploy"
    place = Place(load_settings(redis_url=url), url, Namespace("default", 2))
    loops = make_loops(place, Job(DEFAULT_ROLES, Registry()), own_process=False)
    families = list(WorkerCollector(loops).collect())
    families += [*request_families(Metrics()), *worker_families(None)]
    families += namespace_families(Figures(), {})
    for loop in loops:
        loop.stop(1.0)
    # The labels of a family without samples stand nowhere else.
    return {
        name: set(vars(family)["_labelnames"]) for family in families for name in _samples(family)
    }


def _samples(family: Metric) -> Iterator[str]:
    """Yield the names of a family's samples, as they are told with the first of them."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    yield from (family.name + suffix for suffix in suffixes.get(family.type, ("",)))


def test_every_metric_that_is_named_is_exposed(exposed: dict[str, set[str]]) -> None:
    named = {name for expression in expressions() for name in NAME.findall(expression)}

    assert len(named) > 30
    assert named - set(exposed) == set()


def test_every_label_that_is_named_is_one_of_its_metric(exposed: dict[str, set[str]]) -> None:
    for expression in expressions():
        labels = set().union(*(exposed[name] for name in NAME.findall(expression)))
        for listed, single in LABELS.findall(expression):
            wanted = {word.strip() for word in (listed or single).split(",")} - {"le"}
            assert wanted <= labels, expression


def test_every_metric_stands_in_the_dashboard(exposed: dict[str, set[str]]) -> None:
    shown = " ".join(expressions())
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed}

    assert [name for name in sorted(families) if name not in shown] == []


def test_panels_do_not_lie_on_each_other() -> None:
    places = [panel["gridPos"] for panel in panels()]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_alerts_say_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert len(rule["annotations"]["summary"]) > 30

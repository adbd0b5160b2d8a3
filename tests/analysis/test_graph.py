"""The picture of a workflow: the seed's patterns, and what source can look like."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from tests.analysis import patterns
from tests.analysis.patterns import app
from wfq.analysis.describing import MAX_BYTES, describe_workflows, graph_of
from wfq.analysis.graph import Attempt, Branch, Graph, Group, Loop, Part, Step
from wfq.analysis.layout import lay_out
from wfq.analysis.mermaid import to_mermaid
from wfq.analysis.sources import NoSource, read_function, read_source
from wfq.analysis.svg import to_svg


def graph(name: str) -> Graph:
    entry = app.registry.find_workflow(name)
    assert entry is not None
    return graph_of(app.registry, entry)


def read(body: str) -> Graph:
    source = f"def flow(ctx, given):\n{textwrap.indent(textwrap.dedent(body), '    ')}"
    return read_source(source, "flow.py", 1, "flow")


def told(found: Graph) -> list[str]:
    return [f"{step.kind} {step.label}" for step in found.steps]


# --- the seed's patterns


def test_a_chain_is_a_try_with_a_handler() -> None:
    attempt, last = graph("task_chain_workflow").body

    assert isinstance(attempt, Attempt)
    assert [step.label for step in attempt.body if isinstance(step, Step)] == [
        "step1",
        "step2",
        "step3",
    ]
    (handler,) = attempt.handlers
    assert handler.label == "Exception"
    assert [(s.kind, s.name) for s in handler.body if isinstance(s, Step)] == [
        ("activity", "error_handler"),
        ("raise", None),
    ]
    assert isinstance(last, Step)
    assert last.kind == "return"


def test_a_fan_out_is_one_step_that_stands_for_many() -> None:
    first, many, last = graph("batch_processing_workflow").steps

    assert (first.name, last.name) == ("get_work_batch", "process_results")
    assert (many.name, many.many, many.each) == ("process_work_item", True, "work_item")
    assert many.detail == "all of them"


def test_a_monitor_alerts_in_a_branch_and_starts_over() -> None:
    found = graph("status_monitor_workflow")

    check, branch, timer, again = found.body
    assert isinstance(check, Step)
    assert check.name == "check_status"
    assert isinstance(branch, Branch)
    assert branch.label == "status == 'healthy'"
    (inner,) = branch.arms[1].body
    assert isinstance(inner, Branch)
    (alert,) = inner.arms[0].body
    assert isinstance(alert, Step)
    assert (alert.name, alert.waited) == ("send_alert", False)
    assert isinstance(timer, Step)
    assert (timer.kind, timer.detail) == ("timer", "next_sleep_interval s")
    assert isinstance(again, Step)
    assert again.kind == "again"


def test_an_order_waits_for_the_first_of_event_and_timer() -> None:
    found = graph("purchase_order_workflow")

    decision, request, group, late, place, _ = found.body
    assert isinstance(decision, Branch)
    assert decision.label == "order.cost < 1000"
    assert isinstance(decision.arms[0].body[0], Step)
    assert decision.arms[0].body[0].value == '"Auto-approved"'
    assert isinstance(request, Step)
    assert isinstance(group, Group)
    assert group.mode == "any"
    event, timer = group.items
    assert isinstance(event, Step)
    assert isinstance(timer, Step)
    assert (event.kind, event.name) == ("event", "approval_received")
    assert (timer.kind, timer.detail) == ("timer", "24 h")
    assert isinstance(late, Branch)
    assert isinstance(place, Step)
    assert place.name == "place_order"


def test_the_async_http_order_is_a_wait_and_a_step() -> None:
    assert told(graph("OrderProcessingWorkflow")) == [
        "event approval_received",
        "activity ship",
        "return return {'Processed': bool(approval)}",
    ]


def test_steps_carry_the_line_they_are_on() -> None:
    lines = Path(patterns.__file__).read_text(encoding="utf-8").splitlines()

    for step in graph("task_chain_workflow").steps:
        assert step.name is None or step.name in lines[step.line - 1]


# --- what source can look like


def test_tasks_in_a_list_are_shown_where_they_are_awaited() -> None:
    found = read(
        """
        tasks = []
        for x in given:
            tasks.append(ctx.call_activity("work", input=x))
        yield ctx.call_activity("between")
        yield wf.when_all(tasks)
        """
    )

    assert told(found) == ["activity between", "activity work"]
    assert found.steps[1].many


def test_a_task_that_nobody_awaits_is_said_to_be_so() -> None:
    found = read('ctx.call_activity("alert")\nyield ctx.call_activity("work")')

    assert [step.waited for step in found.steps] == [False, True]


def test_loops_hold_what_is_run_in_them() -> None:
    found = read(
        """
        while True:
            got = yield ctx.wait_for_external_event("item", timeout=timedelta(minutes=5))
            if got is None:
                break
            for part in got:
                yield ctx.call_child_workflow("pack", input=part)
        """
    )

    (outer,) = found.body
    assert isinstance(outer, Loop)
    assert outer.label == "again and again"
    event, branch, inner = outer.body
    assert isinstance(event, Step)
    assert event.detail == "at most 5 min"
    assert isinstance(branch, Branch)
    assert isinstance(inner, Loop)
    assert inner.label == "for part in got"
    assert isinstance(inner.body[0], Step)
    assert inner.body[0].kind == "child"


def test_groups_stand_in_groups() -> None:
    found = read(
        """
        both = wf.when_all([ctx.call_activity("a"), ctx.call_activity("b")])
        late = ctx.create_timer(timedelta(seconds=5))
        yield wf.when_any([both, late])
        """
    )

    (group,) = found.body
    assert isinstance(group, Group)
    assert group.mode == "any"
    assert isinstance(group.items[0], Group)
    assert group.items[0].mode == "all"


def test_async_workflows_and_their_helpers_are_read() -> None:
    source = textwrap.dedent(
        """
        async def flow(ctx, given):
            if await prepare(ctx, given):
                return await ctx.call_activity("work")

        async def prepare(ctx, given):
            await ctx.call_activity("check")
            return True
        """
    )
    found = read_source(source, "flow.py", 2, "flow")

    part, branch = found.body
    assert isinstance(part, Part)
    assert part.label == "prepare"
    assert isinstance(branch, Branch)
    assert [step.label for step in found.steps][:2] == ["check", "work"]


def test_a_helper_that_calls_itself_comes_to_an_end() -> None:
    source = 'def flow(ctx, n):\n    yield ctx.call_activity("a")\n    yield from other(ctx, n)\n'
    source += 'def other(ctx, n):\n    yield ctx.call_activity("b")\n    yield from flow(ctx, n)\n'

    assert len(read_source(source, "flow.py", 1, "flow").steps) < 10


def test_code_behind_a_return_is_not_drawn() -> None:
    assert told(read('return 1\nyield ctx.call_activity("never")')) == ["return return 1"]


def test_match_and_conditional_expressions_branch() -> None:
    found = read(
        """
        match given:
            case 1:
                yield ctx.call_activity("one")
            case _:
                yield ctx.call_activity("other")
        x = (yield ctx.call_activity("a")) if given else (yield ctx.call_activity("b"))
        """
    )

    first, second = found.body
    assert isinstance(first, Branch)
    assert [arm.label for arm in first.arms] == ["1", "_"]
    assert isinstance(second, Branch)


def test_a_workflow_without_end_of_steps_is_cut() -> None:
    found = read("\n".join(f'yield ctx.call_activity("a{n}")' for n in range(1000)))

    assert found.steps[-1].kind == "more"
    assert len(found.steps) == 301


def test_what_has_no_source_is_an_error() -> None:
    with pytest.raises(NoSource):
        read_function(eval("lambda ctx: None"), "made")
    with pytest.raises(NoSource):
        read_function(print, "print")


# --- JSON, Mermaid, SVG


@pytest.mark.parametrize("entry", list(app.registry.workflows()), ids=lambda e: e.name)
def test_a_graph_goes_through_json_and_can_be_drawn(entry: object) -> None:
    found = graph_of(app.registry, entry)  # type: ignore[arg-type]  # a WorkflowEntry

    again = Graph.from_json(json.loads(json.dumps(found.to_json())))

    assert again == found
    assert to_svg(found).count("<g class=") >= len(found.steps)
    assert to_mermaid(found).startswith("flowchart TD\n")


def test_boxes_of_a_picture_do_not_lie_on_each_other() -> None:
    for entry in app.registry.workflows():
        nodes = lay_out(graph_of(app.registry, entry)).nodes
        spans = [(n.x - n.width / 2, n.y, n.x + n.width / 2, n.y + n.height) for n in nodes]
        for number, a in enumerate(spans):
            for b in spans[number + 1 :]:
                apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
                assert apart, (entry.name, a, b)


def test_hostile_labels_are_text() -> None:
    found = read("""yield ctx.call_activity('"<script>alert(1)</script>&#`')""")

    svg, mermaid = to_svg(found), to_mermaid(found)

    assert "<script" not in svg
    assert "<script" not in mermaid
    assert '""' not in mermaid


@pytest.mark.parametrize(
    "document", [None, [], {}, {"name": "x"}, {"name": "x", "about": "", "file": "", "line": 0,
    "body": [{"k": "strange", "l": 1}]}],
)  # fmt: skip
def test_what_is_no_graph_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match=r"graph|kind"):
        Graph.from_json(document)


def test_descriptions_are_small_and_hold_schema_and_graph() -> None:
    found = describe_workflows(app.registry)

    order = json.loads(found["purchase_order_workflow"])
    assert set(order["input_schema"]["properties"]) == {"cost", "product", "quantity"}
    assert Graph.from_json(order["graph"]).name == "purchase_order_workflow"
    assert all(len(text) <= MAX_BYTES for text in found.values())

"""The pages of the dashboard, without a browser."""

from __future__ import annotations

import re

import pytest

import wfq as wf
from tests.server.pages import (
    OWN,
    PATHS,
    Markup,
    Pages,
    order,
    parent,
    shown,
    waiting,
)

# --- every page


@pytest.mark.parametrize("path", PATHS)
def test_every_page_is_there_and_keeps_to_its_policy(pages: Pages, path: str) -> None:
    answer = pages.http.get(f"/ui{path}")

    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    found = Markup(answer.text)
    assert found.wrong == []
    assert len(found.ids) == len(set(found.ids))


def test_the_root_leads_to_the_pages_and_the_api_is_where_it_was(pages: Pages) -> None:
    assert pages.http.get("/").headers["location"] == "/ui/"
    assert pages.http.get("/v1.0/workflows/dapr").json() == {"workflows": []}
    assert pages.http.get("/nothing").json()["errorCode"] == "ERR_NOT_FOUND"


def test_static_files_may_be_kept_and_nothing_else_is_served(pages: Pages) -> None:
    script = pages.http.get("/ui/static/htmx.min.js")

    assert "immutable" in script.headers["cache-control"]
    assert script.headers["content-type"].startswith("text/javascript")
    for name in ("..%2Fdesk.py", "LICENSES.txt", "nothing.js"):
        assert pages.http.get(f"/ui/static/{name}").status_code == 404


def test_every_route_of_the_pages_asks_who_is_there(valkey_url: str) -> None:
    pages = Pages(valkey_url, api_token="s3cret-token")
    try:
        for route in pages.app.routes:
            path = getattr(route, "path", "")
            if not path.startswith("/ui/") or path in ("/ui/login", "/ui/logout"):
                continue
            if path.startswith("/ui/static"):
                continue
            for method in getattr(route, "methods", ()):
                shown = (
                    path.replace("{id}", "x").replace("{queue}", "q").replace("{name:path}", "n")
                )
                answer = pages.http.request(method, shown, headers=OWN)
                assert answer.status_code in (303, 401), (method, path)
    finally:
        pages.close()


# --- instances


def test_an_empty_list_shows_the_line_to_paste(pages: Pages) -> None:
    assert "wfq start NAME" in pages.page("/instances")

    pages.publish()

    assert "wfq start order" in pages.page("/instances")


def test_filters_stand_in_the_address_and_pages_are_stable(pages: Pages) -> None:
    for number in range(60):
        pages.wfq.schedule_new_workflow("order", input=number, instance_id=f"o-{number:03d}")
    pages.wfq.schedule_new_workflow("other", instance_id="p-1", tags={"team": "a b&c"})

    first = pages.page("/instances?name=order")
    (older,) = re.findall(r'rel="next" href="([^"]+)"', first)
    pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-new")
    second = pages.http.get(older.replace("&amp;", "&")).text

    ids = re.findall(r'name="id" value="(o-\w+)"', first + second)
    assert len(ids) == len(set(ids)) == 60
    assert "p-1" not in first + second
    tagged = pages.page("/instances?tag=team%3Da+b%26c")
    assert "p-1" in tagged
    assert "o-001" not in tagged
    assert "No instance fits" in pages.page("/instances?since=1s&id=zzz")
    assert "tag=team%3Da+b%26c" in tagged


def test_chips_count_by_status(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-1")
    pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-2")
    pages.wfq.terminate_workflow("o-2")

    chips = pages.page("/instances/counts?status=PENDING")

    assert re.search(r"all <strong>2</strong>", chips)
    assert 'aria-current="true">pending <strong>2</strong>' in chips


@pytest.mark.parametrize("query", ["status=odd", "since=yesterday", "tag=x", "after=odd"])
def test_a_filter_that_is_wrong_says_so(pages: Pages, query: str) -> None:
    assert "did not work" in pages.page(f"/instances?{query}", 400)


# --- one instance


@pytest.mark.usefixtures("workers")
def test_a_waiting_order_says_what_it_waits_for_and_where_it_is(pages: Pages) -> None:
    pages.publish()
    pages.wfq.schedule_new_workflow(order, input=7, instance_id="o-1", tags={"team": "sales"})

    text = waiting(pages)

    assert "Waits for the event approved, for" in text
    assert "gives up in 1 h 59 min" in text
    assert "team=sales" in text
    assert text.count("g-done") == 1
    assert text.count("g-waiting") == 1
    assert 'class="bar bar-wait bar-open"' in text
    assert "An order that waits for a word." in text
    assert 'value="approved"' in text
    assert '<option value="refused" data-example="{' in text
    assert "&#34;final&#34;: false" in text
    assert "wfq raise o-1 approved" in text


@pytest.mark.usefixtures("workers")
def test_an_event_raised_by_the_form_ends_the_order(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow(order, input=7, instance_id="o-1")
    waiting(pages)

    answer = pages.post("/instances/o-1/raise", event="approved", data='"no"')

    assert answer.status_code == 303
    assert answer.headers["location"] == "/ui/instances/o-1"
    pages.wfq.wait_for_workflow_completion("o-1", timeout_in_seconds=20)
    text = pages.page("/instances/o-1")
    assert "ValueError: &lt;b&gt;refused&lt;/b&gt;" in text
    assert "Stack trace" in text
    assert "Run again" in text


@pytest.mark.usefixtures("workers")
def test_children_stand_below_their_parent(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow(parent, instance_id="p-1")

    text = shown(pages, "/instances/p-1", "depth-0")
    (child,) = set(re.findall(r'href="/ui/instances/(p-1~\w+)"', text))

    assert 'child of <a href="/ui/instances/p-1">' in waiting(pages, child)


@pytest.mark.usefixtures("workers")
def test_the_history_can_be_searched_and_downloaded(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow(order, input=7, instance_id="o-1")
    waiting(pages)

    found = pages.page("/instances/o-1/history?q=check")
    answer = pages.http.get("/ui/instances/o-1/history.json")

    assert "TaskScheduled" in found
    assert "EventAwaited" not in found
    assert answer.headers["content-disposition"] == 'attachment; filename="history-o-1.json"'
    assert answer.json()["events"][0]["type"] == "ExecutionStarted"


def test_without_a_worker_it_says_that_one_is_needed(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("order", input=7, instance_id="o-1")

    text = pages.page("/instances/o-1")

    assert "Why it is stuck" in text
    assert "No live worker has its code (application default)." in text
    assert "No worker is alive" in pages.page("/")


def test_an_unknown_instance_is_a_page_of_its_own(pages: Pages) -> None:
    assert "it may have been purged" in pages.page("/instances/nobody", 404)


def test_what_is_encrypted_is_shown_as_such(pages: Pages) -> None:
    class Turned:
        def encode(self, data: bytes) -> bytes:
            return data[::-1]

        def decode(self, data: bytes) -> bytes:
            return data[::-1]

    with wf.WorkflowClient(redis_url=pages.url, payload_codec=Turned()) as client:
        client.schedule_new_workflow("order", input={"card": "four-eleven"}, instance_id="o-1")

    text = pages.page("/instances/o-1")

    assert "wfq+codec:" in text
    assert "four-eleven" not in text
    assert "encrypted, or otherwise encoded" in text
    assert pages.http.get("/ui/instances/o-1/history.json").status_code == 200


# --- doing things


def test_many_are_done_after_a_page_that_says_how_many(pages: Pages) -> None:
    for number in range(3):
        pages.wfq.schedule_new_workflow("order", input=1, instance_id=f"o-{number}")

    asked = pages.post("/act", verb="suspend", id=["o-0", "o-1"])
    assert "Suspend 2 instances?" in asked.text
    assert pages.wfq.list_workflows(status="SUSPENDED").items == []

    done = pages.post("/act", verb="terminate", all="1", query="name=order", confirm="1")
    refused = pages.post("/act", verb="purge", id=["o-0", "nobody"], confirm="1")

    assert "3 instances terminated" in done.text
    assert "2 refusals" in refused.text
    assert "no workflow instance" in refused.text


def test_one_is_suspended_at_once_and_terminated_after_a_question(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-1")

    suspended = pages.post("/act", verb="suspend", id="o-1", single="1")
    asked = pages.post("/act", verb="terminate", id="o-1", single="1")
    nothing = pages.post("/act", verb="terminate")
    odd = pages.post("/act", verb="explode", id="o-1")

    assert suspended.headers["location"] == "/ui/instances/o-1"
    assert "Terminate 1 instance?" in asked.text
    assert "Nothing to terminate" in nothing.text
    assert odd.status_code == 400


def test_a_start_form_is_filled_from_the_schema_and_starts(pages: Pages) -> None:
    pages.publish()

    form = pages.page("/workflows/default/order")
    answer = pages.post("/start", name="order", queue="default", input="12", id="o-9")
    wrong = pages.post("/start", name="order", queue="default", input="{oops", id="o-8")

    assert "wfq start order 0" in form
    assert "/v1.0/workflows/dapr/order/start" in form
    assert "flowchart TD" in form
    assert answer.headers["location"] == "/ui/instances/o-9"
    state = pages.wfq.get_workflow_state("o-9")
    assert state is not None
    assert state.serialized_input == "12"
    assert wrong.status_code == 400
    assert "the input is not JSON" in wrong.text
    assert "{oops" in wrong.text
    assert pages.wfq.get_workflow_state("o-8") is None


# --- who may


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"host": "evil.example", "origin": "http://evil.example"},
    ],
)
def test_forms_of_other_sites_are_refused(pages: Pages, headers: dict[str, str]) -> None:
    pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-1")

    answer = pages.post("/act", headers=headers, verb="terminate", id="o-1", confirm="1")

    assert answer.status_code == 403
    state = pages.wfq.get_workflow_state("o-1")
    assert state is not None
    assert state.runtime_status.name != "TERMINATED"


def test_a_form_with_our_origin_is_taken_from_older_browsers(pages: Pages) -> None:
    pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-1")

    answer = pages.post(
        "/act", headers={"origin": pages.base}, verb="suspend", id="o-1", single="1"
    )

    assert answer.status_code == 303


def test_a_page_under_another_name_is_refused(pages: Pages) -> None:
    assert pages.http.get("/ui/", headers={"host": "evil.example"}).status_code == 403


def test_tokens_log_in_and_roles_decide(valkey_url: str) -> None:
    tokens = (
        {"token": "look-token-1", "role": "read"},
        {"token": "work-token-1", "role": "operate"},
    )
    pages = Pages(valkey_url, api_tokens=tokens)
    try:
        pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-1")
        assert pages.http.get("/ui/instances").headers["location"] == "/ui/login"
        assert pages.http.get("/ui/live", headers={"hx-request": "true"}).status_code == 401
        assert "not a token" in pages.post("/login", token="guess").text

        entered = pages.post("/login", token="look-token-1")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "look-token" not in cookie
        assert "Terminate" not in pages.page("/instances")
        refused = pages.post("/act", verb="suspend", id="o-1", single="1")
        assert "role read" in refused.text
        assert pages.http.get("/v1.0/workflows/dapr").status_code == 401

        pages.post("/logout")
        assert pages.http.get("/ui/instances").status_code == 303
        pages.post("/login", token="work-token-1")
        assert pages.post("/act", verb="suspend", id="o-1", single="1").status_code == 303
        assert pages.post("/act", verb="terminate", id="o-1", confirm="1").status_code == 403
    finally:
        pages.close()


def test_read_only_refuses_what_changes_something(valkey_url: str) -> None:
    pages = Pages(valkey_url, api_read_only=True)
    try:
        pages.wfq.schedule_new_workflow("order", input=1, instance_id="o-1")

        text = pages.page("/instances/o-1")
        assert "read-only" in text
        assert "Suspend" not in text
        assert "Raise" not in text
        assert "read-only" in pages.post("/act", verb="suspend", id="o-1", single="1").text
        answer = pages.http.post("/v1.0/workflows/dapr/o-1/terminate")
        assert (answer.status_code, answer.json()["errorCode"]) == (403, "ERR_READ_ONLY")
        assert pages.http.get("/v1.0/workflows/dapr/o-1").status_code == 200
    finally:
        pages.close()

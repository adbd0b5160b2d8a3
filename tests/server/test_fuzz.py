"""Whatever is sent, the answer is one that the OpenAPI document lists."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.kit import Api, FakeClient, with_state

DOCUMENT: dict[str, Any] = Api().run("GET", "/openapi.json").json()
OPERATIONS = [
    (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    # An event stream of a running instance has no end.
    if not path.endswith("/events")
]

#: Text as an URL or header can carry it: anything, and what looks like it was meant.
some_text = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["12345678", "unknown", "", "a b", "\r\n", "{x}", "*", "~", "x" * 300, "../..", "%00", "é"]
    ),
    st.sampled_from(["1", "-1", "5s", "9d", "true", "RUNNING", "k=v", "2026-01-01T00:00:00Z"]),
)
some_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
some_body = st.one_of(st.none(), some_json.map(lambda v: json.dumps(v).encode()), st.binary())
some_type = st.sampled_from(
    [
        None,
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data",
        "application/json; charset=utf-16",
        ";",
        "\xff",
    ]
)


@st.composite
def some_request(draw: st.DrawFn) -> dict[str, Any]:
    method, path, operation = draw(st.sampled_from(OPERATIONS))
    query = []
    headers: dict[str, str] = {}
    for parameter in operation["parameters"]:
        name, place = parameter["name"], parameter["in"]
        if place == "path":
            path = path.replace(f"{{{name}}}", quote(draw(some_text), safe=""))
        elif draw(st.booleans()) and place == "query":
            query.append(f"{name}={quote(draw(some_text), safe='')}")
        elif place == "header" and draw(st.booleans()):
            headers[name] = quote(draw(some_text))
    content_type = draw(some_type)
    if content_type is not None:
        headers["content-type"] = content_type
    return {
        "method": method.upper(),
        "path": f"{path}?{'&'.join(query)}",
        "headers": {key: value.encode("latin-1") for key, value in headers.items()},
        "content": draw(some_body) if method == "post" else None,
        "operation": operation,
    }


class Ended(FakeClient):
    """A client whose waits are over at once."""

    async def wait_for_workflow_completion(
        self, instance_id: str, *, timeout_in_seconds: float
    ) -> Any:
        return self.known(instance_id)


@settings(max_examples=600, deadline=None)
@given(some_request())
def test_every_answer_is_documented(request: dict[str, Any]) -> None:
    operation = request.pop("operation")

    response = Api(Ended(with_state().states)).run(**request)

    # A path whose parameters are empty or hold a slash is another route, or none.
    documented = {int(status) for status in operation["responses"]} | {307, 404, 405}
    assert response.status_code in documented, (request, response.text)
    if response.status_code >= 400:
        assert set(response.json()) == {"errorCode", "message"}
        assert response.json()["message"].isprintable()

"""Who may call, from where, and what a browser may be made to do."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from tests.server.kit import BASE, Api, is_error, with_state
from wfq.errors import ConfigurationError
from wfq.settings import ApiToken, Settings, load_settings
from wfq_server.security import Role, check_bind, host_name

READS = [
    ("GET", f"{BASE}/12345678"),
    ("GET", f"{BASE}/12345678/history"),
    ("GET", f"{BASE}/12345678/wait?timeout=0"),
    ("GET", BASE),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
]
OPERATES = [
    ("POST", f"{BASE}/wf/start"),
    ("POST", f"{BASE}/12345678/raiseEvent/e"),
    ("POST", f"{BASE}/12345678/pause"),
    ("POST", f"{BASE}/12345678/resume"),
]
ADMINS = [
    ("POST", f"{BASE}/12345678/terminate"),
    ("POST", f"{BASE}/12345678/purge"),
    ("POST", f"{BASE}/12345678/rerun"),
]
OPEN = [("GET", "/livez"), ("GET", "/readyz"), ("GET", "/v1.0/healthz")]
ROLES: list[Role] = ["read", "operate", "admin"]


def with_tokens(**more: object) -> Settings:
    tokens = [ApiToken(token=SecretStr(f"{role}-token"), role=role) for role in ROLES]
    return load_settings(redis_url="memory://unused", api_tokens=tokens, **more)


@pytest.mark.parametrize(("method", "path"), READS + OPERATES + ADMINS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YWRtaW4tdG9rZW4="},
        {"Authorization": "admin-token"},
        {"dapr-api-token": "wrong"},
    ],
)
def test_without_a_valid_token_nothing_is_answered(
    method: str, path: str, headers: dict[str, str]
) -> None:
    api = Api(with_state(), settings=with_tokens())

    response = api.run(method, path, headers=headers, content=b"{bad" if method == "POST" else None)

    assert is_error(response, 401, "ERR_UNAUTHORIZED")
    assert response.headers["www-authenticate"] == "Bearer"
    assert api.client.calls == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("method", "path", "rank"),
    [(*route, rank) for rank, some in enumerate([READS, OPERATES, ADMINS]) for route in some],
)
def test_a_token_opens_what_its_role_may_do(role: Role, method: str, path: str, rank: int) -> None:
    api = Api(with_state(), settings=with_tokens())

    response = api.run(method, path, headers={"Authorization": f"Bearer {role}-token"})

    if ROLES.index(role) >= rank:
        assert response.status_code < 300
    else:
        assert is_error(response, 403, "ERR_PERMISSION_DENIED")
        assert api.client.calls == []


def test_daprs_own_token_header_is_understood() -> None:
    api = Api(with_state(), settings=with_tokens())

    response = api.run("GET", f"{BASE}/12345678", headers={"dapr-api-token": "read-token"})

    assert response.status_code == 200


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_probes_need_no_token(method: str, path: str) -> None:
    assert Api(settings=with_tokens()).run(method, path).status_code in (200, 204)


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:3500", "LOCALHOST", "127.0.0.1:3500", "[::1]:3500", "10.0.0.7", ""],
)
def test_the_api_is_called_by_names_of_this_machine(host: str) -> None:
    assert Api(with_state()).run("GET", f"{BASE}/12345678", headers={"Host": host}).is_success


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3500",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:3500@localhost",
        "localhost:3500:80",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_was_pointed_at_this_machine_is_refused(host: str, method: str) -> None:
    api = Api(with_state())
    path = f"{BASE}/12345678" if method == "GET" else f"{BASE}/wf/start"

    response = api.run(method, path, headers={"Host": host})

    assert is_error(response, 403, "ERR_HOST_NOT_ALLOWED")
    assert api.client.calls == []


def test_further_names_can_be_allowed() -> None:
    settings = load_settings(
        redis_url="memory://unused", api_allowed_hosts=["wfq.example.com", "wfq:3500"]
    )
    api = Api(with_state(), settings=settings)

    hosts = ["wfq.example.com:8443", "wfq:3500", "wfq:81", "other"]
    found = [api.run("GET", f"{BASE}/12345678", headers={"Host": host}) for host in hosts]

    assert [response.status_code for response in found] == [200, 200, 403, 403]


def test_an_outer_application_decides_on_names() -> None:
    api = Api(with_state(), mounted=True)

    response = api.run("GET", f"{BASE}/12345678", headers={"Host": "shop.example.com"})

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "http://localhost:3500"}, True),
        ({"Origin": "https://localhost:3500"}, True),
        ({"Origin": "http://localhost:8080"}, False),
        ({"Origin": "http://localhost"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
@pytest.mark.parametrize(("method", "path"), OPERATES + ADMINS)
def test_pages_of_other_sites_have_no_effects(
    headers: dict[str, str], allowed: bool, method: str, path: str
) -> None:
    api = Api(with_state())
    # The type that a form of any page can send without asking.
    form = {"Content-Type": "application/x-www-form-urlencoded", "Host": "localhost:3500"}

    response = api.run(method, path, headers={**form, **headers})

    if allowed:
        assert response.status_code == 202
    else:
        assert is_error(response, 403, "ERR_CROSS_SITE_REQUEST")
        assert api.client.calls == []


@pytest.mark.parametrize("path", [f"{BASE}/12345678", "/livez", "/nonsense", f"{BASE}/a%20b"])
def test_answers_cannot_be_read_framed_or_guessed_at_by_other_sites(path: str) -> None:
    response = Api(with_state()).run("GET", path, headers={"Origin": "https://evil.example"})

    assert "access-control-allow-origin" not in response.headers
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_needs_no_token(host: str) -> None:
    check_bind(load_settings(api_host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.com"])
def test_another_bind_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match="set WFQ_API_TOKEN"):
        check_bind(load_settings(api_host=host))

    check_bind(load_settings(api_host=host, api_token="secret"))


@pytest.mark.parametrize(
    ("host", "name"),
    [("A.b:1", "a.b"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("::1", "::1"), ("x", "x")],
)
def test_the_name_in_a_host_header(host: str, name: str) -> None:
    assert host_name(host) == name

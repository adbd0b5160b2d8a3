"""Settings: precedence, what an error names, and that secrets stay hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from wfq.errors import ConfigurationError
from wfq.settings import Settings, load_settings

CANARY = "hunter2-canary"


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults_need_no_file() -> None:
    settings = load_settings()

    assert settings.url is None
    assert settings.namespace == "default"
    assert settings.origin("namespace") == "default"


def test_each_source_beats_those_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    Path("pyproject.toml").write_text('[tool.wfq]\nnamespace = "e"\n')
    seen.append(load_settings())
    Path("wfq.toml").write_text('namespace = "d"\n')
    seen.append(load_settings())
    Path(".env").write_text("WFQ_NAMESPACE=c\nDATABASE_URL=foreign\nNAMESPACE=foreign\n")
    seen.append(load_settings())
    monkeypatch.setenv("WFQ_NAMESPACE", "b")
    seen.append(load_settings())
    seen.append(load_settings(namespace="a"))

    assert [(s.namespace, s.origin("namespace")) for s in seen] == [
        ("e", "namespace in [tool.wfq] in pyproject.toml"),
        ("d", "namespace in wfq.toml"),
        ("c", "WFQ_NAMESPACE in .env"),
        ("b", "WFQ_NAMESPACE"),
        ("a", "argument namespace"),
    ]


def test_nested_settings_merge_over_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wfq.toml").write_text('[limits]\npayload_bytes = "2 MiB"\ninbox_events = 5\n')
    monkeypatch.setenv("WFQ_LIMITS__INBOX_EVENTS", "7")

    limits = load_settings().limits

    assert (limits.payload_bytes, limits.inbox_events) == (2 * 1024 * 1024, 7)
    assert limits.turn_bytes == 4 * 1024 * 1024


def test_an_argument_of_none_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WFQ_APP_ID", "orders")

    assert load_settings(app_id=None).app_id == "orders"


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WFQ_REDIS_URL", "")
    monkeypatch.setenv("REDIS_URL", "")

    assert load_settings().url is None


def test_durations_are_read_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WFQ_LEASE_S", "PT7S")
    Path("wfq.toml").write_text('drain_s = "1m30s"\nretention_s = 60\n')

    settings = load_settings(task_lease_s="500ms")

    assert (settings.lease_s, settings.drain_s, settings.retention_s) == (7, 90, 60)
    assert settings.task_lease_s == 0.5


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_redis_url_is_the_fallback(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == ".env":
        Path(".env").write_text("REDIS_URL=redis://fallback\n")
    else:
        monkeypatch.setenv("REDIS_URL", "redis://fallback")

    assert load_settings().url == "redis://fallback"
    assert load_settings().origin("redis_url").startswith("REDIS_URL")

    Path("wfq.toml").write_text('redis_url = "redis://file"\n')
    assert load_settings().url == "redis://file"


def test_the_url_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("secret").write_text(f"redis://:{CANARY}@host\n")
    Path("wfq.toml").write_text('redis_url = "redis://lower"\n')
    monkeypatch.setenv("WFQ_REDIS_URL_FILE", "secret")

    settings = load_settings()

    assert settings.url == f"redis://:{CANARY}@host"
    assert settings.origin("redis_url") == "WFQ_REDIS_URL_FILE"
    # A flag is higher than the file that the environment names.
    assert load_settings(redis_url="redis://flag").url == "redis://flag"


def test_rules_come_from_the_file() -> None:
    Path("wfq.toml").write_text(
        '[[listeners]]\nchannel = "approvals"\nevent = "approved"\ninstance_id_from = "$.id"\n'
    )

    (rule,) = load_settings().listeners

    assert rule.source == "channel approvals"


def _toml(text: str) -> None:
    Path("wfq.toml").write_text(text)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("namespace = 'a b'", "namespace in wfq.toml = 'a b': "),
        ("namespace = 'a{b}'", "namespace in wfq.toml = 'a{b}': "),
        ("concurrency = 'many'", "concurrency in wfq.toml = 'many': input should be a valid int"),
        ("lease_s = '5 parsecs'", "lease_s in wfq.toml = '5 parsecs': '5 parsecs' is not a dur"),
        ("namespce = 'x'", "namespce in wfq.toml: there is no such setting; did you mean names"),
        ("[limits]\nfoo = 1", "limits.foo in wfq.toml: there is no such setting"),
        ("[[listeners]]\nevent = 'e'\ninstance_id_from = '$'", "listeners.0 in wfq.toml: a list"),
        ("a = = b", "wfq.toml is not valid TOML: "),
        ("redis_url = 'http://x'", "redis_url in wfq.toml: 'http://x' is not a Redis URL"),
        ("redis_url = 'redis://a'\nredis_url_file = 'b'", "are both set; keep one"),
        ("redis_url_file = 'missing'", "cannot read "),
    ],
)
def test_a_bad_file_is_one_clear_line(toml: str, said: str) -> None:
    _toml(toml)

    with pytest.raises(ConfigurationError) as caught:
        load_settings()

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WFQ_API_PORT", "70000", "WFQ_API_PORT = '70000': input should be less than"),
        ("WFQ_LIMITS__PAYLOAD_BYTES", "big", "WFQ_LIMITS__PAYLOAD_BYTES = 'big': "),
        ("WFQ_LISTENERS", "[not json", "cannot read the environment: "),
        ("WFQ_LOG_LEVEL", "loud", "WFQ_LOG_LEVEL = 'loud': input should be 'debug', "),
        ("REDIS_URL", "localhost", "REDIS_URL: 'localhost' is not a Redis URL; it begins with"),
    ],
)
def test_a_bad_variable_is_named(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as caught:
        load_settings()

    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WFQ_REDIS_URL", f"http://:{CANARY}@host"),
        ("WFQ_REDIS_URL", f"redis://u:{CANARY}@host:port"),
        ("WFQ_API_TOKENS", f'[{{"token": "{CANARY}", "role": "king"}}]'),
        ("WFQ_API_TOKENS", f'[{{"tokem": "{CANARY}"}}]'),
        ("WFQ_API_TOKENS", f'["{CANARY}"'),
    ],
)
def test_an_error_shows_no_secret(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as caught:
        load_settings()

    assert CANARY not in str(caught.value)
    assert name in str(caught.value) or "environment" in str(caught.value)


def test_settings_can_be_shown_without_their_secrets() -> None:
    settings = load_settings(
        redis_url=f"redis://u:{CANARY}@host", api_token=CANARY, api_tokens=[{"token": CANARY}]
    )

    assert CANARY not in repr(settings)
    assert CANARY not in repr(settings.shown())
    assert CANARY not in settings.model_dump_json()
    assert settings.masked_url == "redis://u:***@host"
    assert [t.token.get_secret_value() for t in settings.tokens] == [CANARY, CANARY]


def test_every_setting_names_its_unit_or_is_plain() -> None:
    assert [name for name in Settings.model_fields if name.endswith(("_ms", "_seconds"))] == []

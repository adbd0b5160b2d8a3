"""Redis URLs: which are taken, and that a password is never shown."""

from __future__ import annotations

import pytest

from wfq.urls import check_redis_url, mask_url

CANARY = "hunter2-canary"


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379/0",
        "redis://:secret@[::1]:6379/15?socket_timeout=5",
        "rediss://user:secret@redis.example:6380/1",
        "unix:///run/redis.sock?db=2",
        "unix://user:secret@/run/redis.sock",
        "redis+sentinel://a:26379,b:26379/mymaster/0",
        "redis+cluster://a:7000,b:7001",
        "redis+sentinel://me:secret@a,[::1]:26380/mymaster?sentinel_password=x",
        "rediss+sentinel://a/mymaster/3",
        "valkeys+cluster://me:secret@a?ssl_ca_certs=/etc/ca.pem",
        "valkey://localhost/2",
        "memory://",
        "memory://name",
        "redis://localhost?client_name=x&health_check_interval=5&ssl_cert_reqs=none",
        "redis+sentinel://a/mymaster?sentinel_ssl_ca_certs=/etc/ca.pem&socket_keepalive=1",
    ],
)
def test_a_redis_url_is_taken(url: str) -> None:
    assert check_redis_url(f" {url}\n") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://:6379",
        "redis://host:0",
        "redis://host:99999",
        "redis://host:port",
        "redis://host/zero",
        "redis://ho st",
        "unix://",
        "redis+sentinel://a:26379",
        "redis+sentinel://a:26379,b:port/mymaster",
        "redis+sentinel:///mymaster",
        "redis+sentinel://a/mymaster/zero",
        "redis+cluster://",
        "redis+cluster://a:7000/1",
        "redis+cluster://a:0",
        "redis://localhost?nonsense=1",
        "redis://localhost?decode_responses=true",
        "redis://localhost?protocol=3",
        "redis+cluster://a?host=b&port=1",
        "redis+cluster://a?sentinel_password=x",
        "unix:///run/redis.sock?retry=",
        f"redis+sentinel://user:{CANARY}@a/mymaster?nonsense",
        f"redis+cluster://u:{CANARY}@[::1",
        f"redis://u:{CANARY}@[::1",
        f"redis+cluster://user:{CANARY}@a:port",
        f"redis://user:{CANARY}/with-slash@host:6379",
        f"http://user:{CANARY}@host",
        f"redis://user:{CANARY}@host:port",
    ],
)
def test_another_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"Redis URL|names|holds|port|database") as caught:
        check_redis_url(url)

    assert CANARY not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        (f"redis://:{CANARY}@host/0", "redis://:***@host/0"),
        (f"rediss://me:{CANARY}@host", "rediss://me:***@host"),
        (f"redis://me:{CANARY}/p@ss@host", "redis://me:***@host"),
        (f"redis://host/0?password={CANARY}&db=1", "redis://host/0?password=***&db=1"),
        (
            f"redis+sentinel://u:{CANARY}@a,b/m?sentinel_password={CANARY}",
            "redis+sentinel://u:***@a,b/m?sentinel_password=***",
        ),
        (
            f"cannot open redis://u:{CANARY}@a; tried 'unix://u:{CANARY}@/s'",
            "cannot open redis://u:***@a; tried 'unix://u:***@/s'",
        ),
        ("mail me@example.org at 10:30", "mail me@example.org at 10:30"),
    ],
)
def test_passwords_are_masked(text: str, masked: str) -> None:
    assert mask_url(text) == masked

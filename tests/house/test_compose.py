"""The compose file: its shape, what it protects, and that its commands exist.

No engine runs here. What compose itself would refuse is checked as far as the file uses it; the
commands run as plain processes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import yaml

from tests.servers import ROOT, clean_env

#: The part of the compose schema that the file uses; a misspelt key is in no list.
SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "init",
    "ports", "read_only", "restart", "security_opt", "stop_grace_period", "tmpfs", "user",
    "volumes",
}  # fmt: skip
HEALTHCHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
DURATION = re.compile(r"(\d+(us|ms|s|m|h))+")
#: ``${NAME:-default}``; a default that is missing is asked for with ``:?``.
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")

OURS = ("orchestrator", "activity", "scheduler", "listener", "server")


def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


@cache
def service(name: str) -> dict[str, Any]:
    found = compose()["services"][name]
    assert isinstance(found, dict)
    return found


def command(name: str) -> list[str]:
    """Return a service's command with the defaults of its variables."""
    return [
        VARIABLE.sub(lambda match: match["text"] or "", word) for word in service(name)["command"]
    ]


def test_it_has_a_service_for_each_role() -> None:
    assert set(compose()["services"]) == {"redis", *OURS}
    # Top-level keys beside the schema's own begin with x-.
    assert {key for key in compose() if not key.startswith("x-")} == {"name", "services", "volumes"}


@pytest.mark.parametrize("name", ["redis", *OURS])
def test_a_service_uses_only_what_compose_knows(name: str) -> None:
    found = service(name)

    assert set(found) <= SERVICE_KEYS
    assert all(isinstance(word, str) for word in found["command"])
    assert DURATION.fullmatch(found["stop_grace_period"])
    assert set(found.get("depends_on", {})) <= set(compose()["services"])
    check = found.get("healthcheck", {})
    assert set(check) <= HEALTHCHECK_KEYS
    if check:
        assert check["test"][0] == "CMD"
        assert DURATION.fullmatch(check["interval"])
        assert DURATION.fullmatch(check["timeout"])
    for value in found.get("environment", {}).values():
        assert isinstance(value, str)


@pytest.mark.parametrize("name", ["redis", *OURS])
def test_a_service_can_do_no_more_than_it_needs(name: str) -> None:
    found = service(name)

    assert found["init"] is True
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["user"].split(":")[0] not in ("", "0", "root")


@pytest.mark.parametrize("name", OURS)
def test_our_services_wait_for_redis_and_can_be_scaled(name: str) -> None:
    found = service(name)

    assert found["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert found["environment"]["WFQ_REDIS_URL"] == "redis://redis:6379/0"
    assert "container_name" not in found


def test_redis_keeps_what_it_acknowledged() -> None:
    words = " ".join(service("redis")["command"])

    assert "--appendonly yes" in words
    assert "--maxmemory-policy noeviction" in words
    assert service("redis")["volumes"] == ["redis-data:/data"]
    assert "ports" not in service("redis")
    assert service("redis")["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]


def test_the_api_is_for_this_machine_and_needs_a_token() -> None:
    (port,) = service("server")["ports"]

    assert port.startswith("127.0.0.1:")
    assert VARIABLE.sub(lambda match: match["text"], port) == "127.0.0.1:3500:3500"
    assert VARIABLE.fullmatch(service("server")["environment"]["WFQ_API_TOKEN"])["kind"] == "?"  # type: ignore[index]


def test_no_secret_stands_in_the_files() -> None:
    for name in ("docker-compose.yml", "Dockerfile"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        assert not re.search(r"(?i)(password|secret|token)\s*[:=]\s*['\"]?[A-Za-z0-9]", text), name


def test_the_image_runs_as_nobody_and_takes_only_the_packages() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    last_stage = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", last_stage, re.MULTILINE)
    assert 'ENTRYPOINT ["wfq"]' in last_stage
    assert ignored[1] == "*"
    needed = {"wfq", "workers", "cli", "server", "pyproject.toml", "constraints.txt"}
    assert needed <= {line[1:] for line in ignored if line.startswith("!")}


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_that_exists(name: str) -> None:
    # Options are parsed before the help is shown: an unknown one is an error.
    shown = subprocess.run(
        [sys.executable, "-m", "wfq_cli.app", *command(name), "--help"],
        capture_output=True,
        text=True,
        env=clean_env(),
    )

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("Usage: ")

"""The compose variants and the Kubernetes manifests: their shape, and what their commands do.

No engine and no cluster of containers runs here. What an engine would refuse is checked as far as
the files use it; what they start is started as plain processes, as in `test_compose_processes`.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.house.test_compose import DURATION, HEALTHCHECK_KEYS, OURS, SERVICE_KEYS, compose
from tests.ports import free_port
from tests.servers import ROOT, find_binary, poll
from wfq.urls import check_redis_url

VARIANTS = ("sentinel", "cluster")
KUBERNETES = ROOT / "deploy" / "kubernetes"


def merged(variant: str) -> dict[str, Any]:
    """The base file with a variant laid over it, as `docker compose -f ... -f ...` does."""
    base = compose()
    over = yaml.safe_load((ROOT / f"deploy/compose/{variant}.yml").read_text(encoding="utf-8"))
    assert over["name"] == base["name"]
    for name, service in over["services"].items():
        found = base["services"].setdefault(name, {})
        for key, value in service.items():
            found[key] = {**found.get(key, {}), **value} if isinstance(value, dict) else value
    base["volumes"] = {**base["volumes"], **over["volumes"]}
    base["networks"] = over.get("networks", {})
    return base


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_uses_only_what_compose_knows(variant: str) -> None:
    found = merged(variant)

    for name, service in found["services"].items():
        assert set(service) <= SERVICE_KEYS | {"networks"}, name
        assert all(isinstance(word, str) for word in service["command"]), name
        assert DURATION.fullmatch(service["stop_grace_period"]), name
        assert set(service.get("depends_on", {})) <= set(found["services"]), name
        assert set(service.get("healthcheck", {})) <= HEALTHCHECK_KEYS, name
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in found["volumes"] or source.startswith("$"), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_service_of_a_variant_can_do_no_more_than_it_needs(variant: str) -> None:
    for name, service in merged(variant)["services"].items():
        assert service["init"] is True, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] not in ("", "0", "root"), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_services_use_the_group_and_wait_for_it(variant: str) -> None:
    services = merged(variant)["services"]

    for name in OURS:
        url = services[name]["environment"]["WFQ_REDIS_URL"]
        assert check_redis_url(url).startswith(f"redis+{variant}://")
        hosts = set(re.findall(r"([\w-]+):\d+", url.partition("://")[2]))
        assert len(hosts) == 3
        assert hosts <= set(services)
        conditions = {one["condition"] for one in services[name]["depends_on"].values()}
        assert conditions <= {"service_healthy", "service_completed_successfully"}
        assert len(services[name]["depends_on"]) > 1


def test_the_nodes_of_the_cluster_have_the_addresses_it_is_made_of() -> None:
    services = merged("cluster")["services"]
    made_of = re.findall(r"([\d.]+):6379", services["cluster"]["command"][-1])

    addresses = [
        service["networks"]["default"]["ipv4_address"]
        for service in services.values()
        if "networks" in service
    ]
    assert sorted(made_of) == sorted(addresses)
    assert len(set(made_of)) == 6


def _redis_commands() -> list[tuple[str, str, list[str]]]:
    return [
        (variant, name, service["command"])
        for variant in VARIANTS
        for name, service in merged(variant)["services"].items()
        if service["command"][0] == "redis-server" and name in ("redis", "redis-2")
    ]


@pytest.mark.parametrize(("variant", "name", "command"), _redis_commands())
def test_a_redis_takes_its_options(
    variant: str, name: str, command: list[str], tmp_path: Path
) -> None:
    words = command[1:]
    if "--replicaof" in words:
        at = words.index("--replicaof")
        assert words[at + 1 : at + 3] == ["redis", "6379"]
        words = words[:at] + words[at + 3 :]

    answers = _start_and_ask(
        [*words, "--bind", "127.0.0.1"], tmp_path, "CONFIG GET appendonly", "CONFIG GET maxmemory-*"
    )

    assert "appendonly\nyes" in answers
    assert "noeviction" in answers


def test_a_sentinel_makes_its_configuration_and_keeps_it(tmp_path: Path) -> None:
    script = merged("sentinel")["services"]["sentinel-1"]["command"][-1]
    master = free_port()
    # Not the container's paths, ports and names.
    script = script.replace("/data", str(tmp_path)).replace(
        "wfq redis 6379", f"wfq 127.0.0.1 {master}"
    )

    answers = _start_and_ask(script, tmp_path, "SENTINEL MASTERS")

    assert str(master) in answers
    assert (tmp_path / "sentinel.conf").read_text().startswith("port ")


def _start_and_ask(command: list[str] | str, directory: Path, *questions: str) -> str:
    """Start a Redis on a free port, ask it, end it; returns the answers."""
    binary = find_binary("redis")
    if binary is None:
        pytest.skip("no redis-server on PATH (apt-get install redis-server)")
    port = str(free_port())
    if isinstance(command, str):
        script = command.replace("'port 26379'", f"'port {port}' 'bind 127.0.0.1'")
        words = ["sh", "-c", script]
    else:
        # The bus has a port of its own, 10,000 above the other where that is not too high.
        bus = ["--cluster-port", str(free_port())] if "--cluster-enabled" in command else []
        words = [str(binary), *command, *bus, "--port", port, "--dir", str(directory)]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(words, cwd=directory, stdout=log, stderr=log)
    try:

        def ask(question: str) -> str:
            done = subprocess.run(
                ["redis-cli", "-p", port, *question.split()], capture_output=True, text=True
            )
            return done.stdout

        poll(lambda: ask("PING") == "PONG\n" or server.poll() is not None, 20, every_s=0.05)
        assert server.poll() is None, (directory / "log").read_text()
        return "\n".join(ask(question) for question in questions)
    finally:
        server.terminate()
        server.wait(10)


# --- Kubernetes

#: The part of the schemas that the manifests use; a misspelt key is in no list.
POD_KEYS = {
    "automountServiceAccountToken", "containers", "securityContext",
    "terminationGracePeriodSeconds", "volumes",
}  # fmt: skip
CONTAINER_KEYS = {
    "name", "image", "args", "env", "ports", "startupProbe", "livenessProbe", "readinessProbe",
    "resources", "securityContext", "volumeMounts",
}  # fmt: skip
PROBE_KEYS = {"httpGet", "exec", "periodSeconds", "timeoutSeconds", "failureThreshold"}
SPEC_KEYS = {
    "Deployment": {"replicas", "selector", "template"},
    "StatefulSet": {"serviceName", "replicas", "selector", "template", "volumeClaimTemplates"},
    "Service": {"clusterIP", "selector", "ports"},
    "PodDisruptionBudget": {"maxUnavailable", "selector"},
    "ScaledObject": {
        "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval",
        "cooldownPeriod", "triggers",
    },
}  # fmt: skip
API_VERSIONS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "Service": "v1",
    "PodDisruptionBudget": "policy/v1",
    "ScaledObject": "keda.sh/v1alpha1",
}
QUANTITY = re.compile(r"\d+(m|Ki|Mi|Gi)?")


def manifests() -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    assert {path.name for path in KUBERNETES.glob("*.yaml")} == {
        "kustomization.yaml",
        *listed["resources"],
    }
    return [
        one
        for name in listed["resources"]
        for one in yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8"))
    ]


def pods() -> dict[str, dict[str, Any]]:
    """The pod templates by the name of what makes them."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in manifests()
        if "template" in one["spec"]
    }


def test_manifests_use_only_what_kubernetes_knows() -> None:
    for one in manifests():
        assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
        assert one["apiVersion"] == API_VERSIONS[one["kind"]]
        assert set(one["spec"]) <= SPEC_KEYS[one["kind"]]
        if "template" in one["spec"]:
            wanted = one["spec"]["selector"]["matchLabels"].items()
            assert wanted <= one["spec"]["template"]["metadata"]["labels"].items()
    for name, pod in pods().items():
        assert set(pod["spec"]) <= POD_KEYS, name
        (container,) = pod["spec"]["containers"]
        assert set(container) <= CONTAINER_KEYS, name
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert set(container.get(probe, {})) <= PROBE_KEYS, name
        for some in container["resources"].values():
            assert all(QUANTITY.fullmatch(value) for value in some.values()), name
        for variable in container.get("env", ()):
            assert len(variable) == 2, name
            assert isinstance(variable.get("value", ""), str), name
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod["spec"].get("volumes", ())} | {"data"}


def test_pods_run_as_nobody_on_a_root_that_cannot_be_written() -> None:
    for name, pod in pods().items():
        spec = pod["spec"]
        (container,) = spec["containers"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert "memory" in container["resources"]["limits"], name


def test_pods_run_the_commands_that_compose_runs() -> None:
    services = compose()["services"]

    for name in ("orchestrator", "activity", "scheduler", "server"):
        (container,) = pods()[f"wfq-{name}"]["spec"]["containers"]
        assert container["args"] == services[name]["command"], name
    (redis,) = pods()["redis"]["spec"]["containers"]
    assert redis["args"] == services["redis"]["command"]


def test_services_find_the_pods_and_their_ports() -> None:
    for one in manifests():
        if one["kind"] != "Service":
            continue
        wanted = one["spec"]["selector"].items()
        (pod,) = [pod for pod in pods().values() if wanted <= pod["metadata"]["labels"].items()]
        names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= names


def test_autoscalers_ask_for_metrics_that_the_server_has() -> None:
    exposition = (ROOT / "server/wfq_server/exposition.py").read_text(encoding="utf-8")
    scaled = [one for one in manifests() if one["kind"] == "ScaledObject"]

    assert [one["spec"]["scaleTargetRef"]["name"] for one in scaled] == [
        "wfq-activity",
        "wfq-orchestrator",
    ]
    for one in scaled:
        assert one["spec"]["scaleTargetRef"]["name"] in pods()
        (trigger,) = one["spec"]["triggers"]
        assert trigger["type"] == "prometheus"
        assert set(trigger["metadata"]) == {
            "serverAddress", "query", "threshold", "ignoreNullValues",
        }  # fmt: skip
        # The server tells no figures while it cannot ask Redis; that must not scale anything down.
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert float(trigger["metadata"]["threshold"]) > 0
        metrics = re.findall(r"wfq_\w+", trigger["metadata"]["query"])
        assert metrics
        assert all(f'"{metric}"' in exposition for metric in metrics)


def test_what_is_scaled_by_itself_has_no_fixed_number() -> None:
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]
        for one in manifests()
        if one["kind"] == "ScaledObject"
    }

    for one in manifests():
        if one["kind"] == "Deployment":
            # A number here would be set anew by every `kubectl apply`.
            assert ("replicas" in one["spec"]) != (one["metadata"]["name"] in scaled)


# --- the image


def test_the_image_is_made_in_layers_that_change_from_the_top() -> None:
    lines = [
        line.strip()
        for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]

    # Pinned, slim, and nothing of the build in the last stage but what is copied from it.
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*-slim", base) for base in bases)
    assert len(bases) == 2
    copies = [n for n, line in enumerate(lines) if line.startswith("COPY ")]
    code = next(n for n in copies if lines[n] == "COPY . .")
    needed = next(n for n, line in enumerate(lines) if "--requirement needed.txt" in line)
    assert copies[0] < needed < code, "dependencies first: that layer stays while code changes"
    assert all("--no-cache-dir" in part for part in _pip_installs(lines))
    assert not any(line.startswith("ADD ") or "latest" in line for line in lines)
    assert sum(line.startswith(("ENTRYPOINT", "CMD")) for line in lines) == 2
    assert all(line.split(" ", 1)[1].startswith("[") for line in lines if line.startswith("CMD"))


def _pip_installs(lines: list[str]) -> list[str]:
    joined = " ".join(line.rstrip("\\") for line in lines)
    return [
        part
        for part in re.split(r"&&|\bRUN\b|\bCOPY\b", joined)
        if "pip" in part and "install" in part
    ]

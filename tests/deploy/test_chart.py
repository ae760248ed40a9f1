"""The Helm chart, rendered by Helm's own library: what a cluster would get fits what the service takes and needs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from constellation import config
from constellation.api.grpc.sync import SERVICE
from constellation.cli.serve import check_memory
from constellation.config import Settings, WorkerSettings
from constellation.shard import memory_bytes

helm = pytest.importorskip("helm_python", reason="Helm's library is not here: make check-deploy installs it")

CHART = Path(__file__).resolve().parents[2] / "deploy/helm/constellation"
LEAST = {"domain": "tv.example", "database": {"hosts": "primary,standby"}}
ALL = LEAST | {
    "tls": {"secret": "shard-tls"},
    "ingress": {"tlsSecret": "tv", "annotations": {"a/b": "c"}},
    "shards": {
        "count": 3,
        "extraEnvironment": {"CONSTELLATION_ACCESS_LOG": "true"},
        "data": {"storageClassName": "fast"},
    },
    "tracing": {"endpoint": "http://collector:4318", "sample": 0.5},
}
VARIABLES = [{option.variable: option for option in config.options(kind)} for kind in (Settings, WorkerSettings)]
"""Of shards and of workers, as `pods` tells them."""


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values=values, name="eu", namespace="tv").values()
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


@pytest.fixture(scope="module", params=[LEAST, ALL], ids=["least", "all"])
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return rendered(request.param)


def one(objects: list[dict[str, Any]], kind: str, name: str = "eu") -> dict[str, Any]:
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The specification of each kind of pod, and its one container."""
    for each in (one(objects, "StatefulSet"), one(objects, "Deployment", "eu-worker")):
        spec = each["spec"]["template"]["spec"]
        yield spec, spec["containers"][0]


def test_chart_passes_helms_lint() -> None:
    report = helm.lint(CHART, values=ALL, strict=True)
    assert report["errors"] == []
    assert [each for each in report["messages"] if "icon" not in each["error"]] == []


@pytest.mark.parametrize("missing", ["domain", "database"])
def test_value_that_has_no_default_is_asked_for(missing: str) -> None:
    with pytest.raises(helm.HelmError, match=missing):
        rendered({name: value for name, value in LEAST.items() if name != missing})


def test_settings_exist_and_take_what_is_set(objects: list[dict[str, Any]]) -> None:
    for (_, container), variables in zip(pods(objects), VARIABLES, strict=True):
        for variable in container["env"]:
            name, value = variable["name"], variable.get("value", "")
            if not name.startswith("CONSTELLATION_"):
                continue
            option = variables.get(name)
            assert option is not None, name
            if "$(" not in value:
                config._convert(option, value, name, strict=False)


def test_full_shard_fits_into_its_memory(objects: list[dict[str, Any]]) -> None:
    _, container = next(pods(objects))
    told = {each["name"]: each.get("value") for each in container["env"]}
    settings = Settings(
        max_devices=int(told["CONSTELLATION_MAX_DEVICES"]), max_patterns=int(told["CONSTELLATION_MAX_PATTERNS"])
    )
    assert container["resources"]["limits"]["memory"] == "8Gi"
    check_memory(memory_bytes(settings), 8 << 30, settings)


def test_variables_are_defined_before_they_are_used(objects: list[dict[str, Any]]) -> None:
    for _, container in pods(objects):
        known: set[str] = set()
        for variable in container["env"]:
            used = {part.split(")")[0] for part in variable.get("value", "").split("$(")[1:]}
            assert used <= known, variable
            known.add(variable["name"])


def test_nothing_runs_as_root_or_writes_into_its_image(objects: list[dict[str, Any]]) -> None:
    for spec, _ in pods(objects):
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
        assert spec["automountServiceAccountToken"] is False
        mounts = {volume["name"] for volume in spec["volumes"]} | {"data"}
        for container in spec["initContainers"] + spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}
            assert security["allowPrivilegeEscalation"] is False
            assert {mount["name"] for mount in container["volumeMounts"]} <= mounts


def test_shards_start_in_parallel_keep_their_data_and_are_probed(objects: list[dict[str, Any]]) -> None:
    shards = one(objects, "StatefulSet")["spec"]
    assert shards["podManagementPolicy"] == "Parallel"
    assert set(shards["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    _, container = next(pods(objects))
    probes = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert probes == {"startup": "/health/live", "liveness": "/health/live", "readiness": "/health/ready"}
    # The port where nobody has to show a certificate.
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")} == {
        "metrics"
    }
    assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert not [each for each in objects if each["kind"] == "HorizontalPodAutoscaler"]


def test_every_shard_has_an_address_and_what_is_inside_stays_inside(objects: list[dict[str, Any]]) -> None:
    count = one(objects, "StatefulSet")["spec"]["replicas"]
    for name, wanted in (("eu", "/api/v1/sync"), ("eu-grpc", f"/{SERVICE}")):
        rules = one(objects, "Ingress", name)["spec"]["rules"]
        assert {rule["host"] for rule in rules} == {"tv.example", *(f"eu-{i}.tv.example" for i in range(count))}
        for rule in rules:
            paths = [path["path"] for path in rule["http"]["paths"]]
            assert wanted in paths and not {"/", "/metrics", "/api/v1/sample", "/health"} & set(paths)
            for path in rule["http"]["paths"]:
                service = one(objects, "Service", path["backend"]["service"]["name"])
                assert path["backend"]["service"]["port"]["name"] in {each["name"] for each in service["spec"]["ports"]}


def test_ports_lead_where_the_shard_listens(objects: list[dict[str, Any]]) -> None:
    _, container = next(pods(objects))
    listens = {each["name"]: each["containerPort"] for each in container["ports"]}
    settings = Settings()
    assert listens == {"http": settings.port, "grpc": settings.grpc_port, "metrics": settings.metrics_port}
    for service in (each for each in objects if each["kind"] == "Service" and each["metadata"]["name"] != "eu-worker"):
        for port in service["spec"]["ports"]:
            assert port["port"] == listens[port["targetPort"]], service["metadata"]["name"]
    allowed = [port["port"] for rule in one(objects, "NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]]
    assert sorted(allowed) == sorted(listens)
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["CONSTELLATION_PUBLIC_GRPC_PORT"] == "443"


def test_services_and_policies_select_pods_that_there_are(objects: list[dict[str, Any]]) -> None:
    labels = {
        each["kind"]: each["spec"]["template"]["metadata"]["labels"].items()
        for each in (one(objects, "StatefulSet"), one(objects, "Deployment", "eu-worker"))
    }
    for service in (each for each in objects if each["kind"] == "Service"):
        selected = service["spec"]["selector"]
        if "statefulset.kubernetes.io/pod-name" not in selected:
            assert any(selected.items() <= of_pod for of_pod in labels.values()), service["metadata"]["name"]
    selected = one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert all(selected.items() <= of_pod for of_pod in labels.values())
    for monitor in (each for each in objects if each["kind"] == "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        assert any(wanted <= each["metadata"]["labels"].items() for each in objects if each["kind"] == "Service")


def test_cluster_gets_the_alert_rules_of_this_repository(objects: list[dict[str, Any]]) -> None:
    alerts = yaml.safe_load((CHART.parents[1] / "prometheus/alerts.yml").read_text())
    assert one(objects, "PrometheusRule")["spec"] == alerts

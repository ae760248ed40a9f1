"""Image, compose file and systemd unit: what they name is there, and what they promise is in them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from constellation import config
from constellation.config import Settings, WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"
VARIABLES = {option.variable for kind in (Settings, WorkerSettings) for option in config.options(kind)}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yml").read_text())
    return loaded


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not here: make check-deploy installs it")
def test_dockerfile_passes_hadolint() -> None:
    subprocess.run(["hadolint", ROOT / "Dockerfile"], check=True, timeout=60)


def test_dockerfile_copies_what_is_there_pins_its_base_and_does_not_run_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (?!--)(.+)$", text, re.M) for word in line.split()[:-1]]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied and all((ROOT / source).exists() and source in kept for source in copied)
    assert re.search(r"^ARG PYTHON=python:3\.11\.\d+-slim-bookworm$", text, re.M)
    assert re.findall(r"^USER (\S+)$", text, re.M)[-1] == "10001"
    assert re.search(r'^HEALTHCHECK .+\\\n    CMD \["/opt/constellation/bin/constellation", "health"\]$', text, re.M)
    assert " | " not in re.sub(r"^#.*$", "", text, flags=re.M)
    named = {name for name in re.findall(r"(CONSTELLATION_\w+)=", text)}
    assert named <= VARIABLES


def test_compose_file_is_of_the_specification() -> None:
    specification = pytest.importorskip(
        "compose_spec", reason="compose-spec is not here: make check-deploy installs it"
    )
    specification.ComposeSpecification.model_validate(compose())


def test_compose_names_files_that_are_there_and_settings_that_exist() -> None:
    for name, service in services().items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose()["volumes"] or (COMPOSE / source).is_file(), (name, volume)
        given = {key for key in service.get("environment", {}) if key.startswith("CONSTELLATION_")}
        assert given <= VARIABLES, (name, given - VARIABLES)
        for secret in service.get("secrets", []):
            assert compose()["secrets"][secret]["file"].startswith("./secrets/")
        for other in service.get("depends_on", []):
            assert other in services()


def test_shards_of_the_compose_file_share_the_slots_and_nothing_else() -> None:
    shards = {name: each["environment"] for name, each in services().items() if name.startswith("shard-")}
    count = len(shards)
    assert {each["CONSTELLATION_SHARE"] for each in shards.values()} == {f"{i}/{count}" for i in range(count)}
    for setting in ("SHARD_ID", "DATABASE_URL", "PUBLIC_URL", "PUBLIC_GRPC_PORT"):
        assert len({each[f"CONSTELLATION_{setting}"] for each in shards.values()}) == count
    made = re.search(r"^for database in (.+); do$", (COMPOSE / "primary.sh").read_text(), re.M)
    assert made is not None
    urls = [value for each in services().values() for key, value in each.get("environment", {}).items() if "URL" in key]
    used = {url.rpartition("/")[2] for url in urls if url.startswith("postgresql://")}
    assert used == set(made[1].split())


def test_prometheus_scrapes_what_compose_starts() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in scraped for group in job["static_configs"] for target in group["targets"]}
    measured = {name for name in services() if name.startswith("shard-") or name == "worker"}
    assert {target.split(":")[0] for target in targets} == measured
    used = {job["job_name"] for job in scraped}
    assert used == set(re.findall(r'job="([\w-]+)"', (DEPLOY / "prometheus/alerts.yml").read_text()))


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not here: it is a package of Debian's")
def test_proxy_configuration_is_valid_and_leads_to_every_shard() -> None:
    subprocess.run(["haproxy", "-c", "-f", COMPOSE / "haproxy.cfg"], check=True, timeout=60)
    text = (COMPOSE / "haproxy.cfg").read_text()
    published = services()["proxy"]["ports"]
    assert {"127.0.0.1:8080:8080", "127.0.0.1:50051:50051"} <= set(published)
    for name, service in services().items():
        if name.startswith("shard-"):
            port = service["environment"]["CONSTELLATION_PUBLIC_URL"].rpartition(":")[2]
            assert f"frontend {name}\n    bind :{port}\n" in text
            grpc_port = service["environment"]["CONSTELLATION_PUBLIC_GRPC_PORT"]
            assert f"frontend {name}-grpc\n    bind :{grpc_port} proto h2\n" in text
            assert {f"127.0.0.1:{port}:{port}", f"127.0.0.1:{grpc_port}:{grpc_port}"} <= set(published)


@pytest.mark.parametrize("script", sorted(COMPOSE.glob("*.sh")), ids=lambda script: str(script.name))
def test_script_parses_and_stops_at_the_first_failure(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True, timeout=60)
    assert "\nset -euo pipefail\n" in script.read_text()


def test_unit_starts_a_command_that_exists() -> None:
    text = (DEPLOY / "systemd/constellation@.service").read_text()
    started = re.search(r"^ExecStart=/opt/constellation/bin/constellation serve (.+)$", text, re.M)
    assert started is not None
    flags = {option.flag for option in config.options()} | {"--config"}
    assert {word for word in started[1].split() if word.startswith("--")} <= flags


def test_folders_below_deploy_are_in_its_map() -> None:
    told = set(re.findall(r"^\| `([\w./]+)/` \|", (DEPLOY / "README.md").read_text(), re.M))
    there = {path.parent.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("*") if path.is_file()} - {"."}
    assert {folder for folder in there if "secrets" not in folder} == told

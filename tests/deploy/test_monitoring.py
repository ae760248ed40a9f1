"""Alert rules and dashboard: what they name is really exposed, and they say what the objectives say."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/constellation.json"
METRIC = re.compile(r"\bconstellation_\w+")
RECORD = re.compile(r"\bconstellation:\w+:\w+")

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not here: it is in Debian's package prometheus"
)


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def dashboard_expressions() -> Iterator[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


@promtool
def test_rules_and_configuration_are_well_formed() -> None:
    subprocess.run(["promtool", "check", "rules", PROMETHEUS / "alerts.yml"], check=True, timeout=60)
    # The file of the token is a secret that nobody has here.
    subprocess.run(
        ["promtool", "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml"], check=True, timeout=60
    )


@promtool
def test_rules_fire_when_they_should_and_only_then() -> None:
    command = ["promtool", "test", "rules", "alerts_test.yml"]
    subprocess.run(command, cwd=PROMETHEUS, check=True, timeout=60)


def test_every_metric_of_a_rule_is_exposed(exposed: frozenset[str]) -> None:
    named = {name for rule in rules() for name in METRIC.findall(rule["expr"])}
    assert named and named <= exposed, sorted(named - exposed)


def test_every_metric_of_the_dashboard_is_exposed_or_recorded(exposed: frozenset[str]) -> None:
    expressions = list(dashboard_expressions())
    named = {name for expression in expressions for name in METRIC.findall(expression)}
    assert named and named <= exposed, sorted(named - exposed)
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert {name for expression in expressions for name in RECORD.findall(expression)} <= recorded


def test_every_metric_of_the_docs_is_exposed(exposed: frozenset[str]) -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "deploy/README.md"]
    named = {name for page in pages for name in METRIC.findall(page.read_text())}
    histograms = {name.removesuffix("_count") for name in exposed if name.endswith("_count")}
    assert named <= exposed | histograms, sorted(named - exposed - histograms)


def test_panels_have_units_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_every_alert_says_how_grave_it_is_and_names_a_page_that_exists() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["labels"]["severity"] in ("page", "ticket"), alert["alert"]
        page, _, section = alert["annotations"]["runbook"].partition("#")
        text = (ROOT / page).read_text()
        headings = [re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in text.splitlines()]
        assert not section or section in headings, alert["alert"]


def test_runbook_names_the_alerts_that_lead_to_it() -> None:
    for alert in (rule for rule in rules() if "runbooks/" in rule.get("annotations", {}).get("runbook", "")):
        assert f"`{alert['alert']}`" in (ROOT / alert["annotations"]["runbook"]).read_text(), alert["alert"]


def test_objectives_of_the_page_are_those_of_the_rules() -> None:
    page = (ROOT / "docs/slo.md").read_text()
    for name, objective in (("SyncFailuresBurn", "99.9%"), ("SyncSlowBurn", "99%")):
        budget = round(1 - float(objective.rstrip("%")) / 100, 6)
        burning = [rule for rule in rules() if rule.get("alert") == f"Constellation{name}"]
        assert f"| {objective} |" in page
        found = [re.findall(r"\(([\d.]+) \* ([\d.]+)\)", rule["expr"]) for rule in burning]
        assert all(float(limit) == budget for both in found for _, limit in both)
        assert [both[0][0] for both in found] == re.findall(r"^\| ([\d.]+) \| \d", page, re.M)

"""What Prometheus reads: the agreed names, on both ports, counting what really happened."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api import bodies
from tests.api.process import Server

AGREED = {
    "constellation_sync_requests_total",
    "constellation_patterns_stored_total",
    "constellation_active_devices",
    "constellation_total_devices",
    "constellation_shard_health",
    "constellation_sync_latency_seconds_bucket",
    "constellation_sync_latency_seconds_count",
    "constellation_sync_latency_seconds_sum",
    "constellation_federation_rounds_total",
    "constellation_federation_patterns_aggregated",
    "constellation_federation_trends_detected",
    "constellation_federation_duration_seconds_bucket",
}
BESIDE = {
    "constellation_loop_lag_seconds",
    "constellation_index_patterns",
    "constellation_in_flight_requests",
    "constellation_problems_total",
    "constellation_load",
    "constellation_next_sync_seconds",
    "constellation_connections",
    "constellation_received_bytes_total",
    "constellation_sent_bytes_total",
    "constellation_access_log_dropped_total",
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(url: str) -> Samples:
    reply = httpx.get(url)
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset({"shard_id": "shard-0", **labels}.items())), 0.0)


@pytest.mark.parametrize("port", ["api", "metrics"])
def test_both_ports_have_every_name(server: Server, client: httpx.Client, port: str) -> None:
    assert client.post("/api/v1/sync", content=b"").status_code == 415
    names = {name for name, _ in scrape(server.metrics_url if port == "metrics" else f"{server.url}/metrics")}
    assert names >= AGREED | BESIDE


def test_metrics_port_serves_nothing_else(server: Server) -> None:
    base = server.metrics_url.removesuffix("/metrics")
    assert httpx.get(f"{base}/api/v1/stats").status_code == 404


def test_syncs_are_counted_by_status_and_problems_by_code(server: Server, client: httpx.Client) -> None:
    before = scrape(server.metrics_url)
    assert client.post("/api/v1/sync", json=bodies.body(bodies.pattern())).status_code == 200
    assert client.post("/api/v1/sync", json={}).status_code == 422
    after = scrape(server.metrics_url)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("constellation_sync_requests_total", status="200") == 1
    assert grown("constellation_sync_requests_total", status="422") == 1
    assert grown("constellation_problems_total", code="invalid_pattern") == 1
    assert grown("constellation_sync_latency_seconds_count") == 2
    assert grown("constellation_patterns_stored_total") == 1
    assert grown("constellation_total_devices") == 1
    assert grown("constellation_received_bytes_total") > 2_000
    assert value(after, "constellation_shard_health") == 1

"""Every other endpoint over a socket."""

import urllib.parse
from typing import Any

import httpx
import msgspec
import pytest

from constellation import __version__
from constellation.wire.dictionary import newest, packaged
from tests.api import bodies
from tests.api.process import Server

MSGPACK = "application/msgpack"


def get(client: httpx.Client, path: str) -> Any:
    reply = client.get(path)
    assert reply.status_code == 200, reply.text
    return reply.json()


def watch(client: httpx.Client, item: bodies.Json, samples: int) -> None:
    pattern = bodies.pattern(embedding=item["embedding"], sample_count=samples)
    assert client.post("/api/v1/sync", json=bodies.body(pattern)).status_code == 200


@pytest.mark.parametrize("content_id", ["tt0083658", "a/b//c/", "ünïcode?&#%", "x" * 64])
def test_content_comes_back_as_posted(client: httpx.Client, content_id: str) -> None:
    item = bodies.content(content_id)
    reply = client.post("/api/v1/content", json=item)
    assert (reply.status_code, reply.json()) == (201, {"content_id": content_id})
    back = get(client, "/api/v1/content/" + urllib.parse.quote(content_id, safe=""))
    assert {name: back[name] for name in ("content_id", "title", "metadata")} == {
        name: item[name] for name in ("content_id", "title", "metadata")
    }
    assert back["embedding"] == pytest.approx(item["embedding"], abs=0.01)


def test_content_of_the_same_id_is_replaced_and_metadata_is_optional(client: httpx.Client) -> None:
    assert client.post("/api/v1/content", json=bodies.content("tt1")).status_code == 201
    plain = bodies.content("tt1", title="Aliens")
    del plain["metadata"]
    assert client.post("/api/v1/content", json=plain).status_code == 201
    back = get(client, "/api/v1/content/tt1")
    assert back["title"] == "Aliens" and "metadata" not in back


def test_content_in_msgpack(client: httpx.Client) -> None:
    packed = msgspec.msgpack.encode(bodies.content("tt2"))
    headers = {"Content-Type": MSGPACK}
    assert client.post("/api/v1/content", content=packed, headers=headers).status_code == 201
    reply = client.get("/api/v1/content/tt2", headers={"Accept": MSGPACK})
    assert len(msgspec.msgpack.decode(reply.content)["embedding"]) == 384


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"content_id": ""}, "content_id"),
        ({"content_id": "x" * 65}, "content_id"),
        ({"embedding": [0.0] * 384}, "embedding"),
        ({"title": 7}, "title"),
    ],
)
def test_invalid_content_names_its_field(client: httpx.Client, change: bodies.Json, path: str) -> None:
    problem = client.post("/api/v1/content", json=bodies.content() | change).json()
    assert (problem["status"], problem["code"], problem["path"]) == (422, "invalid_content", path)


def test_trends_name_the_content_that_is_watched(client: httpx.Client) -> None:
    item = bodies.content("tt-trend", embedding=bodies.embedding(900))
    assert client.post("/api/v1/content", json=item).status_code == 201
    watch(client, item, samples=100_000)
    trends = get(client, "/api/v1/trending?region=us-east&limit=50")["trending"]
    assert "tt-trend" in [trend["content_id"] for trend in trends]
    assert {trend["region"] for trend in trends} == {"us-east"}
    scores = [trend["trending_score"] for trend in trends]
    assert scores == sorted(scores, reverse=True) and scores[0] == 1.0
    assert get(client, "/api/v1/trending") == get(client, "/api/v1/trending?region=us-east")


def test_trends_of_another_region_are_none(client: httpx.Client) -> None:
    assert get(client, "/api/v1/trending?region=eu-west") == {"trending": []}


@pytest.mark.parametrize("limit", ["51", "-1", "x", "1.0", "٣"])
def test_limit_of_trends_is_checked(client: httpx.Client, limit: str) -> None:
    problem = client.get("/api/v1/trending", params={"limit": limit}).json()
    assert (problem["status"], problem["code"], problem["path"]) == (422, "invalid_parameter", "query.limit")


def test_forgotten_device_leaves_no_pattern_and_forgetting_repeats(client: httpx.Client) -> None:
    device, vector = bodies.new_id(), bodies.embedding(901)
    shared = bodies.pattern(embedding=vector)
    assert client.post("/api/v1/sync", json=bodies.body(shared, device_id=device)).status_code == 200
    before = get(client, "/api/v1/stats")
    for _ in range(2):
        reply = client.delete(f"/api/v1/devices/{device}")
        assert (reply.status_code, reply.content) == (204, b"")
    after = get(client, "/api/v1/stats")
    assert after["total_devices"] == before["total_devices"] - 1
    assert after["patterns_stored"] == before["patterns_stored"] - 1
    reply = client.post("/api/v1/sync", json=bodies.body(bodies.pattern(embedding=vector)))
    assert shared["id"] not in [pattern["id"] for pattern in reply.json()["global"]["similar"]]


def test_forgetting_what_is_no_uuid_is_refused(client: httpx.Client) -> None:
    problem = client.delete("/api/v1/devices/nobody").json()
    assert (problem["status"], problem["code"], problem["path"]) == (422, "invalid_parameter", "path.device_id")


def test_stats_are_measured(client: httpx.Client) -> None:
    before = get(client, "/api/v1/stats")
    client.post("/api/v1/sync", json=bodies.body(bodies.pattern()))
    after = get(client, "/api/v1/stats")
    assert after["total_devices"] == before["total_devices"] + 1
    assert after["active_devices"] == before["active_devices"] + 1
    assert after["patterns_stored"] == before["patterns_stored"] + 1
    assert after["global_version"] > before["global_version"]
    assert after["sync_requests_per_min"] >= 1
    assert after["avg_sync_latency_ms"] > 0 and after["p99_sync_latency_ms"] > 0
    assert (after["shard_id"], after["region"]) == ("shard-0", "us-east")


def test_shard_map_has_this_shard_with_every_slot(client: httpx.Client, server: Server) -> None:
    (shard,) = get(client, "/api/v1/shards")["shards"]
    assert shard == {
        "id": "shard-0",
        "region": "us-east",
        "url": server.url,
        "slots": [0, 16_383],
        "devices": get(client, "/api/v1/stats")["total_devices"],
        "status": "ready",
        "epoch": 1,
    }


def test_info_names_the_version_and_the_limits(client: httpx.Client) -> None:
    info = get(client, "/api/v1/info")
    assert (info["name"], info["version"], info["shard_id"]) == ("constellation", __version__, "shard-0")
    assert info["limits"]["max_devices"] == 100_000 and info["limits"]["patterns_added_max"] == 100
    assert info["codebook_version"] == 1
    assert info["dictionaries"] == list(packaged()) and info["dictionary_version"] == newest()


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_healthy(client: httpx.Client, path: str) -> None:
    assert get(client, path) == {"status": "ok"}


def test_detailed_health_probes_every_part(client: httpx.Client) -> None:
    health = get(client, "/health/detailed")
    assert health["status"] == "ready"
    assert set(health["components"]) == {"shard", "index", "loop"}
    for component in health["components"].values():
        assert component["status"] == "ok" and component["latency_ms"] >= 0


@pytest.mark.parametrize("path", ["/api/v1/stats", "/api/v1/shards", "/api/v1/trending", "/health"])
def test_accept_chooses_msgpack(client: httpx.Client, path: str) -> None:
    reply = client.get(path, headers={"Accept": MSGPACK})
    assert reply.headers["content-type"] == MSGPACK and reply.headers["vary"] == "Accept"
    assert msgspec.msgpack.decode(reply.content).keys() == client.get(path).json().keys()

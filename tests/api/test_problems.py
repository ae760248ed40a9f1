"""Every row of the error table over a socket: status, code, path, form; and that nothing of it was applied."""

import gzip
import itertools
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import zstandard

from constellation import limits
from tests.api import bodies
from tests.api.process import Server, serving, wait_for

SYNC = "/api/v1/sync"
JSON = {"Content-Type": "application/json"}
MISSING_DICTIONARY = bytes.fromhex("28b52ffd21070a")
"""The head of a zstd frame that names dictionary 7."""


def broken(**changes: Any) -> bodies.Json:
    return bodies.body(bodies.pattern(), bodies.pattern(**changes))


def check(reply: httpx.Response, status: int, code: str, path: str | None = None) -> bodies.Json:
    problem: bodies.Json = reply.json()
    assert (reply.status_code, problem["code"], problem.get("path")) == (status, code, path), problem
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status and problem["detail"]
    assert problem["instance"] == reply.headers["x-request-id"]
    return problem


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        pytest.param(b"{", JSON, id="cut"),
        pytest.param(b"", JSON, id="empty"),
        pytest.param(b"\xff", JSON, id="not UTF-8"),
        pytest.param(b'{"x":' * 100_000, JSON, id="deep"),
        pytest.param(b"\xc1", {"Content-Type": "application/msgpack"}, id="not msgpack"),
        pytest.param(b"plain", JSON | {"Content-Encoding": "zstd"}, id="not zstd"),
        pytest.param(zstandard.compress(b"{}")[:-1], JSON | {"Content-Encoding": "zstd"}, id="cut zstd"),
        pytest.param(gzip.compress(b"{}") + b"more", JSON | {"Content-Encoding": "gzip"}, id="more than gzip"),
    ],
)
def test_malformed(client: httpx.Client, content: bytes, headers: dict[str, str]) -> None:
    reply = client.post(SYNC, content=content, headers=headers | {"Accept": "application/json"})
    check(reply, 400, "malformed")


def test_unknown_content_and_unknown_address_are_not_found(client: httpx.Client) -> None:
    check(client.get("/api/v1/content/nothing"), 404, "not_found")
    check(client.get("/api/v2/sync"), 404, "not_found")


def test_other_method_is_told_which_there_are(client: httpx.Client) -> None:
    reply = client.get(SYNC)
    check(reply, 405, "method_not_allowed")
    assert "POST" in reply.headers["allow"]


def test_sequence_used_for_other_content_conflicts(client: httpx.Client) -> None:
    device = bodies.new_id()
    assert client.post(SYNC, json=bodies.body(bodies.pattern(), device_id=device, sequence=9)).status_code == 200
    reply = client.post(SYNC, json=bodies.body(bodies.pattern(), device_id=device, sequence=9))
    assert check(reply, 409, "sequence_conflict", "delta.sequence")["last_sequence"] == 9


def too_large_bodies() -> Iterator[Any]:
    identity = b" " * (limits.BODY_BYTES_MAX + 1)
    random = os.urandom(limits.COMPRESSED_BODY_BYTES_MAX + 1)
    bomb = zstandard.compress(b" " * (limits.BODY_BYTES_MAX + 1))
    yield pytest.param(identity, {}, id="identity")
    yield pytest.param(random, {"Content-Encoding": "zstd"}, id="compressed")
    yield pytest.param(bomb, {"Content-Encoding": "zstd"}, id="zstd bomb")
    yield pytest.param(gzip.compress(identity), {"Content-Encoding": "gzip"}, id="gzip bomb")


@pytest.mark.parametrize(("content", "headers"), list(too_large_bodies()))
def test_too_large(client: httpx.Client, content: bytes, headers: dict[str, str]) -> None:
    check(client.post(SYNC, content=content, headers=JSON | headers), 413, "too_large")


def test_too_large_is_counted_while_reading_when_no_length_is_declared(client: httpx.Client) -> None:
    chunks = itertools.repeat(b" " * 65_536, 40)
    check(client.post(SYNC, content=chunks, headers=JSON), 413, "too_large")


def test_too_large_is_refused_before_the_body_when_its_length_says_so(server: Server) -> None:
    with socket.create_connection(server.address, timeout=10) as connection:
        head = f"POST {SYNC} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999999999\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {}, JSON | {"Content-Encoding": "br"}])
def test_unsupported_media_type(client: httpx.Client, headers: dict[str, str]) -> None:
    check(client.post(SYNC, content=b"{}", headers=headers), 415, "unsupported_media_type")


def test_unknown_dictionary(client: httpx.Client) -> None:
    content = MISSING_DICTIONARY + bytes(20)
    reply = client.post(SYNC, content=content, headers=JSON | {"Content-Encoding": "zstd"})
    check(reply, 415, "unknown_dictionary")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"embedding": [0.1] * 383}, "embedding"),
        ({"embedding": [0.0] * 384}, "embedding"),
        ({"embedding": [1e300] + [0.0] * 383}, "embedding"),
        ({"embedding": "AAAA"}, "embedding"),
        ({"success_rate": 1.5}, "success_rate"),
        ({"success_rate": "0.9"}, "success_rate"),
        ({"sample_count": 0}, "sample_count"),
        ({"sample_count": 1_000_001}, "sample_count"),
        ({"id": "no-uuid"}, "id"),
        ({"created_at": -1}, "created_at"),
    ],
)
def test_invalid_pattern_names_its_field(client: httpx.Client, change: bodies.Json, path: str) -> None:
    check(client.post(SYNC, json=broken(**change)), 422, "invalid_pattern", f"delta.patterns_added[1].{path}")


def test_invalid_context_and_missing_fields_are_named(client: httpx.Client) -> None:
    context = bodies.pattern()["context"] | {"time_of_day": "x" * 33}
    reply = client.post(SYNC, json=broken(context=context))
    check(reply, 422, "invalid_pattern", "delta.patterns_added[1].context.time_of_day")
    without = bodies.body()
    del without["delta"]["patterns_removed"]
    check(client.post(SYNC, json=without), 422, "invalid_pattern", "delta.patterns_removed")


def test_too_many_patterns(client: httpx.Client) -> None:
    one = bodies.pattern(embedding=bodies.base64_embedding())
    added = bodies.body(*(one | {"id": bodies.new_id()} for _ in range(limits.ADDED_PER_DELTA_MAX + 1)))
    check(client.post(SYNC, json=added), 422, "too_many_patterns", "delta.patterns_added")
    removed = bodies.body(patterns_removed=[bodies.new_id() for _ in range(limits.CHANGED_PER_DELTA_MAX + 1)])
    check(client.post(SYNC, json=removed), 422, "too_many_patterns", "delta.patterns_removed")


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("similar=101", "query.similar"),
        ("similar=-1", "query.similar"),
        ("similar=", "query.similar"),
        ("trending=51", "query.trending"),
        ("embedding=f64", "query.embedding"),
        ("codebook=new", "query.codebook"),
    ],
)
def test_invalid_parameter_names_itself(client: httpx.Client, query: str, path: str) -> None:
    check(client.post(f"{SYNC}?{query}", json=bodies.body()), 422, "invalid_parameter", path)


def test_device_header_that_differs_from_the_body(client: httpx.Client) -> None:
    for header in (bodies.new_id(), "nobody"):
        reply = client.post(SYNC, json=bodies.body(), headers={"X-Device-Id": header})
        check(reply, 422, "invalid_parameter", "header.X-Device-Id")


def test_msgpack_clients_get_problems_in_msgpack(client: httpx.Client) -> None:
    reply = client.post(SYNC, content=b"\xc1", headers={"Content-Type": "application/msgpack"})
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/msgpack")
    assert msgspec.msgpack.decode(reply.content)["code"] == "malformed"


def test_full_shard_refuses_a_new_device_and_still_serves_a_known_one() -> None:
    with serving("--max-devices", "1") as small, httpx.Client(base_url=small.url, timeout=30) as client:
        known = bodies.body(bodies.pattern())
        assert client.post(SYNC, json=known).status_code == 200
        reply = client.post(SYNC, json=bodies.body(bodies.pattern()))
        check(reply, 503, "shard_full")
        assert int(reply.headers["retry-after"]) > 0
        assert client.post(SYNC, json=known).status_code == 200
        assert client.get("/api/v1/stats").json()["total_devices"] == 1


def test_who_sends_slowly_takes_nobody_a_place(server: Server, client: httpx.Client) -> None:
    head = f"POST {SYNC} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    waiting = [socket.create_connection(server.address) for _ in range(limits.IN_FLIGHT_MAX + 1)]
    try:
        for connection in waiting:
            connection.sendall(head.encode())
        wait_for(lambda: in_flight(client) > limits.IN_FLIGHT_MAX)
        assert client.post(SYNC, json=bodies.body()).status_code == 200
    finally:
        for connection in waiting:
            connection.close()
    wait_for(lambda: in_flight(client) == 1)


def in_flight(client: httpx.Client) -> int:
    """As the shard counts it, the request that asks included."""
    # A connection of its own: on a kept-alive one, the request before may still be counted.
    text = httpx.get(client.base_url.join("/metrics")).text
    found = re.search(r"^constellation_in_flight_requests\{.*\} (\d+)", text, re.M)
    assert found is not None
    return int(found[1])

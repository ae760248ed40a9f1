"""`POST /sync` over a socket: every form of body and reply, and what a delta does as the contract says."""

import base64
from typing import Any
from uuid import UUID

import httpx
import msgspec
import numpy as np
import pytest
import zstandard

from constellation.codebook import default_codebook
from constellation.digest import answer_digest
from constellation.model import DIM
from constellation.wire.compact import Held
from constellation.wire.media import Media
from constellation.wire.reply import decode_reply
from tests.api import bodies

MSGPACK = "application/msgpack"


def sync(client: httpx.Client, body: bodies.Json, query: str = "", **headers: str) -> Any:
    reply = client.post(f"/api/v1/sync{query}", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_reply_has_every_field_of_the_contract(client: httpx.Client) -> None:
    reply = sync(client, bodies.body(bodies.pattern(), sequence=1_760_000_000_123))
    assert set(reply) == {"global", "accepted", "last_sequence", "next_sync"}
    assert set(reply["global"]) == {"similar", "trending", "global_version", "reset", "removed", "digest"}
    assert reply["accepted"] == {
        "added": 1, "filtered": 0, "evicted": 0, "updated": 0, "removed": 0, "rejected": 0, "duplicate": False,
    }  # fmt: skip
    assert reply["last_sequence"] == 1_760_000_000_123
    assert reply["next_sync"] == {"after_s": 300, "within_s": 600}
    assert reply["global"]["reset"] is True and reply["global"]["removed"] == []


def test_another_device_gets_the_pattern_and_its_own_device_does_not(client: httpx.Client) -> None:
    mine, vector = bodies.new_id(), bodies.embedding(101)
    first = bodies.body(bodies.pattern(id=mine, embedding=vector))
    own = sync(client, first)
    assert mine not in [pattern["id"] for pattern in own["global"]["similar"]]
    others = sync(client, bodies.body(bodies.pattern(embedding=vector)))["global"]["similar"]
    received = next(pattern for pattern in others if pattern["id"] == mine)
    assert received["origin"] == "device"
    assert received["success_rate"] == 0.91 and received["sample_count"] == 42
    assert np.dot(received["embedding"], vector) / np.linalg.norm(received["embedding"]) > 0.999


def test_same_sequence_is_answered_as_a_duplicate(client: httpx.Client) -> None:
    body = bodies.body(bodies.pattern(), sequence=5)
    first, again = sync(client, body), sync(client, body)
    assert (first["accepted"]["duplicate"], again["accepted"]["duplicate"]) == (False, True)
    assert again["last_sequence"] == 5


def test_global_version_grows(client: httpx.Client) -> None:
    versions = [sync(client, bodies.body(bodies.pattern()))["global"]["global_version"] for _ in range(3)]
    assert versions == sorted(set(versions))
    assert client.get("/api/v1/sync/version").json()["version"] >= versions[-1]


def test_msgpack_is_answered_in_msgpack_with_binary_ids_and_codes(client: httpx.Client) -> None:
    vector = np.array(bodies.embedding(102), "<f4")
    known = bodies.pattern(embedding=vector.tolist())
    sync(client, bodies.body(known))
    body = bodies.body(bodies.pattern(id=UUID(bodies.new_id()).bytes, embedding=vector.tobytes()))
    body["device_id"] = UUID(bodies.new_id()).bytes
    reply = client.post("/api/v1/sync", content=msgspec.msgpack.encode(body), headers={"Content-Type": MSGPACK})
    assert reply.status_code == 200 and reply.headers["content-type"] == MSGPACK
    similar = msgspec.msgpack.decode(reply.content)["global"]["similar"]
    received = next(pattern for pattern in similar if pattern["id"] == UUID(known["id"]).bytes)
    assert len(received["embedding"]) == DIM


def test_accept_chooses_the_type_of_the_reply(client: httpx.Client) -> None:
    reply = client.post("/api/v1/sync", json=bodies.body(), headers={"Accept": MSGPACK})
    assert reply.headers["content-type"] == MSGPACK
    assert "Accept" in reply.headers["vary"]
    assert "next_sync" in msgspec.msgpack.decode(reply.content)


def test_zstd_both_ways(client: httpx.Client) -> None:
    content = zstandard.compress(msgspec.json.encode(bodies.body(bodies.pattern())))
    headers = {"Content-Type": "application/json", "Content-Encoding": "zstd", "Accept-Encoding": "gzip, zstd"}
    with client.stream("POST", "/api/v1/sync", content=content, headers=headers) as reply:
        raw = b"".join(reply.iter_raw())
    assert reply.status_code == 200 and reply.headers["content-encoding"] == "zstd"
    assert msgspec.json.decode(zstandard.decompress(raw))["accepted"]["added"] == 1


@pytest.mark.parametrize(("form", "size"), [("f16", 2 * DIM), ("i8", DIM), ("compact", DIM)])
def test_embedding_parameter_chooses_base64_forms(client: httpx.Client, form: str, size: int) -> None:
    vector = bodies.base64_embedding(103)
    sync(client, bodies.body(bodies.pattern(embedding=vector)))
    reply = sync(client, bodies.body(bodies.pattern(embedding=vector)), f"?embedding={form}&codebook=2")
    assert len(base64.b64decode(reply["global"]["similar"][0]["embedding"])) == size


def test_compact_reply_with_the_current_codebook_is_blocks_in_base64(client: httpx.Client) -> None:
    sync(client, bodies.body(bodies.pattern(embedding=bodies.base64_embedding(104))))
    reply = client.post("/api/v1/sync?embedding=compact&codebook=1", json=bodies.body())
    book = default_codebook()
    assert book.quantiser is not None
    decoded = decode_reply(reply.content, Media.JSON, Held(book, book.quantiser))
    assert decoded.compact and len(decoded.similar) >= 1 and decoded.trending is not None
    similar = decoded.similar
    assert decoded.digest == answer_digest(similar.ids, similar.rates, similar.counts, similar.updated_at)


def test_similar_and_trending_bound_the_reply(client: httpx.Client) -> None:
    for _ in range(3):
        sync(client, bodies.body(bodies.pattern()))
    reply = sync(client, bodies.body(bodies.pattern()), "?similar=2&trending=0")
    assert len(reply["global"]["similar"]) == 2 and reply["global"]["trending"] == []


def test_device_header_may_equal_the_body(client: httpx.Client) -> None:
    body = bodies.body()
    sync(client, body, X_Device_Id=body["device_id"].upper())


def test_body_in_many_small_chunks_is_read_whole(client: httpx.Client) -> None:
    content = msgspec.json.encode(bodies.body(bodies.pattern()))
    chunks = (content[start : start + 100] for start in range(0, len(content), 100))
    reply = client.post("/api/v1/sync", content=chunks, headers={"Content-Type": "application/json"})
    assert reply.status_code == 200

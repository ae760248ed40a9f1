"""The same deltas to two shards, one by REST in msgpack, one by gRPC: equal replies, equal refusals, equal states."""

import copy
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import grpc
import httpx
import msgspec
import numpy as np
import pytest

from constellation.api.grpc import sync_pb2 as pb
from constellation.api.grpc.sync import SERVICE
from tests.api import bodies
from tests.api.grpc.tv import Json, Refused, Tv, plain_global, reply_options
from tests.api.process import Server, serving, wait_for

SEED = 6
DEVICES = [str(UUID(int=number)) for number in range(1, 7)]
FULL = "--max-devices", str(len(DEVICES)), "--max-patterns", "1000"
UNTOLD = {"global_version"}
"""It is the shard's clock."""
UNCOUNTED = {"avg_sync_latency_ms", "p99_sync_latency_ms", "sync_requests_per_min", "uptime_s", "global_version"}


class Doors(NamedTuple):
    """The door of REST on one shard, that of gRPC on another, and each device's last version on either."""

    rest: httpx.Client
    other: httpx.Client
    """REST of the shard that is fed by gRPC."""
    tv: Tv
    versions: dict[str, tuple[int, int]]
    logging: Server
    """The one that is fed by gRPC."""

    def sync(self, body: Json, since_last: bool = False, **options: Any) -> Json:
        """Both replies, which are equal; with `since_last` what changed since the device's last one."""
        bodies_ = copy.deepcopy(body), copy.deepcopy(body)
        if since_last:
            for mine, version in zip(bodies_, self.versions[body["device_id"]], strict=True):
                mine["delta"]["local_version"] = version
        by_rest = self.rest.post("/api/v1/sync", params=options, content=packed(bodies_[0]), headers=MSGPACK)
        assert by_rest.status_code == 200, by_rest.content
        told = msgspec.msgpack.decode(by_rest.content)
        by_grpc = self.tv.sync(bodies_[1], **options)
        assert not isinstance(by_grpc, Refused), by_grpc
        self.versions[body["device_id"]] = told["global"]["global_version"], by_grpc["global"]["global_version"]
        assert same(told) == same(by_grpc)
        return by_grpc


MSGPACK = {"Content-Type": "application/msgpack", "Accept-Encoding": "identity"}


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with (
        serving(*FULL) as first,
        serving(*FULL, "--access-log") as second,
        httpx.Client(base_url=first.url, timeout=30) as rest,
        httpx.Client(base_url=second.url, timeout=30) as other,
        grpc.insecure_channel(second.grpc) as channel,
    ):
        yield Doors(rest, other, Tv(channel), {}, second)


def packed(body: Json) -> bytes:
    """As a TV sends it: embeddings as bytes."""
    made = copy.deepcopy(body)
    for pattern in made["delta"]["patterns_added"]:
        if isinstance(pattern.get("embedding"), list):
            pattern["embedding"] = np.array(pattern["embedding"], "<f4").tobytes()
    return msgspec.msgpack.encode(made)


def same(reply: Json) -> Json:
    """What must be the same of both: all but the clock."""
    return reply | {"global": {name: value for name, value in reply["global"].items() if name not in UNTOLD}}


def vector(rng: np.random.Generator, form: str) -> bytes:
    floats = rng.standard_normal(384)
    if form == "i8":
        return bytes(np.rint(floats * 127 / np.abs(floats).max()).astype(np.int8).tobytes())
    return bytes(floats.astype("<f4" if form == "f32" else "<f2").tobytes())


def some_patterns(rng: np.random.Generator, count: int) -> list[Json]:
    return [
        bodies.pattern(
            id=str(UUID(bytes=rng.bytes(16))),
            embedding=vector(rng, ("f32", "f16", "i8")[number % 3]),
            success_rate=float(np.float32(rng.uniform(0.6, 1))),
            sample_count=int(rng.integers(1, 100)),
            updated_at=int(rng.integers(1_700_000_000, 1_760_000_000)),
        )
        for number in range(count)
    ]


def test_same_deltas_give_the_same_replies_and_the_same_state(doors: Doors) -> None:
    rng = np.random.default_rng(SEED)
    for item in (bodies.content(), bodies.content("tt2", title="Heat", metadata=None, embedding=bodies.embedding(8))):
        for client in (doors.rest, doors.other):
            assert client.post("/api/v1/content", json=item).status_code == 201
    first = [some_patterns(rng, 5) for _ in DEVICES]
    for device, patterns in zip(DEVICES, first, strict=True):
        reply = doors.sync(bodies.body(*patterns, device_id=device, sequence=7))
        assert reply["accepted"]["added"] + reply["accepted"]["filtered"] == 5
    for form in ("f32", "f16", "i8"):
        reply = doors.sync(bodies.body(device_id=DEVICES[0]), embedding=form, similar=9, trending=3)
        assert len(reply["global"]["similar"]) == 9
    kept = [pattern["id"] for pattern in first[1] if pattern["success_rate"] >= 0.7]
    update = {"id": kept[0], "new_success_rate": 0.95, "additional_samples": 3}
    strange = {"id": bodies.new_id(), "new_success_rate": 0.5, "additional_samples": 3}
    changes = bodies.body(
        device_id=DEVICES[1],
        patterns_updated=[update, strange],
        patterns_removed=[kept[1], bodies.new_id()],
        sequence=8,
    )
    reply = doors.sync(changes)
    assert (reply["accepted"]["updated"], reply["accepted"]["removed"], reply["accepted"]["rejected"]) == (1, 1, 2)
    again = doors.sync(changes)
    assert again["accepted"]["duplicate"] and again["last_sequence"] == 8
    assert_same_state(doors)


def test_what_changed_since_the_last_reply_is_the_same(doors: Doors) -> None:
    rng = np.random.default_rng(SEED + 1)
    for device in DEVICES[:3]:
        doors.sync(bodies.body(*some_patterns(rng, 4), device_id=device))
    doors.sync(bodies.body(device_id=DEVICES[0]))
    nothing = doors.sync(bodies.body(device_id=DEVICES[0]), since_last=True)
    assert nothing["global"]["similar"] == [] and nothing["global"]["trending"] is None
    best = some_patterns(rng, 1)[0] | {"success_rate": 1.0}
    doors.sync(bodies.body(best, device_id=DEVICES[1]))
    news = doors.sync(bodies.body(device_id=DEVICES[0]), since_last=True)
    assert not news["global"]["reset"] and [each["id"] for each in news["global"]["similar"]] == [
        UUID(best["id"]).bytes
    ]
    update = {"id": best["id"], "new_success_rate": 0.9, "additional_samples": 50}
    doors.sync(bodies.body(device_id=DEVICES[1], patterns_updated=[update]))
    revised = doors.sync(bodies.body(device_id=DEVICES[0]), since_last=True)
    assert [("embedding" in each, each["id"]) for each in revised["global"]["similar"]] == [
        (False, UUID(best["id"]).bytes)
    ]
    doors.sync(bodies.body(device_id=DEVICES[1], patterns_removed=[best["id"]]))
    gone = doors.sync(bodies.body(device_id=DEVICES[0]), since_last=True)
    assert gone["global"]["removed"] == [UUID(best["id"]).bytes]


def test_compact_replies_are_the_same_bytes(doors: Doors) -> None:
    rng = np.random.default_rng(SEED + 2)
    doors.sync(bodies.body(*some_patterns(rng, 8), device_id=DEVICES[0]))
    version = doors.rest.get("/api/v1/info").json()["codebook_version"]
    asked = {"embedding": "compact", "codebook": version}
    reply = doors.sync(bodies.body(device_id=DEVICES[3]), **asked)
    assert isinstance(reply["global"]["similar"], bytes) and isinstance(reply["global"]["trending"], bytes)
    later = doors.sync(bodies.body(device_id=DEVICES[3]), since_last=True, **asked)
    assert later["global"]["trending"] is None and later["global"]["removed"] == b""
    fallback = doors.sync(bodies.body(device_id=DEVICES[3]), embedding="compact", codebook=version + 1)
    assert {len(each["embedding"]) for each in fallback["global"]["similar"]} == {384}


def broken(**changes: Any) -> Json:
    """A body of which the second pattern is broken in one place; None takes a field away."""
    patterns = [bodies.pattern(), bodies.pattern() | changes]
    patterns[1] = {name: value for name, value in patterns[1].items() if value is not None}
    return bodies.body(*patterns, device_id=DEVICES[0])


def context(**changes: Any) -> Json:
    return dict(bodies.pattern()["context"], **changes)


UPDATE = {"id": bodies.new_id(), "new_success_rate": 0.5, "additional_samples": 1}
REFUSED: dict[str, tuple[Json, Json]] = {
    "pattern id": (broken(id=b"short"), {}),
    "embedding length": (broken(embedding=bytes(383)), {}),
    "no embedding": (broken(embedding=b""), {}),
    "zero embedding": (broken(embedding=bytes(384)), {}),
    "not a number": (broken(embedding=np.full(384, np.nan, "<f4").tobytes()), {}),
    "infinite f16": (broken(embedding=np.full(384, np.inf, "<f2").tobytes()), {}),
    "rate": (broken(success_rate=1.5), {}),
    "rate is no number": (broken(success_rate=float("nan")), {}),
    "no rate": (broken(success_rate=None), {}),
    "no count": (broken(sample_count=0), {}),
    "count": (broken(sample_count=1_000_001), {}),
    "negative count": (broken(sample_count=-1), {}),
    "created_at": (broken(created_at=-1), {}),
    "no created_at": (broken(created_at=None), {}),
    "updated_at": (broken(updated_at=2**41), {}),
    "no context": (broken(context=None), {}),
    "long word": (broken(context=context(time_of_day="x" * 33)), {}),
    "NUL": (broken(context=context(content_type="a\0")), {}),
    "hint": (broken(context=context(genre_hints=["ok", "ü" * 17])), {}),
    "hints": (broken(context=context(genre_hints=["x"] * 9)), {}),
    "device": (bodies.body(device_id="00") | {"device_id": b"1"}, {}),
    "local version": (bodies.body(device_id=DEVICES[0], local_version=2**53), {}),
    "sequence": (bodies.body(device_id=DEVICES[0], sequence=0), {}),
    "used sequence": (bodies.body(bodies.pattern(), device_id=DEVICES[2], sequence=7), {}),
    "update's id": (bodies.body(device_id=DEVICES[0], patterns_updated=[UPDATE | {"id": bytes(15)}]), {}),
    "update's rate": (bodies.body(device_id=DEVICES[0], patterns_updated=[UPDATE | {"new_success_rate": -0.1}]), {}),
    "samples": (bodies.body(device_id=DEVICES[0], patterns_updated=[UPDATE, UPDATE | {"additional_samples": 0}]), {}),
    "removed": (bodies.body(device_id=DEVICES[0], patterns_removed=[bodies.new_id(), b"x"]), {}),
    "too many added": (bodies.body(*[bodies.pattern()] * 101, device_id=DEVICES[0]), {}),
    "too many updated": (bodies.body(device_id=DEVICES[0], patterns_updated=[UPDATE] * 1_001), {}),
    "too many changed": (
        bodies.body(device_id=DEVICES[0], patterns_updated=[UPDATE] * 501, patterns_removed=[bodies.new_id()] * 500),
        {},
    ),
    "similar": (bodies.body(device_id=DEVICES[0]), {"similar": 101}),
    "trending": (bodies.body(device_id=DEVICES[0]), {"trending": 51}),
    "codebook": (bodies.body(device_id=DEVICES[0]), {"codebook": 2**53}),
    "new device": (bodies.body(), {}),
}
STATUSES = {
    "invalid_pattern": grpc.StatusCode.INVALID_ARGUMENT,
    "too_many_patterns": grpc.StatusCode.INVALID_ARGUMENT,
    "invalid_parameter": grpc.StatusCode.INVALID_ARGUMENT,
    "sequence_conflict": grpc.StatusCode.ABORTED,
    "shard_full": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_are_the_same(doors: Doors, what: str) -> None:
    body, options = REFUSED[what]
    reply = doors.rest.post("/api/v1/sync", params=options, content=packed(body), headers=MSGPACK)
    assert 400 <= reply.status_code < 600 and reply.status_code != 500
    problem = msgspec.msgpack.decode(reply.content)
    refusal = doors.tv.sync(body, **options)
    assert isinstance(refusal, Refused)
    assert (refusal.code, refusal.status) == (problem["code"], STATUSES[problem["code"]])
    path = problem.get("path")
    assert refusal.path == (path.replace("query.", "options.") if path else None)
    assert refusal.detail.split(", got")[0].partition(": ")[2] in problem["detail"] or "query." in (path or "")
    assert refusal.trailers.get("retry-after") == reply.headers.get("Retry-After")
    if "last_sequence" in problem:
        assert refusal.trailers["constellation-last-sequence"] == str(problem["last_sequence"])


def test_refusals_changed_nothing(doors: Doors) -> None:
    assert_same_state(doors)


def test_pull_is_a_push_of_nothing_that_registers_nobody(doors: Doors) -> None:
    known = pb.PullRequest(device_id=UUID(DEVICES[0]).bytes, options=reply_options(similar=7))
    pulled, pushed = doors.tv.pull(known), doors.sync(bodies.body(device_id=DEVICES[0]), similar=7)
    assert plain_global(pulled)["similar"] == pushed["global"]["similar"]
    assert pulled.last_sequence == pushed["last_sequence"]
    stranger = UUID(bodies.new_id()).bytes
    devices = doors.other.get("/api/v1/stats").json()["total_devices"]
    pulled = doors.tv.pull(pb.PullRequest(device_id=stranger, options=reply_options(similar=5)))
    assert len(plain_global(pulled)["similar"]) == 5 and not pulled.HasField("last_sequence")
    assert doors.other.get("/api/v1/stats").json()["total_devices"] == devices


@pytest.mark.parametrize("form", ["f32", "f16", "i8", "compact"])
def test_pull_has_titles_as_rest_has_them(doors: Doors, form: str) -> None:
    ids = ["tt2", "tt0078748"]
    request = pb.PullRequest(device_id=UUID(DEVICES[0]).bytes, options=reply_options(embedding=form), content_ids=ids)
    told = doors.tv.pull(request).content
    assert [title.content_id for title in told] == ids
    for title in told:
        by_rest = doors.other.get(f"/api/v1/content/{title.content_id}", headers={"Accept": "application/msgpack"})
        item = msgspec.msgpack.decode(by_rest.content)
        assert title.title == item["title"] and title.HasField("metadata") == ("metadata" in item)
        if "metadata" in item:
            facts = title.metadata
            assert item["metadata"] == {"genre": facts.genre, "year": facts.year, "duration_min": facts.duration_min}
        if form in ("i8", "compact"):
            assert title.embedding == item["embedding"]
        else:
            assert len(title.embedding) == {"f32": 1536, "f16": 768}[form]


def test_access_log_has_a_line_a_message(doors: Doors) -> None:
    def line(request_id: str) -> Json | None:
        lines = doors.logging.output.read_text().splitlines()
        return next((json.loads(each) for each in lines if f'"request_id":"{request_id}"' in each), None)

    asked = pb.PullRequest(device_id=UUID(DEVICES[0]).bytes)
    doors.tv.pull(asked, metadata=(("x-request-id", "good"),))
    with pytest.raises(grpc.RpcError):
        doors.tv.send(b"\xff", metadata=(("x-request-id", "bad"),))
    wait_for(lambda: line("bad") is not None)
    good, bad = line("good"), line("bad")
    assert good is not None and bad is not None
    assert (good["method"], good["path"], good["status"]) == ("gRPC", f"/{SERVICE}/PullPatterns", 200)
    assert (good["bytes_in"], bad["bytes_in"], bad["status"]) == (asked.ByteSize(), 1, 400)
    assert good["bytes_out"] > 1_000 and bad["bytes_out"] == 0


def assert_same_state(doors: Doors) -> None:
    def state(client: httpx.Client) -> list[Any]:
        stats = client.get("/api/v1/stats").json()
        lists = [
            client.post("/api/v1/sync", content=packed(bodies.body(device_id=device)), headers=MSGPACK).content
            for device in DEVICES
        ]
        return [
            {name: value for name, value in stats.items() if name not in UNCOUNTED},
            *(same(msgspec.msgpack.decode(each)) for each in lists),
        ]

    assert state(doors.rest) == state(doors.other)

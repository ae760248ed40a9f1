"""The same syncs to Constellation and to what most teams would write (`service.py`): a server each, the same requests.

Both are filled beforehand, the peer by COPY and one index build over everything, and keep what they acknowledge on
disk. Households of one interest ask, so that both mean the same by "nearest": the mean of the household's patterns.
"""

import asyncio
import json
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import numpy as np
import uvloop

from bench import kept, sync_http, workload
from bench.generator import Load, connected, make_request, run_closed_loop, run_open_loop
from bench.peers import NotInstalled, environment
from bench.peers.exact import ExactScan
from bench.plan import Answers, Note, Plan, tracked
from bench.report import Row, Yardstick
from bench.served import on_disk, serving
from bench.workload import Households
from constellation.model import DIM, Context, SyncRequest
from constellation.shard import Shard
from constellation.storage import embedded
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta

K = 100
ASKED = 200
CONNECTIONS = 16
EF_SEARCH = 200
READY_S_MAX = 60
SETTINGS = {"shared_buffers": "2GB", "maintenance_work_mem": "2GB", "max_connections": "40"}
_SCHEMA = f"""
CREATE EXTENSION vector;
CREATE SEQUENCE versions;
CREATE TABLE trends (content_id text PRIMARY KEY, samples bigint NOT NULL);
CREATE TABLE patterns (device_id uuid, id uuid, embedding vector({DIM}) NOT NULL,
    success_rate double precision NOT NULL, sample_count integer NOT NULL, context jsonb NOT NULL,
    created_at bigint NOT NULL, updated_at bigint NOT NULL,
    PRIMARY KEY (device_id, id));
ALTER DATABASE {embedded.DATABASE} SET hnsw.ef_search = {EF_SEARCH};
"""
"""The setting is the database's: a pool resets those of a connection when it is given back, and recall falls to 0.3."""
_INDEX = (
    "CREATE INDEX nearest ON patterns USING hnsw (embedding vector_cosine_ops) WITH (m = 32, ef_construction = 100)"
)
_ROWS_AT_ONCE = 5_000


class Material(NamedTuple):
    """What both are given: households with their contexts, who asks, and the true answers; requests in JSON."""

    households: Households
    contexts: list[Context]
    asking: list[int]
    truths: list[set[bytes]]
    questions: list[bytes]
    mixed: list[SyncRequest]


class Served(NamedTuple):
    """How one of them did."""

    recall: float
    one: Load
    many: Load
    paced: Load | None


def measure(plan: Plan) -> Answers:
    material = _material(plan)
    shard = _shard(plan, material)
    ours = _ours(plan, shard, material, _json_posts(material))
    yield from _rows("Constellation, JSON", ours, None)
    small = _ours(plan, shard, material, list(map(sync_http.post, material.mixed)))
    yield from _rows("Constellation, as TVs speak", small, None)
    try:
        with _peer(material) as (url, built_s):
            theirs = uvloop.run(_load(url, material, plan, _json_posts(material)))
        yield from _rows("FastAPI + asyncpg + pgvector, JSON", theirs, ours)
        yield Note(f"pgvector built its index (m=32, ef_construction=100) in {built_s:.0f} s before it served")
    except NotInstalled as why:
        yield Note(f"FastAPI + asyncpg + pgvector are not measured: {why}")
    yield Note("as TVs speak: msgpack, int8, zstd with the dictionary; JSON: embeddings as floats, both ways")
    yield Note(f"{plan.patterns:,} patterns; 70% of the syncs bring nothing new, 20% updates, 10% two patterns")


def _ours(plan: Plan, shard: Shard, material: Material, mixed: list[bytes]) -> Served:
    """By a server of its own: what was synced once would be a duplicate."""
    with tempfile.TemporaryDirectory() as directory:
        kept.fill(kept.settings_in(directory, plan), shard)
        with serving(*on_disk(plan, directory)) as server:
            return uvloop.run(_load(server.url, material, plan, mixed))


def _material(plan: Plan) -> Material:
    rng = plan.rng("peers")
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, 1, rng)
    asking = rng.choice(len(households), min(ASKED, len(households)), replace=False).tolist()
    exact = ExactScan(households.codes)
    truths = []
    for number in asking:
        own = households.rows_of(number)
        weights = households.rates[own] * households.counts[own]
        found = exact.query(weights @ exact.vectors[own], K + workload.PATTERNS_A_DEVICE)
        others = found[(found < own.start) | (found >= own.stop)]
        best = others[np.argsort(-(exact.vectors[others] @ (weights @ exact.vectors[own])))][:K]
        truths.append({households.ids[row].tobytes() for row in best})
    nothing = (workload.no_patterns(), workload.no_updates())
    questions = [
        _json_post(workload.make_request(households.device_ids[number].tobytes(), *nothing)) for number in asking
    ]
    mixed = list(sync_http.mix(households, part, int(sync_http.BUILT_PER_S * plan.seconds), 1, rng))
    contexts = workload.draw_contexts(len(households.codes), rng)
    return Material(households, contexts, asking, truths, questions, mixed)


def _shard(plan: Plan, material: Material) -> Shard:
    shard = Shard(workload.shard_settings(plan.patterns))
    rng = plan.rng("peers, first syncs")
    requests = workload.first_syncs(material.households, rng)
    for request in tracked(requests, "filling a shard", len(material.households)):
        shard.apply(request, workload.START_S)
        while shard.maintain():
            pass
    return shard


def _json_posts(material: Material) -> list[bytes]:
    return [_json_post(request) for request in material.mixed]


def _json_post(request: SyncRequest) -> bytes:
    body = encode_delta(request.device_id, request.delta, Media.JSON, "f32")
    return make_request("POST", "/api/v1/sync?embedding=f32", {"content-type": "application/json"}, body)


async def _load(url: str, material: Material, plan: Plan, mixed: list[bytes]) -> Served:
    """The answers to the questions first, then the mix: one at a time, many at once, at a full shard's share."""
    seconds, waiting = plan.seconds / 2, iter(mixed)
    async with connected(url, CONNECTIONS) as connections:
        found = 0
        for question, truth in zip(material.questions, material.truths, strict=True):
            reply = await connections[0].exchange(question)
            assert reply.status == 200, reply
            found += len(truth & {UUID(each["id"]).bytes for each in json.loads(reply.body)["global"]["similar"]})
        one = await run_closed_loop(connections[:1], waiting, seconds)
        many = await run_closed_loop(connections, waiting, seconds)
        paced = None
        if many.per_second > sync_http.RATE_PER_S:
            some = [next(waiting) for _ in range(int(sync_http.RATE_PER_S * seconds))]
            dues_s = np.cumsum(plan.rng("paced").exponential(1 / sync_http.RATE_PER_S, len(some))).tolist()
            paced = await run_open_loop(connections, some, dues_s)
    return Served(found / sum(map(len, material.truths)), one, many, paced)


def _rows(who: str, served: Served, ours: Served | None) -> Answers:
    found = f"recall@{K} {served.recall:.3f}, {served.one.errors + served.many.errors} errors"
    for name, value, unit, of_ours in (
        ("a sync, one at a time: p50", served.one.quantile_ms(0.5), "ms", ours and ours.one.quantile_ms(0.5)),
        ("a sync, one at a time: p99", served.one.quantile_ms(0.99), "ms", ours and ours.one.quantile_ms(0.99)),
        (f"{CONNECTIONS} at once", served.many.per_second, "/s", ours and ours.many.per_second),
    ):
        beside = Yardstick("Constellation, JSON", of_ours) if of_ours else None
        yield Row(name=f"{who}: {name}", value=value, unit=unit, quality=found, yardstick=beside)
    if served.paced is None:
        yield Note(f"{who}: {sync_http.RATE_PER_S} syncs/s are more than it can serve")
        return
    beside = Yardstick("Constellation, JSON", ours.paced.quantile_ms(0.99)) if ours and ours.paced else None
    yield Row(
        name=f"{who}: {sync_http.RATE_PER_S} syncs/s, open loop: p99",
        value=served.paced.quantile_ms(0.99),
        unit="ms",
        quality=f"p50 {served.paced.quantile_ms(0.5):.1f} ms, {served.paced.errors} errors",
        yardstick=beside,
    )


@contextmanager
def _peer(material: Material) -> Iterator[tuple[str, float]]:
    """The service over a database that holds everything: its address, and how long the index took."""
    python = environment.install("service")
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner() as runner:
        server = runner.run(embedded.start(Path(directory), SETTINGS))
        try:
            built_s = runner.run(_fill(server.url, material))
            with _uvicorn(python, server.url) as url:
                yield url, built_s
        finally:
            runner.run(server.stop())


async def _fill(url: str, material: Material) -> float:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_SCHEMA)
        await connection.set_type_codec("vector", schema="public", encoder=_encode, decoder=bytes, format="binary")
        rows = _rows_of(material)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            await connection.copy_records_to_table("patterns", records=rows[start : start + _ROWS_AT_ONCE])
        began_at = time.perf_counter()
        await connection.execute(_INDEX, timeout=None)
        await connection.execute("ANALYZE patterns")
        return time.perf_counter() - began_at
    finally:
        await connection.close()


def _rows_of(material: Material) -> list[tuple[object, ...]]:
    of, vectors = material.households, ExactScan(material.households.codes).vectors
    owners = np.repeat(np.arange(len(of)), workload.PATTERNS_A_DEVICE)
    return [
        (
            *(UUID(bytes=of.device_ids[owners[i]].tobytes()), UUID(bytes=of.ids[i].tobytes()), vectors[i]),
            *(float(of.rates[i]), int(of.counts[i]), json.dumps(_plain(material.contexts[i]))),
            *(workload.START_S, workload.START_S),
        )
        for i in range(len(of.ids))
    ]


def _plain(context: Context) -> dict[str, Any]:
    return {
        "time_of_day": context.time_of_day,
        "day_of_week": context.day_of_week,
        "content_type": context.content_type,
        "genre_hints": list(context.genre_hints),
    }


def _encode(vector: Any) -> bytes:
    return DIM.to_bytes(2, "big") + bytes(2) + bytes(vector.astype(">f4").tobytes())


@contextmanager
def _uvicorn(python: Path, database_url: str) -> Iterator[str]:
    """The application in a process of its own, on a port of its own. Raises `NotInstalled` if it does not start."""
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as directory:
        address = Path(directory, "address")
        command = [str(python), "-P", str(Path(__file__).with_name("serving.py")), str(address)]
        child = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "DATABASE_URL": database_url})
        try:
            yield _wait_until_ready(child, address)
        finally:
            child.terminate()
            child.wait()


def _wait_until_ready(child: "subprocess.Popen[bytes]", address: Path) -> str:
    deadline = time.monotonic() + READY_S_MAX
    while time.monotonic() < deadline and child.poll() is None:
        if address.exists():
            url = address.read_text()
            with urllib.request.urlopen(f"{url}/health/ready") as reply:
                assert reply.status == 200
            return url
        time.sleep(0.05)
    raise NotInstalled("service.py did not start")

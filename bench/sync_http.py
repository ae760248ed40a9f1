"""How many syncs does one process serve over HTTP, and how soon?

A real server in a process of its own, filled over HTTP; TVs as they are: msgpack, int8 and zstd both ways, up with the
dictionary. 70% of the syncs bring nothing new, 20% updates, 10% two new patterns. First 167 syncs/s at random moments,
a full shard's share; then as many as it can. Where there are two cores, server and generator have one each.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import uvloop

from bench import workload
from bench.generator import Connection, Load, connected, make_request, run_closed_loop, run_open_loop
from bench.generator import Reply as Received
from bench.plan import Answers, Note, Plan, tracked
from bench.report import Row, Yardstick, at_least, at_most
from bench.served import in_memory, serving
from bench.workload import Households, Part
from constellation.model import PatternBatch, RateUpdates, SyncRequest
from constellation.wire.body import compress, decompress
from constellation.wire.dictionary import newest
from constellation.wire.media import Media
from constellation.wire.reply import Reply, decode_reply, encode_delta

RATE_PER_S = 167
P99_MS_MAX = 10.0
SUSTAINED_PER_S_MIN = 800
NOTHING_SHARE, UPDATES_SHARE = 0.7, 0.2
UPDATES = 3
NEW_PATTERNS = 2
CONNECTIONS = 16
BUILT_PER_S = 3_000
"""Requests prepared for each second of the closed loop: more than can be served."""
REPLY_BYTES_MAX = 1 << 20

TARGET = "/api/v1/sync?embedding=i8&similar=100&trending=50"
HEADERS = {
    "content-type": Media.MSGPACK.value,
    "content-encoding": "zstd",
    "accept-encoding": "zstd",
}


class Loads(NamedTuple):
    """The three loads of one run."""

    idle: Load
    paced: Load
    sustained: Load


def measure(plan: Plan) -> Answers:
    rng = plan.rng("sync_http")
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    filling = first_posts(households, rng)
    paced = [post(request) for request in mix(households, part, int(RATE_PER_S * plan.seconds), 1, rng)]
    sustained = [post(request) for request in mix(households, part, int(BUILT_PER_S * plan.seconds), 2, rng)]
    dues_s = np.cumsum(rng.exponential(1 / RATE_PER_S, len(paced))).tolist()
    servers_core, generators_core = two_cores()
    with running_on(servers_core), serving(*in_memory(plan)) as server, running_on(generators_core):
        loads = uvloop.run(_load(server.url, filling, paced, dues_s, sustained, plan.seconds))
    yield from _rows(loads)


async def _load(
    url: str, filling: list[bytes], paced: list[bytes], dues_s: list[float], sustained: list[bytes], seconds: float
) -> Loads:
    async with connected(url, CONNECTIONS) as connections:
        await fill(connections, filling)
        version = make_request("GET", "/api/v1/sync/version", {})
        return Loads(
            idle=await run_closed_loop(connections, itertools.repeat(version), seconds / 4),
            paced=await run_open_loop(connections, paced, dues_s),
            sustained=await run_closed_loop(connections, sustained, seconds),
        )


async def fill(connections: list[Connection], requests: list[bytes]) -> None:
    """Send first syncs; none may fail."""
    batch = max(1, len(requests) // 100)
    starts = tracked(range(0, len(requests), batch), "filling the shard over HTTP", -(-len(requests) // batch))
    for start in starts:
        load = await run_closed_loop(connections, requests[start : start + batch], float("inf"))
        assert load.errors == 0, load.last


def _rows(loads: Loads) -> Answers:
    idle_p99 = Yardstick("GET /sync/version, 16 at once, p99", loads.idle.quantile_ms(0.99))
    paced, sustained = loads.paced, loads.sustained
    yield Row(
        name=f"{RATE_PER_S} syncs/s open loop: p99",
        value=paced.quantile_ms(0.99),
        unit="ms",
        quality=f"{_quality(paced)}; p50 {paced.quantile_ms(0.5):.1f} ms",
        yardstick=idle_p99,
        target=at_most(P99_MS_MAX),
    )
    yield Row(
        name=f"sustained, {CONNECTIONS} at once",
        value=sustained.per_second,
        unit="/s",
        quality=f"{_quality(sustained)}; p50 {sustained.quantile_ms(0.5):.1f} ms",
        yardstick=Yardstick("GET /sync/version", loads.idle.per_second),
        target=at_least(SUSTAINED_PER_S_MIN),
    )
    share = sustained.cpu_s / sustained.seconds
    yield Note(f"the generator used {share:.0%} of a core beside the server while it sent {sustained.per_second:.0f}/s")


def _quality(load: Load) -> str:
    assert load.last is not None
    reply = decode(load.last)
    return f"{load.errors} errors in {len(load.latencies_s):,}, {len(reply.similar)} similar"


def decode(received: Received) -> Reply:
    return decode_reply(decompress(received.body, "zstd", REPLY_BYTES_MAX), Media.MSGPACK)


def first_posts(households: Households, rng: np.random.Generator) -> list[bytes]:
    """Requests by which each household tells all its patterns."""
    return [post(request) for request in tracked(workload.first_syncs(households, rng), "preparing", len(households))]


def post(request: SyncRequest) -> bytes:
    return make_request("POST", TARGET, HEADERS, body_of(request))


def body_of(request: SyncRequest) -> bytes:
    return compress(encode_delta(request.device_id, request.delta, Media.MSGPACK, "i8"), newest())


def mix(households: Households, part: Part, count: int, phase: int, rng: np.random.Generator) -> Iterator[SyncRequest]:
    """Syncs in the proportions of the mix, of devices in random order; one that comes again has a later sequence."""
    order = np.concatenate([rng.permutation(len(households)) for _ in range(-(-count // len(households)))])[:count]
    draws = rng.random(count)
    for number, (household, draw) in enumerate(zip(order.tolist(), draws, strict=True)):
        added, updated = _content(households, part, household, float(draw), rng)
        sequence = phase * 10**9 + number
        yield workload.make_request(households.device_ids[household].tobytes(), added, updated, sequence=sequence)


def _content(
    households: Households, part: Part, household: int, draw: float, rng: np.random.Generator
) -> tuple[PatternBatch, RateUpdates]:
    if draw < NOTHING_SHARE:
        return workload.no_patterns(), workload.no_updates()
    if draw < NOTHING_SHARE + UPDATES_SHARE:
        own = households.ids[households.rows_of(household)]
        return workload.no_patterns(), workload.make_updates(rng.choice(own, UPDATES, replace=False), rng)
    films = rng.choice(households.films[household], NEW_PATTERNS)
    return workload.make_batch(
        workload.make_ids(NEW_PATTERNS, rng), part.patterns(films, rng), rng
    ), workload.no_updates()


def two_cores() -> tuple[set[int], set[int]]:
    """A core each for server and generator; both get all of them where there is one, or no way to choose."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    cores = sorted(os.sched_getaffinity(0))
    return {cores[0]}, {cores[1 % len(cores)]}


@contextmanager
def running_on(cores: set[int]) -> Iterator[None]:
    """Run, and start children, on these cores only."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

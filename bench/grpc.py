"""How many syncs does one process serve by gRPC, and how soon, beside REST?

The server, the TVs and the mix of `sync_http`; the same process is asked by both doors in turn, so that whatever else
the machine does hits both. By REST as TVs do it, msgpack in zstd both ways; by gRPC unary calls, not compressed.
The library's client takes as much time as the server does: what a sync costs the server is measured there.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
import numpy as np
import uvloop

from bench import workload
from bench.generator import Exchanges, Load, Reply, connected, run_closed_loop, run_open_loop
from bench.plan import Answers, Note, Plan
from bench.report import Row, Yardstick
from bench.served import Server, in_memory, serving
from bench.sync_http import (
    BUILT_PER_S,
    CONNECTIONS,
    NEW_PATTERNS,
    RATE_PER_S,
    fill,
    first_posts,
    mix,
    post,
    running_on,
    two_cores,
)
from constellation.api.grpc import sync_pb2 as pb
from constellation.api.grpc.sync import SERVICE
from constellation.model import SyncRequest

TURNS = 4
"""Of each door."""
TICK_S = 0.01
"""What the system's account of processor time is counted in."""


class Measured(NamedTuple):
    """Of one door: a full shard's share at random moments, and as many as it can, with what those cost the server."""

    paced: Load
    sustained: list[Load]
    cpu_s: float

    @property
    def syncs(self) -> int:
        return sum(len(load.latencies_s) for load in self.sustained)

    @property
    def per_second(self) -> float:
        return self.syncs / sum(load.seconds for load in self.sustained)

    @property
    def cpu_us(self) -> float:
        return max(self.cpu_s, TICK_S) / self.syncs * 1e6


Door = tuple[list[Exchanges], list[list[bytes]]]
"""Connections, and what to send on them: at random moments, and as fast as it can."""


class Channel:
    """One connection, one request at a time."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._push: Any = channel.unary_unary(f"/{SERVICE}/PushPatterns")

    async def exchange(self, request: bytes) -> Reply:
        try:
            return Reply(200, await self._push(request))
        except grpc.aio.AioRpcError as error:
            return Reply(500, str(error).encode())


def measure(plan: Plan) -> Answers:
    rng = plan.rng("grpc")
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    filling = first_posts(households, rng)
    counts = int(RATE_PER_S * plan.seconds / 2), int(BUILT_PER_S * plan.seconds / 2)
    asked = [list(mix(households, part, count, phase, rng)) for phase, count in enumerate(2 * counts, 1)]
    servers_core, generators_core = two_cores()
    with running_on(servers_core), serving(*in_memory(plan)) as server, running_on(generators_core):
        rest, rpc = uvloop.run(_load(server, filling, asked, plan, rng))
    yield from _rows(rest, rpc)


async def _load(
    server: Server, filling: list[bytes], asked: list[list[SyncRequest]], plan: Plan, rng: np.random.Generator
) -> tuple[Measured, Measured]:
    async with connected(server.url, CONNECTIONS) as posting, channels(server.grpc) as calling:
        await fill(posting, filling)
        rest: Door = (list(posting), [[post(request) for request in each] for each in asked[:2]])
        rpc: Door = (list(calling), [[push(request) for request in each] for each in asked[2:]])
        return await by_turns(server, (rest, rpc), plan, rng)


async def by_turns(
    server: Server, doors: tuple[Door, Door], plan: Plan, rng: np.random.Generator
) -> tuple[Measured, Measured]:
    paced = []
    for connections, (requests, _) in doors:
        dues_s = np.cumsum(rng.exponential(1 / RATE_PER_S, len(requests))).tolist()
        paced.append(await run_open_loop(connections, requests, dues_s))
    sustained: list[list[Load]] = [[], []]
    cpu_s = [0.0, 0.0]
    for turn in range(2 * TURNS):
        door = turn % 2
        connections, (_, requests) = doors[door]
        before_s = server.cpu_s()
        part = requests[turn // 2 :: TURNS]
        sustained[door].append(await run_closed_loop(connections, part, plan.seconds / 2 / TURNS))
        cpu_s[door] += server.cpu_s() - before_s
    first, second = (Measured(*each) for each in zip(paced, sustained, cpu_s, strict=True))
    return first, second


@asynccontextmanager
async def channels(address: str) -> AsyncIterator[list[Channel]]:
    """As many connections as REST has."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    opened = [grpc.aio.insecure_channel(address, options) for _ in range(CONNECTIONS)]
    try:
        yield [Channel(channel) for channel in opened]
    finally:
        for channel in opened:
            await channel.close()


def push(request: SyncRequest) -> bytes:
    """A message, whole."""
    delta, added = request.delta, request.delta.added
    patterns = [
        pb.Pattern(
            id=added.ids[i].tobytes(),
            embedding=added.codes[i].tobytes(),
            success_rate=float(added.rates[i]),
            sample_count=int(added.counts[i]),
            context=pb.Context(
                time_of_day=context.time_of_day,
                day_of_week=context.day_of_week,
                content_type=context.content_type,
                genre_hints=context.genre_hints,
            ),
            created_at=int(added.created_at[i]),
            updated_at=int(added.updated_at[i]),
        )
        for i, context in enumerate(added.contexts)
    ]
    updated = delta.updated
    updates = [
        pb.RateUpdate(
            id=updated.ids[i].tobytes(),
            new_success_rate=float(updated.rates[i]),
            additional_samples=int(updated.samples[i]),
        )
        for i in range(len(updated))
    ]
    written = pb.Delta(patterns_added=patterns, patterns_updated=updates, sequence=delta.sequence)
    return pb.PushRequest(device_id=request.device_id, delta=written).SerializeToString()


def _rows(rest: Measured, rpc: Measured) -> Answers:
    yield Row(
        name=f"{RATE_PER_S} syncs/s open loop: p99",
        value=rpc.paced.quantile_ms(0.99),
        unit="ms",
        quality=_quality([rpc.paced]),
        yardstick=Yardstick("REST", rest.paced.quantile_ms(0.99)),
    )
    yield Row(
        name=f"sustained, {CONNECTIONS} at once",
        value=rpc.per_second,
        unit="/s",
        quality=_quality(rpc.sustained),
        yardstick=Yardstick("REST", rest.per_second),
    )
    yield Row(
        name="processor time of the server a sync",
        value=rpc.cpu_us,
        unit="us",
        quality=_quality(rpc.sustained),
        yardstick=Yardstick("REST", rest.cpu_us),
    )
    share = sum(load.cpu_s for load in rpc.sustained) / rpc.syncs * 1e6
    yield Note(f"a call took {share:.0f} us of the client's processor; {NEW_PATTERNS} new patterns in one of ten syncs")


def _quality(loads: list[Load]) -> str:
    last = loads[-1].last
    assert last is not None
    errors, count = sum(load.errors for load in loads), sum(len(load.latencies_s) for load in loads)
    similar = len(getattr(pb.PushReply.FromString(last.body), "global").similar)
    p50 = np.median([latency for load in loads for latency in load.latencies_s]) * 1e3
    return f"{errors} errors in {count:,}, {similar} similar; p50 {p50:.1f} ms"

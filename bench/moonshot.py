"""How many syncs a second carry two cores when all TVs of a shard are on, each every ten minutes?

That is 6,667 a second: 96% bring nothing new, 3% an update, 1% a new pattern in place of the oldest. Real servers, over
HTTP, msgpack, int8 and zstd with the dictionary both ways. All TVs sync once a round, so that between two syncs of
one as much changed as in ten minutes; each acknowledges what it got. What counts is the servers' CPU for a sync: the
generator would have to be elsewhere. Journal and PostgreSQL are left out: `bench.journal`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import msgspec
import numpy as np
import uvloop

from bench import workload
from bench.generator import Connection, connected, make_request
from bench.plan import Answers, Note, Plan
from bench.report import Row, Yardstick, at_least
from bench.served import Server, in_memory, serving
from bench.sync_http import HEADERS, fill, first_posts
from bench.workload import Households, Part
from constellation.model import Delta, Ids, RateUpdates
from constellation.wire.body import compress, decompress
from constellation.wire.dictionary import newest
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta

PER_S = 6_667
CORES = 2
UPDATE_SHARE, NEW_SHARE = 0.03, 0.01
ROUNDS = 3
TVS_MAX = 10_000
CONNECTIONS = 16
REPLY_BYTES_MAX = 1 << 20
TARGET = "/api/v1/sync?embedding=i8&similar=100&trending=50"


class _Told(msgspec.Struct):
    global_version: int
    reset: bool


class _Reply(msgspec.Struct):
    """What a TV of this question reads of a reply."""

    global_: _Told = msgspec.field(name="global")


_read = msgspec.msgpack.Decoder(_Reply).decode


class Cost(NamedTuple):
    """Of the rounds after the first."""

    syncs: int
    servers_cpu_s: float
    generator_cpu_s: float
    seconds: float
    whole: int

    @property
    def us(self) -> float:
        """Of the servers' CPU, a sync."""
        return self.servers_cpu_s / self.syncs * 1e6


class Tvs:
    """The TVs of one server."""

    def __init__(self, households: Households, part: Part, rng: np.random.Generator) -> None:
        self._part, self._rng, self._households = part, rng, households
        self._ids = [device_id.tobytes() for device_id in households.device_ids]
        self._own = [deque(map(bytes, households.ids[households.rows_of(i)])) for i in range(len(households))]
        self._versions: list[int | None] = [None] * len(households)
        self._sequence = 10**9
        self.whole = 0

    def order(self) -> Iterator[int]:
        return iter(self._rng.permutation(len(self._ids)).tolist())

    def request(self, tv: int) -> bytes:
        self._sequence += 1
        draw = self._rng.random()
        added, removed, updated = workload.no_patterns(), b"", workload.no_updates()
        if draw < NEW_SHARE:
            new = self._rng.bytes(16)
            films = self._rng.choice(self._households.films[tv], 1)
            added = workload.make_batch(_ids(new), self._part.patterns(films, self._rng), self._rng)
            self._own[tv].append(new)
            removed = self._own[tv].popleft()
        elif draw < NEW_SHARE + UPDATE_SHARE:
            updated = self._update(tv)
        delta = Delta(added, updated, _ids(removed), self._versions[tv], self._sequence, 0)
        body = compress(encode_delta(self._ids[tv], delta, Media.MSGPACK, "i8"), newest())
        return make_request("POST", TARGET, HEADERS, body)

    def take(self, tv: int, body: bytes) -> None:
        told = _read(decompress(body, "zstd", REPLY_BYTES_MAX)).global_
        self._versions[tv] = told.global_version
        self.whole += told.reset

    def _update(self, tv: int) -> RateUpdates:
        own = self._own[tv]
        return workload.make_updates(_ids(own[int(self._rng.integers(len(own)))]), self._rng)


def measure(plan: Plan) -> Answers:
    part = workload.load_library(plan.patterns, plan.seed).known
    count = min(TVS_MAX, plan.patterns // workload.PATTERNS_A_DEVICE)
    costs = {shards: _measure(plan, part, count, shards) for shards in (1, CORES)}
    for shards, cost in costs.items():
        yield Row(
            name=f"{CORES} cores carry, by the CPU of {shards} process{'es' if shards > 1 else ''}",
            value=CORES * 1e6 / cost.us,
            unit="/s",
            quality=f"{cost.us:.0f} us a sync; {cost.syncs:,} of {count:,} TVs, {cost.whole} whole lists, 0 errors",
            yardstick=Yardstick("all TVs of a shard on", PER_S),
            target=at_least(PER_S),
        )
    for shards, cost in costs.items():
        yield Note(
            f"{shards} process{'es' if shards > 1 else ''}: {cost.syncs / cost.seconds:,.0f}/s beside a generator that "
            f"took {cost.generator_cpu_s / cost.syncs * 1e6:.0f} us a sync, on what was left of the machine"
        )


def _measure(plan: Plan, part: Part, count: int, shards: int) -> Cost:
    rng = plan.rng("moonshot")
    homes = [workload.make_households(part, count // shards, None, rng) for _ in range(shards)]
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(*in_memory(plan))) for _ in homes]
        filling = [first_posts(households, rng) for households in homes]
        tvs = [Tvs(households, part, rng) for households in homes]
        return uvloop.run(_load(servers, filling, tvs))


async def _load(servers: list[Server], filling: list[list[bytes]], tvs: list[Tvs]) -> Cost:
    async with asyncio.TaskGroup() as group:
        for server, posts in zip(servers, filling, strict=True):
            group.create_task(fill_server(server.url, posts))
    await sync_round(servers, tvs)
    for some in tvs:
        some.whole = 0
    began = [server.cpu_s() for server in servers], time.process_time(), time.perf_counter()
    syncs = sum([await sync_round(servers, tvs) for _ in range(ROUNDS)])
    return Cost(
        syncs=syncs,
        servers_cpu_s=sum(server.cpu_s() for server in servers) - sum(began[0]),
        generator_cpu_s=time.process_time() - began[1],
        seconds=time.perf_counter() - began[2],
        whole=sum(some.whole for some in tvs),
    )


async def fill_server(url: str, posts: list[bytes]) -> None:
    async with connected(url, CONNECTIONS) as connections:
        await fill(connections, posts)


async def sync_round(servers: list[Server], tvs: list[Tvs]) -> int:
    """Every TV syncs once; how many did."""
    async with asyncio.TaskGroup() as group:
        done = [group.create_task(_sync_all(server.url, some)) for server, some in zip(servers, tvs, strict=True)]
    return sum(task.result() for task in done)


async def _sync_all(url: str, tvs: Tvs) -> int:
    order, count = tvs.order(), 0

    async def work(connection: Connection) -> None:
        nonlocal count
        for tv in order:
            reply = await connection.exchange(tvs.request(tv))
            assert reply.status == 200, reply
            tvs.take(tv, reply.body)
            count += 1

    async with connected(url, CONNECTIONS) as connections, asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(work(connection))
    return count


def _ids(one: bytes) -> Ids:
    return np.frombuffer(bytearray(one), np.uint8).reshape(-1, 16)

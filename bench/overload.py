"""What is left of a shard when everybody comes at once, and what does it cost to refuse somebody?

A real server in a process of its own; TVs as in `sync_http`. First as many syncs as it can serve, 16 at a time; then
ten times as many from thousands of connections that ignore every hint, at their moments whatever waits; then again 16
at a time, until it serves as many as before. Costs are CPU time of the server's process.
"""

import asyncio
import itertools
import resource
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

import numpy as np
import uvloop

from bench import workload
from bench.generator import Connection, Load, Reply, connected, make_request, run_closed_loop
from bench.plan import Answers, Note, Plan
from bench.report import Row, Target, Yardstick
from bench.served import Server, in_memory, serving
from bench.sync_http import BUILT_PER_S, fill, first_posts, mix, post, running_on, two_cores

OFFERED = 10
"""Times the capacity."""
GOODPUT_MIN = 0.9
REFUSAL_COST_MAX = 0.2
CONNECTIONS = 16
FLOODING_MAX = 3_000
"""Connections of the flood: with none free, a request waits in the generator, and its time runs."""
RECOVERY_S_MAX = 10.0
ANSWERED_S_MAX = 60.0
DEVICE_BURST = 100
"""Far more syncs than a device sends here, but for the one that is limited."""


class Flood(NamedTuple):
    """What came of an open loop: latencies of what was served in its time, and how many were served or refused."""

    served_s: list[float]
    served: int
    refused: int
    strange: int
    """Answered with anything else than 200 and 503."""
    offered_per_s: float
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.served_s) / self.seconds


class Measured(NamedTuple):
    capacity: Load
    flood: Flood
    recovery_s: float
    useful: float
    """Share of the server's CPU time during the flood that went into what was served."""
    after: Load
    """What was served then."""
    cost_s: dict[str, float]
    """CPU time of one request, by what became of it."""


def measure(plan: Plan) -> Answers:
    rng = plan.rng("overload")
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    filling = first_posts(households, rng)
    requests = [post(request) for request in mix(households, part, int(BUILT_PER_S * plan.seconds), 1, rng)]
    servers_core, generators_core = two_cores()
    with (
        running_on(servers_core),
        serving(*in_memory(plan), f"--device-burst={DEVICE_BURST}") as server,
        running_on(generators_core),
    ):
        flooding = min(FLOODING_MAX, plan.patterns // 4)
        allow_files(2 * flooding)
        measured = uvloop.run(run(server, filling, requests, flooding, plan.seconds))
    yield from _rows(measured)


def allow_files(count: int) -> None:
    """That this process opens so many at once, as far as the system lets it."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now < count:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (count if most == resource.RLIM_INFINITY else min(count, most), most)
        )


async def run(server: Server, filling: list[bytes], requests: list[bytes], flooding: int, seconds: float) -> Measured:
    """All of it, `flooding` connections taking part in the flood."""
    async with connected(server.url, CONNECTIONS) as few:
        await fill(few, filling)
        again = itertools.cycle(requests)
        capacity, served_cpu_s = await _costing(server, few, again, seconds / 2)
        async with connected(server.url, flooding) as many:
            began_cpu_s = server.cpu_s()
            flood = await run_flood(many, again, OFFERED * capacity.per_second, seconds / 2)
            flood_cpu_s = server.cpu_s() - began_cpu_s
        useful = min(1.0, flood.served * served_cpu_s / flood_cpu_s)
        recovery_s, after = await _recover(few, again, capacity.per_second)
        cost_s = {"served": served_cpu_s}
        if flood.refused:
            cost_s["overloaded"] = max(0.0, flood_cpu_s - flood.served * served_cpu_s) / flood.refused
        limited = itertools.repeat(requests[0])
        await run_closed_loop(few, itertools.islice(limited, 2 * DEVICE_BURST), float("inf"))
        _, cost_s["rate_limited"] = await _costing(server, few, limited, seconds / 8)
        broken = make_request("POST", "/api/v1/sync", {"content-type": "application/json"}, b'{"device_id": 1')
        _, cost_s["malformed"] = await _costing(server, few, itertools.repeat(broken), seconds / 8)
    return Measured(capacity, flood, recovery_s, useful, after, cost_s)


async def _costing(
    server: Server, connections: list[Connection], requests: Iterable[bytes], seconds: float
) -> tuple[Load, float]:
    """A closed loop, and what one of its requests cost the server."""
    began_s = server.cpu_s()
    load = await run_closed_loop(connections, requests, seconds)
    return load, (server.cpu_s() - began_s) / len(load.latencies_s)


async def run_flood(
    connections: Sequence[Connection], requests: Iterator[bytes], per_s: float, seconds: float
) -> Flood:
    """Requests at even moments, each on a connection that is free by then, whatever the others were told."""
    idle, served_s, statuses = deque(connections), list[float](), list[int]()
    started, began_at = 0, time.perf_counter()

    def answered(connection: Connection, due_at: float, exchanged: "asyncio.Future[Reply]") -> None:
        idle.append(connection)
        statuses.append(exchanged.result().status)
        if statuses[-1] == HTTPStatus.OK:
            served_s.append(time.perf_counter() - due_at)

    while (now_s := time.perf_counter() - began_at) < seconds:
        for number in range(started, min(int(now_s * per_s), started + len(idle))):
            connection = idle.popleft()
            exchanged = connection.exchange(next(requests))
            exchanged.add_done_callback(partial(answered, connection, began_at + number / per_s))
            started += 1
        await asyncio.sleep(0.001)
    within = len(served_s)
    async with asyncio.timeout(ANSWERED_S_MAX):
        while len(idle) < len(connections):
            await asyncio.sleep(0.01)
    refused = statuses.count(HTTPStatus.SERVICE_UNAVAILABLE)
    served = len(served_s)
    return Flood(served_s[:within], served, refused, len(statuses) - refused - served, started / seconds, seconds)


async def _recover(connections: list[Connection], requests: Iterable[bytes], before_per_s: float) -> tuple[float, Load]:
    """Seconds until the server serves nine tenths of what it did before, or for which it was waited."""
    began_at = time.perf_counter()
    while True:
        load = await run_closed_loop(connections, requests, 0.2)
        if load.per_second - load.errors / load.seconds >= GOODPUT_MIN * before_per_s:
            return time.perf_counter() - began_at - load.seconds, load
        if time.perf_counter() - began_at > RECOVERY_S_MAX:
            return RECOVERY_S_MAX, load


def _rows(measured: Measured) -> Answers:
    capacity, flood = measured.capacity, measured.flood
    yield Row(
        name=f"syncs served while {OFFERED} times as many come",
        value=flood.per_second,
        unit="/s",
        quality=f"{flood.refused:,} refused, {flood.strange} neither; {flood.offered_per_s:,.0f}/s came; "
        f"{measured.useful:.0%} of the CPU time went into what was served",
        yardstick=Yardstick(f"{CONNECTIONS} at once", capacity.per_second),
        target=Target(">=", GOODPUT_MIN, of="ratio"),
    )
    yield Row(
        name="p99 of those",
        value=float(np.quantile(flood.served_s or [0.0], 0.99)) * 1e3,
        unit="ms",
        quality=f"p50 {float(np.median(flood.served_s or [0.0])) * 1e3:.0f} ms",
        yardstick=Yardstick(f"{CONNECTIONS} at once, p99", capacity.quantile_ms(0.99)),
    )
    yield Row(
        name="until as many are served as before",
        value=measured.recovery_s,
        unit="s",
        quality="nobody does anything",
    )
    served_us = measured.cost_s["served"] * 1e6
    for what in ("overloaded", "rate_limited", "malformed"):
        if what in measured.cost_s:
            yield Row(
                name=f"a request refused as {what}",
                value=measured.cost_s[what] * 1e6,
                unit="us",
                quality="CPU time of the server",
                yardstick=Yardstick("a sync", served_us),
                target=Target("<=", REFUSAL_COST_MAX, of="ratio"),
            )
    yield Note("the generator shares the machine with the server: with less than a core for it, less comes")

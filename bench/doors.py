"""One server asked by two doors in turn, so that whatever else the machine does hits both: how many syncs, how soon.

The server, the TVs and the mix of `sync_http`. What a sync costs the server is its processor time, as the client of a
door may take as much as the server does. Used by the questions `grpc` and `quic`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bench import workload
from bench.generator import Exchanges, Load, Reply, run_closed_loop, run_open_loop
from bench.plan import Answers, Plan
from bench.report import Row, Yardstick
from bench.served import Server
from bench.sync_http import BUILT_PER_S, CONNECTIONS, RATE_PER_S, first_posts, mix
from constellation.model import SyncRequest

TURNS = 4
"""Of each door."""
TICK_S = 0.01
"""What the system's account of processor time is counted in."""


class Traffic(NamedTuple):
    """Posts that fill the server; then for each door what comes at random moments, and what as fast as it can."""

    filling: list[bytes]
    asked: tuple[list[list[SyncRequest]], list[list[SyncRequest]]]


class Door(NamedTuple):
    """Connections, and what to send on them: at random moments, and as fast as it can."""

    connections: list[Exchanges]
    paced: list[bytes]
    sustained: list[bytes]


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


def prepare(plan: Plan, rng: np.random.Generator) -> Traffic:
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    filling = first_posts(households, rng)
    counts = int(RATE_PER_S * plan.seconds / 2), int(BUILT_PER_S * plan.seconds / 2)
    asked = [list(mix(households, part, count, phase, rng)) for phase, count in enumerate(2 * counts, 1)]
    return Traffic(filling, (asked[:2], asked[2:]))


async def by_turns(
    server: Server, doors: tuple[Door, Door], plan: Plan, rng: np.random.Generator
) -> tuple[Measured, Measured]:
    paced = []
    for door in doors:
        dues_s = np.cumsum(rng.exponential(1 / RATE_PER_S, len(door.paced))).tolist()
        paced.append(await run_open_loop(door.connections, door.paced, dues_s))
    sustained: list[list[Load]] = [[], []]
    cpu_s = [0.0, 0.0]
    for turn in range(2 * TURNS):
        which = turn % 2
        before_s = server.cpu_s()
        part = doors[which].sustained[turn // 2 :: TURNS]
        sustained[which].append(await run_closed_loop(doors[which].connections, part, plan.seconds / 2 / TURNS))
        cpu_s[which] += server.cpu_s() - before_s
    first, second = (Measured(*each) for each in zip(paced, sustained, cpu_s, strict=True))
    return first, second


def compared(beside: str, first: Measured, second: Measured, similar: Callable[[Reply], int]) -> Answers:
    """Rows of the second door beside the first, which is called that; `similar` counts the patterns in a reply."""
    yield Row(
        name=f"{RATE_PER_S} syncs/s open loop: p99",
        value=second.paced.quantile_ms(0.99),
        unit="ms",
        quality=_quality([second.paced], similar),
        yardstick=Yardstick(beside, first.paced.quantile_ms(0.99)),
    )
    yield Row(
        name=f"sustained, {CONNECTIONS} at once",
        value=second.per_second,
        unit="/s",
        quality=_quality(second.sustained, similar),
        yardstick=Yardstick(beside, first.per_second),
    )
    yield Row(
        name="processor time of the server a sync",
        value=second.cpu_us,
        unit="us",
        quality=_quality(second.sustained, similar),
        yardstick=Yardstick(beside, first.cpu_us),
    )


def _quality(loads: list[Load], similar: Callable[[Reply], int]) -> str:
    last = loads[-1].last
    assert last is not None
    errors, count = sum(load.errors for load in loads), sum(len(load.latencies_s) for load in loads)
    p50 = np.median([latency for load in loads for latency in load.latencies_s]) * 1e3
    return f"{errors} errors in {count:,}, {similar(last)} similar; p50 {p50:.1f} ms"

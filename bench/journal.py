"""What does the journal add to a sync?

Two servers that hold the same, one that keeps nothing and one with journal and embedded PostgreSQL, are sent the same
syncs of `sync_http` at random moments, by turns: 167/s, a full shard's share, and then 80% of what the one with the
journal was found to serve.
"""

import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import uvloop

from bench import sync_http, workload
from bench.generator import Connection, Load, connected, run_closed_loop, run_open_loop
from bench.plan import Answers, Note, Plan
from bench.report import Row, Yardstick, at_most
from bench.served import in_memory, on_disk, serving

ADDED_P50_MS_MAX, ADDED_P99_MS_MAX = 1.5, 5.0
CAPACITY_SHARE = 0.8
TURNS = 6
"""Slices of a load, of which the median counts: what else the machine does meets both servers, and not all slices."""
PATTERNS_MAX = 20_000
"""What a sync waits for does not depend on how much is stored; filling over HTTP takes long."""


class Requests(NamedTuple):
    """What both servers are sent, in this order."""

    filling: list[bytes]
    paced: list[bytes]
    closed: list[bytes]
    loaded: list[bytes]


class Compared(NamedTuple):
    """One rate, asked of both."""

    per_s: float
    memory: list[Load]
    journaled: list[Load]


def measure(plan: Plan) -> Answers:
    plan = plan._replace(patterns=min(plan.patterns, PATTERNS_MAX))
    rng = plan.rng("journal")
    requests = _prepare(plan, rng)
    with (
        tempfile.TemporaryDirectory() as directory,
        serving(*in_memory(plan)) as memory,
        serving(*on_disk(plan, directory)) as journaled,
    ):
        capacity, paced, loaded = uvloop.run(_load(memory.url, journaled.url, requests, plan.seconds, rng))
    yield from _rows(paced, f"{sync_http.RATE_PER_S}/s")
    yield from _rows(loaded, f"{CAPACITY_SHARE:.0%} of capacity, {loaded.per_s:.0f}/s")
    yield Note(
        f"capacity: {sync_http.CONNECTIONS} at once got {capacity.per_second:.0f}/s out of the server with the journal;"
        " PostgreSQL and generator run beside it"
    )
    yield Note("30% of these syncs change something and wait for the disk; the others do not")


def _prepare(plan: Plan, rng: np.random.Generator) -> Requests:
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    counts = (
        int(sync_http.RATE_PER_S * plan.seconds),
        int(sync_http.BUILT_PER_S * plan.seconds / 4),
        int(sync_http.BUILT_PER_S * plan.seconds * CAPACITY_SHARE / 2),
    )
    mixed = (
        [sync_http.post(request) for request in sync_http.mix(households, part, count, phase, rng)]
        for phase, count in enumerate(counts, 1)
    )
    return Requests(sync_http.first_posts(households, rng), *mixed)


async def _load(
    memory_url: str, journaled_url: str, requests: Requests, seconds: float, rng: np.random.Generator
) -> tuple[Load, Compared, Compared]:
    async with (
        connected(memory_url, sync_http.CONNECTIONS) as memory,
        connected(journaled_url, sync_http.CONNECTIONS) as journaled,
    ):
        for connections in (memory, journaled):
            await sync_http.fill(connections, requests.filling)
        paced = await _compare(memory, journaled, requests.paced, sync_http.RATE_PER_S, rng)
        capacity = await run_closed_loop(journaled, requests.closed, seconds / 4)
        per_s = CAPACITY_SHARE * capacity.per_second
        some = requests.loaded[: int(per_s * seconds / 2)]
        return capacity, paced, await _compare(memory, journaled, some, per_s, rng)


async def _compare(
    memory: list[Connection], journaled: list[Connection], requests: list[bytes], per_s: float, rng: np.random.Generator
) -> Compared:
    compared = Compared(per_s, [], [])
    for some in _sliced(requests):
        dues_s = np.cumsum(rng.exponential(1 / per_s, len(some))).tolist()
        compared.memory.append(await run_open_loop(memory, some, dues_s))
        compared.journaled.append(await run_open_loop(journaled, some, dues_s))
    return compared


def _sliced(requests: list[bytes]) -> Iterator[list[bytes]]:
    size = -(-len(requests) // TURNS)
    return (requests[start : start + size] for start in range(0, len(requests), size))


def _rows(compared: Compared, rate: str) -> Answers:
    for q, target in ((0.5, ADDED_P50_MS_MAX), (0.99, ADDED_P99_MS_MAX)):
        without, with_it = _quantiles_ms(compared.memory, q), _quantiles_ms(compared.journaled, q)
        errors = sum(load.errors for load in compared.memory + compared.journaled)
        yield Row(
            name=f"the journal adds to a sync at {rate}: p{q * 100:g}",
            value=max(0.0, float(np.median(with_it - without))),
            unit="ms",
            quality=f"{errors} errors; {np.median(with_it):.1f} ms with it, at worst {with_it.max():.1f}",
            yardstick=Yardstick("the same syncs, nothing kept", float(np.median(without))),
            target=at_most(target),
        )


def _quantiles_ms(loads: list[Load], q: float) -> npt.NDArray[np.float64]:
    """Of each slice (n,)."""
    return np.array([np.quantile(load.latencies_s, q) for load in loads]) * 1e3

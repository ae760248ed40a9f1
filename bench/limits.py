"""Are the limits of the product kept? Medians, with generous room, so that no machine misses them by chance.

Search, store, trends and look-ups on a shard in process (`bench.probes`), on the clock that hangs on the wall; a sync
as a TV sees it, over HTTP from a server in a process of its own.
"""

import numpy as np
import uvloop

from bench import sync_http, workload
from bench.generator import Load, connected, run_closed_loop
from bench.plan import Answers, Plan, Timings
from bench.probes import LOOKUPS, YARDSTICKS, Operation, Probes
from bench.report import Row, Yardstick, at_most
from bench.served import in_memory, serving

SYNC_MS_MAX = 100.0
PATTERNS_MAX = 100_000
"""`similarity` and `sync_shard` measure more; this has to be quick."""
HOUSEHOLDS = 200
SYNCS = 400
ROUNDS = 200

_LIMITS = (
    ("search: the 100 nearest", 1, 1.0),
    ("store: two patterns, and back", 1, 5.0),
    ("three updates, then the trends", 1, 10.0),
    (f"{LOOKUPS:,} devices looked up", LOOKUPS, 1.0),
)
"""A probe, how many of what is limited are in one of its operations, and milliseconds."""


def measure(plan: Plan) -> Answers:
    plan = plan._replace(patterns=min(plan.patterns, PATTERNS_MAX))
    rounds, probes = min(ROUNDS, plan.queries), Probes(plan.patterns, plan.seed)
    try:
        yardstick = Yardstick(
            f"{YARDSTICKS[0]}: 1,000 turns of a loop", _p50_ms(probes.operations[YARDSTICKS[0]], rounds)
        )
        for name, within, limit_ms in _LIMITS:
            yield Row(
                name=f"{name}: p50" if within == 1 else "a device looked up: p50",
                value=_p50_ms(probes.operations[name], rounds) / within,
                unit="ms",
                quality=f"of {rounds}; {plan.patterns:,} patterns",
                yardstick=yardstick,
                target=at_most(limit_ms),
                gate=at_most(limit_ms),
            )
    finally:
        probes.close()
    yield _sync(plan, yardstick)


def _p50_ms(operation: Operation, rounds: int) -> float:
    timings = Timings()
    for number in range(rounds // 4):  # what is made on first use
        operation(number)
    for number in range(rounds):
        timings.measure(operation, number)
    return timings.p50


def _sync(plan: Plan, yardstick: Yardstick) -> Row:
    rng = plan.rng("limits")
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, min(HOUSEHOLDS, plan.queries), None, rng)
    filling = sync_http.first_posts(households, rng)
    syncs = [sync_http.post(request) for request in sync_http.mix(households, part, min(SYNCS, plan.queries), 1, rng)]
    with serving(*in_memory(plan)) as server:
        load = uvloop.run(_load(server.url, filling, syncs))
    return Row(
        name="a sync over HTTP: p50",
        value=float(np.median(load.latencies_s)) * 1e3,
        unit="ms",
        quality=f"{load.errors} errors in {len(load.latencies_s):,}; p99 {load.quantile_ms(0.99):.1f} ms",
        yardstick=yardstick,
        target=at_most(SYNC_MS_MAX),
        gate=at_most(SYNC_MS_MAX),
    )


async def _load(url: str, filling: list[bytes], syncs: list[bytes]) -> Load:
    async with connected(url, 1) as connections:
        await sync_http.fill(connections, filling)
        return await run_closed_loop(connections, syncs, float("inf"))

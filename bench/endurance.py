"""Does a shard stay as it is while it serves? Memory, latency, errors, at the rate of a full shard's share.

A real server with journal and embedded PostgreSQL and as many patterns from the first minute to the last: a household
that finds two new ones forgets its two oldest. Open loop, in windows; the last third of them is held against the first.
The short form is part of the bench, the long one is `python -m bench soak`.
"""

import os
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import uvloop

from bench import sync_http, workload
from bench.generator import Load, connected, run_open_loop
from bench.plan import Answers, Note, Plan, tracked
from bench.report import Row, Yardstick, at_most
from bench.served import Server, on_disk, serving
from bench.workload import Households, Part
from constellation.model import PatternBatch, RateUpdates, SyncRequest

RATE_PER_S = sync_http.RATE_PER_S
WINDOWS_MIN = 9
WINDOW_S_MAX = 20.0
GROWTH_MAX = 1.1
SLOWER_MAX = 1.5
"""Of medians; other work on the machine meets the thirds differently."""
SHORT_PATTERNS_MAX = 20_000
"""Of the short form, where filling a shard would take longer than what is asked."""


class Window(NamedTuple):
    """What was seen of some seconds: the load, and what the process held at their end."""

    load: Load
    resident_mib: float


class Tellers(NamedTuple):
    """Who syncs, with what each holds, oldest first."""

    all: Households
    own: list[deque[bytes]]
    part: Part


def measure(plan: Plan) -> Answers:
    patterns = min(plan.patterns, SHORT_PATTERNS_MAX)
    yield from endured(plan._replace(patterns=patterns), 2 * plan.seconds)


def endured(plan: Plan, seconds: float) -> Answers:
    """Rows about so many seconds of syncs."""
    windows = max(WINDOWS_MIN, round(seconds / WINDOW_S_MAX))
    with tempfile.TemporaryDirectory() as directory, serving(*on_disk(plan, directory)) as server:
        seen = uvloop.run(_live(plan, server, windows, seconds / windows))
    yield from _rows(seen)
    yield Note(f"{RATE_PER_S} syncs/s for {seconds / 60:.1f} minutes, in {windows} windows; {plan.patterns:,} patterns")


async def _live(plan: Plan, server: Server, windows: int, seconds: float) -> list[Window]:
    rng = plan.rng("endurance")
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    own = [deque(map(bytes, households.ids[households.rows_of(number)])) for number in range(len(households))]
    async with connected(server.url, sync_http.CONNECTIONS) as connections:
        await sync_http.fill(connections, sync_http.first_posts(households, rng))
    syncs = _syncs(Tellers(households, own, part), rng)
    return [await _window(syncs, seconds, server, rng) for _ in tracked(range(windows), "enduring")]


async def _window(syncs: Iterator[SyncRequest], seconds: float, server: Server, rng: np.random.Generator) -> Window:
    """Connections are made anew for each: a server closes those that are idle while requests are made."""
    requests = [sync_http.post(next(syncs)) for _ in range(max(1, round(RATE_PER_S * seconds)))]
    dues_s = np.cumsum(rng.exponential(1 / RATE_PER_S, len(requests))).tolist()
    async with connected(server.url, sync_http.CONNECTIONS) as connections:
        load = await run_open_loop(connections, requests, dues_s)
    return Window(load, resident_mib(server.pid))


def _syncs(who: Tellers, rng: np.random.Generator) -> Iterator[SyncRequest]:
    """The mix of `sync_http`, without an end, of households drawn at random."""
    sequence = 0
    while True:
        sequence += 1
        number, draw = int(rng.integers(len(who.own))), rng.random()
        added, updated, removed = _learned(who, number, draw, rng)
        request = workload.make_request(who.all.device_ids[number].tobytes(), added, updated, sequence=sequence)
        request.delta.removed = np.frombuffer(bytearray(b"".join(removed)), np.uint8).reshape(-1, 16)
        yield request


def _learned(
    who: Tellers, number: int, draw: float, rng: np.random.Generator
) -> tuple[PatternBatch, RateUpdates, list[bytes]]:
    own = who.own[number]
    if draw < sync_http.NOTHING_SHARE:
        return workload.no_patterns(), workload.no_updates(), []
    if draw < sync_http.NOTHING_SHARE + sync_http.UPDATES_SHARE:
        chosen = np.frombuffer(bytearray(b"".join(list(own)[: sync_http.UPDATES])), np.uint8).reshape(-1, 16)
        return workload.no_patterns(), workload.make_updates(chosen, rng), []
    films = rng.choice(who.all.films[number], sync_http.NEW_PATTERNS)
    ids = workload.make_ids(sync_http.NEW_PATTERNS, rng)
    own.extend(map(bytes, ids))
    removed = [own.popleft() for _ in range(sync_http.NEW_PATTERNS)]
    return workload.make_batch(ids, who.part.patterns(films, rng), rng), workload.no_updates(), removed


def resident_mib(pid: int) -> float:
    """Of one process; 0 where nobody tells."""
    statm = Path(f"/proc/{pid}/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if statm.exists() else 0.0


def _rows(seen: list[Window]) -> Answers:
    third = len(seen) // 3
    first, last = seen[:third], seen[-third:]
    mib, mib_first = (float(np.median([window.resident_mib for window in some])) for some in (last, first))
    if mib_first:
        yield Row(
            name="memory of the process, last third",
            value=mib,
            unit="MiB",
            quality=f"at most {max(window.resident_mib for window in seen):.0f}",
            yardstick=Yardstick("first third", mib_first),
            target=at_most(mib_first * GROWTH_MAX),
        )
    for q, target in ((0.5, SLOWER_MAX), (0.99, None)):
        ms, ms_first = (_quantile_ms(some, q) for some in (last, first))
        yield Row(
            name=f"latency, last third: p{q * 100:g}",
            value=ms,
            unit="ms",
            quality=f"of {sum(len(window.load.latencies_s) for window in last):,} syncs",
            yardstick=Yardstick("first third", ms_first),
            target=at_most(ms_first * target) if target else None,
        )
    errors = sum(window.load.errors for window in seen)
    yield Row(
        name="errors",
        value=float(errors),
        unit="",
        quality=f"of {sum(len(window.load.latencies_s) for window in seen):,} syncs",
        yardstick=Yardstick("allowed", 1.0),
        target=at_most(0),
    )


def _quantile_ms(windows: list[Window], q: float) -> float:
    return float(np.quantile(np.concatenate([window.load.latencies_s for window in windows]), q)) * 1e3

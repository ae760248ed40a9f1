"""What does durability cost a sync, and how soon is a shard back?

The load of `sync_http` at 167 syncs/s against a server that keeps nothing and one with journal and embedded
PostgreSQL, one after the other; then that one is killed (kill -9), started, stopped in order and started again, each
timed until it is ready, from the start of its process.
"""

import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import numpy as np
import uvloop

from bench import sync_http, workload
from bench.generator import Load, connected, run_closed_loop, run_open_loop
from bench.plan import Answers, Note, Plan, tracked
from bench.report import Row, Yardstick, at_most
from constellation.cli.demo import wait_until_listening

ADDED_P50_MS_MAX, ADDED_P99_MS_MAX = 1.5, 5.0
KILLED_S_MAX, STOPPED_S_MAX = 15.0, 5.0
STOP_S_MAX = 120


class Requests(NamedTuple):
    """What is sent: first syncs to fill the shard, then a paced mix."""

    filling: list[bytes]
    paced: list[bytes]
    dues_s: list[float]


def measure(plan: Plan) -> Answers:
    requests = _prepare(plan)
    settings = workload.shard_settings(plan.patterns)
    limits = ["--max-patterns", str(settings.max_patterns), "--max-devices", str(settings.max_devices)]
    with _serving(["--storage", "memory", *limits]) as (url, _):
        memory = uvloop.run(_load(url, requests))
    with tempfile.TemporaryDirectory() as directory:
        options = ["--storage", "postgres", "--data-dir", directory, *limits]
        with _serving(options) as (url, child):
            journaled = uvloop.run(_load(url, requests))
            stored = _stored(url)
            child.kill()
        killed_s, after_kill = _ready_s(options)
        stopped_s, after_stop = _ready_s(options)
    yield from _rows(memory, journaled)
    empty_s, _ = _ready_s(["--storage", "memory", *limits])
    yardstick = Yardstick("an empty shard in memory", empty_s)
    yield Row(
        name="kill -9 -> ready",
        value=killed_s,
        unit="s",
        quality=f"{after_kill:,} of {stored:,} patterns",
        yardstick=yardstick,
        target=at_most(KILLED_S_MAX),
    )
    yield Row(
        name="graceful stop -> ready",
        value=stopped_s,
        unit="s",
        quality=f"{after_stop:,} of {stored:,} patterns",
        yardstick=yardstick,
        target=at_most(STOPPED_S_MAX),
    )


def _prepare(plan: Plan) -> Requests:
    rng = plan.rng("restart")
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    first = tracked(workload.first_syncs(households, rng), "preparing", len(households))
    filling = [sync_http.post(request) for request in first]
    count = int(sync_http.RATE_PER_S * plan.seconds)
    paced = [sync_http.post(request) for request in sync_http.mix(households, part, count, 1, rng)]
    return Requests(filling, paced, np.cumsum(rng.exponential(1 / sync_http.RATE_PER_S, count)).tolist())


async def _load(url: str, requests: Requests) -> Load:
    async with connected(url, sync_http.CONNECTIONS) as connections:
        batch = max(1, len(requests.filling) // 100)
        starts = range(0, len(requests.filling), batch)
        for start in tracked(starts, "filling the shard over HTTP", len(starts)):
            some = itertools.islice(requests.filling, start, start + batch)
            load = await run_closed_loop(connections, some, float("inf"))
            assert load.errors == 0, load.last
        return await run_open_loop(connections, requests.paced, requests.dues_s)


def _rows(memory: Load, journaled: Load) -> Answers:
    for q, target in ((0.5, ADDED_P50_MS_MAX), (0.99, ADDED_P99_MS_MAX)):
        without = memory.quantile_ms(q)
        yield Row(
            name=f"the journal adds to a sync at {sync_http.RATE_PER_S}/s: p{q * 100:g}",
            value=max(0.0, journaled.quantile_ms(q) - without),
            unit="ms",
            quality=f"{journaled.errors} errors; {journaled.quantile_ms(q):.1f} ms with it",
            yardstick=Yardstick("the same syncs, nothing kept", without),
            target=at_most(target),
        )
    yield Note("30% of these syncs change something and wait for the disk; the others do not")


def _ready_s(options: list[str]) -> tuple[float, int]:
    """Seconds from the start of the process until it is ready, and the patterns that it holds; then it is stopped."""
    began_at = time.perf_counter()
    with _serving(options) as (url, _):
        return time.perf_counter() - began_at, _stored(url)


@contextmanager
def _serving(options: list[str]) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    command = [sys.executable, "-m", "constellation", "serve", "--port", "0", "--metrics-port", "0", *options]
    log: IO[bytes]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield wait_until_listening(child, log)[0], child
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(STOP_S_MAX)


def _stored(url: str) -> int:
    with urllib.request.urlopen(f"{url}/api/v1/stats") as reply:
        return int(json.load(reply)["patterns_stored"])

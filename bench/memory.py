"""How many bytes do a pattern and a device take, everything in?

Measured as what the resident memory of a process grows by, in a child process that does nothing else: devices first,
each by a sync that brings nothing, then the patterns of some of them. The work that prepares a sync is done before.
"""

import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from bench import workload
from bench.plan import Answers, Note, Plan, tracked
from bench.report import Row, Yardstick, at_most
from constellation.codebook import default_codebook
from constellation.model import DIM
from constellation.shard import Shard
from constellation.shard.buckets import sums_bytes
from constellation.shard.similarity import ARRIVALS_KEPT
from kernels.arrivals import RECORD_BYTES
from kernels.warm import warm

SUMS_BYTES = sums_bytes(len(default_codebook()))
RING_BYTES = ARRIVALS_KEPT * RECORD_BYTES
PATTERN_BYTES_MAX = 800
DEVICE_BYTES_MAX = 200
DEVICES_MAX = 250_000
"""Enough for a mean; each is a sync."""
FLOATS_BYTES = 4 * DIM
UUID_STRING_BYTES = 36 + 49
"""A UUID as a Python string: what one alone would take in a dict of devices."""
_STATM = Path("/proc/self/statm")


class Growth(NamedTuple):
    """Bytes of resident memory, and what the shard says of itself."""

    per_device: float
    per_pattern: float
    stored: int
    reported: int


def measure(plan: Plan) -> Answers:
    if not _STATM.exists():
        yield Note(f"not measured: this system has no {_STATM}")
        return
    plan = plan._replace(devices=min(plan.devices, DEVICES_MAX))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
        growth = child.submit(_grow, plan).result()
    yield Row(
        name="one pattern, all in",
        value=growth.per_pattern,
        unit="B",
        quality=f"{growth.stored:,} patterns, without what any number takes: {SUMS_BYTES / 2**20:.0f} MiB of sums a "
        f"codebook, {RING_BYTES / 2**20:.0f} MiB of arrivals; the shard reports {growth.reported / 2**20:,.0f} MiB",
        yardstick=Yardstick("its 384 floats alone", FLOATS_BYTES),
        target=at_most(PATTERN_BYTES_MAX),
        gate=at_most(PATTERN_BYTES_MAX),
    )
    yield Row(
        name="one device",
        value=growth.per_device,
        unit="B",
        quality=f"{plan.devices:,} devices without patterns",
        yardstick=Yardstick("its id as a Python string", UUID_STRING_BYTES),
        target=at_most(DEVICE_BYTES_MAX),
        gate=at_most(DEVICE_BYTES_MAX),
    )


def _grow(plan: Plan) -> Growth:
    """Runs in the child."""
    warm()
    rng = plan.rng("memory")
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    others = workload.make_ids(max(0, plan.devices - len(households)), rng)
    shard = Shard(workload.shard_settings(plan.patterns + plan.devices))
    _register(shard, [households.device_ids[0].tobytes()])
    empty = _resident_bytes()
    _register(shard, map(bytes, households.device_ids[1:]))
    _register(shard, map(bytes, others))
    registered = _resident_bytes()
    now = float(workload.START_S)
    for request in tracked(workload.first_syncs(households, rng), "loading patterns", len(households)):
        now += workload.TICK_S
        shard.apply(request, now)
        while shard.maintain():
            pass
    stats = shard.stats(now)
    fixed = SUMS_BYTES + min(RING_BYTES, stats.patterns_served * RECORD_BYTES)
    return Growth(
        per_device=(registered - empty) / (stats.total_devices - 1),
        per_pattern=(_resident_bytes() - registered - fixed) / stats.patterns_stored,
        stored=stats.patterns_stored,
        reported=stats.bytes_resident,
    )


def _register(shard: Shard, device_ids: Iterable[bytes]) -> None:
    for device_id in device_ids:
        request = workload.make_request(device_id, _NOTHING, _NO_UPDATES)
        shard.apply(request, workload.START_S)


_NOTHING, _NO_UPDATES = workload.no_patterns(), workload.no_updates()


def _resident_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

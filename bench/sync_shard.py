"""What does one sync cost without HTTP? `Shard.apply` and `Shard.answer`, by what the delta brings.

The classes are those of the mix that TVs send: nothing new, updates of known patterns, two new patterns. Devices with
three interests ask three times. Every answer is the whole one, 100 patterns and 50 trends, but for the devices that are
known: they come once more with nothing new, after what the others sent. How much of it is for the sums that a round is
made of is told apart.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

from bench import workload
from bench.loaded import Loaded, load_shard
from bench.peers.exact import ExactScan, time_scan
from bench.plan import Answers, Plan, Timings, tracked
from bench.report import Row, Yardstick, at_most
from bench.workload import Households, Part
from constellation.codebook import default_codebook
from constellation.model import PatternBatch, RateUpdates, SyncRequest
from constellation.shard import Shard
from constellation.shard.buckets import Buckets

P50_MS_MAX = 1.2
UPDATES = 3
NEW_PATTERNS = 2
SUMS_US_MAX = 15.0
"""Of the CPU, a pattern added."""

Content = tuple[PatternBatch, RateUpdates]


def measure(plan: Plan) -> Answers:
    loaded = load_shard(plan)
    part = workload.load_library(plan.patterns, plan.seed).known
    rng = plan.rng("sync_shard")
    scan = time_scan(ExactScan(loaded.households.codes), loaded.households.codes, workload.EVERYTHING.similar)
    contents: dict[str, Callable[[int], Content]] = {
        "nothing new": lambda _: (workload.no_patterns(), workload.no_updates()),
        f"{UPDATES} updates": lambda device: (workload.no_patterns(), _updates(loaded, device, rng)),
        f"{NEW_PATTERNS} new patterns": lambda device: (
            _same_taste(loaded.households, part, device, rng),
            workload.no_updates(),
        ),
    }
    now = loaded.now
    for interests in (1, 3):
        devices = np.flatnonzero(loaded.households.interest_counts() == interests)
        few = f"{interests} interest{'s' if interests > 1 else ''}"
        known: list[SyncRequest] = []
        groups = np.array_split(rng.permutation(devices), len(contents))
        for (what, content), group in zip(contents.items(), groups, strict=True):
            requests = [_request(loaded, device, *content(device)) for device in group[: plan.queries].tolist()]
            known = known or requests
            yield _measure_class(loaded, f"{few}, {what}", requests, scan, now)
            now += plan.queries * workload.TICK_S
        yield _measure_class(loaded, f"{few}, nothing new, cursor known", known, scan, now)
    yield from _measure_sums(plan, part)


def _measure_class(loaded: Loaded, name: str, requests: list[SyncRequest], scan: Yardstick, now: float) -> Row:
    shard, whole, applying, upkeep = loaded.shard, Timings(), Timings(), Timings()
    similar = 0
    for request in tracked(requests, name):
        now += workload.TICK_S
        whole.start()
        applying.measure(shard.apply, request, now)
        answer = shard.answer(request.device_id, workload.EVERYTHING, request.delta.local_version)
        whole.stop()
        request.delta.local_version = answer.global_version
        similar += len(answer.similar)
        upkeep.measure(_maintain, loaded)
    return Row(
        name=f"{name}: p50",
        value=whole.p50,
        unit="ms",
        quality=f"{similar / len(requests):.0f} similar; p99 {whole.p99:.2f}, apply {applying.p50:.3f}, "
        f"upkeep {upkeep.mean:.3f} ms",
        yardstick=scan,
        target=at_most(P50_MS_MAX),
    )


def _measure_sums(plan: Plan, part: Part) -> Answers:
    """What a device gives is taken out before its patterns change and put in afterwards; that is timed, on the CPU."""
    rng = plan.rng("sums")
    households = workload.make_households(part, plan.queries, None, rng)
    shard = Shard(workload.shard_settings(plan.patterns))
    while shard.maintain():  # the buckets count every device from the first one on
        pass
    finding = Timings(time.thread_time)
    for code in households.codes[: plan.queries]:
        finding.measure(default_codebook().buckets, code[None])
    more = (
        workload.make_request(device_id.tobytes(), _same_taste(households, part, device, rng), workload.no_updates())
        for device, device_id in enumerate(households.device_ids)
    )
    for what, requests, added, target in (
        ("a new device's", workload.first_syncs(households, rng), workload.PATTERNS_A_DEVICE, at_most(SUMS_US_MAX)),
        (f"{NEW_PATTERNS} more of a device with {workload.PATTERNS_A_DEVICE}", more, NEW_PATTERNS, None),
    ):
        counting, applying = Timings(time.thread_time), Timings(time.thread_time)
        with _timing_sums(counting):
            for request in requests:
                applying.measure(shard.apply, request, workload.START_S)
        both_us = np.array(counting.ms).reshape(-1, 2).sum(axis=1) * 1e3
        yield Row(
            name=f"the sums, a pattern added, {what}: CPU, p50",
            value=float(np.median(both_us)) / added,
            unit="us",
            quality=f"of {applying.p50 * 1e3 / added:.0f} us in all; {len(default_codebook()):,} buckets",
            yardstick=Yardstick("finding the bucket alone", finding.p50 * 1e3),
            target=target,
        )


@contextmanager
def _timing_sums(timings: Timings) -> Iterator[None]:
    """Each `leave` and each `enter` is one."""
    leave, enter = Buckets.leave, Buckets.enter
    with (
        patch.object(Buckets, "leave", lambda *arguments: timings.measure(leave, *arguments)),
        patch.object(Buckets, "enter", lambda *arguments: timings.measure(enter, *arguments)),
    ):
        yield


def _maintain(loaded: Loaded) -> None:
    while loaded.shard.maintain():
        pass


def _request(loaded: Loaded, device: int, added: PatternBatch, updated: RateUpdates) -> SyncRequest:
    return workload.make_request(loaded.households.device_ids[device].tobytes(), added, updated)


def _updates(loaded: Loaded, device: int, rng: np.random.Generator) -> RateUpdates:
    own = loaded.households.ids[loaded.households.rows_of(device)]
    return workload.make_updates(rng.choice(own, UPDATES, replace=False), rng)


def _same_taste(households: Households, part: Part, device: int, rng: np.random.Generator) -> PatternBatch:
    """New patterns of films the household has patterns of already, so that it keeps its interests."""
    films = rng.choice(households.films[device], NEW_PATTERNS)
    return workload.make_batch(workload.make_ids(NEW_PATTERNS, rng), part.patterns(films, rng), rng)

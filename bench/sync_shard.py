"""What does one sync cost without HTTP? `Shard.apply` and `Shard.answer`, by what the delta brings.

The classes are those of the mix that TVs send: nothing new, updates of known patterns, two new patterns. Devices with
three interests ask three times. Every answer is the whole one: 100 patterns and 50 trends.
"""

from collections.abc import Callable

import numpy as np

from bench import workload
from bench.loaded import Loaded, load_shard
from bench.peers.exact import ExactScan, time_scan
from bench.plan import Answers, Plan, Timings, tracked
from bench.report import Row, Yardstick, at_most
from bench.workload import Part
from constellation.model import PatternBatch, RateUpdates, SyncRequest

P50_MS_MAX = 1.2
UPDATES = 3
NEW_PATTERNS = 2

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
            _new_patterns(loaded, part, device, rng),
            workload.no_updates(),
        ),
    }
    now = loaded.now
    for interests in (1, 3):
        devices = np.flatnonzero(loaded.households.interest_counts() == interests)
        for what, content in contents.items():
            asking = rng.choice(devices, plan.queries)
            requests = [_request(loaded, device, *content(device)) for device in asking.tolist()]
            yield _measure_class(
                loaded, f"{interests} interest{'s' if interests > 1 else ''}, {what}", requests, scan, now
            )
            now += plan.queries * workload.TICK_S


def _measure_class(loaded: Loaded, name: str, requests: list[SyncRequest], scan: Yardstick, now: float) -> Row:
    shard, whole, applying, upkeep = loaded.shard, Timings(), Timings(), Timings()
    similar = 0
    for request in tracked(requests, name):
        now += workload.TICK_S
        whole.start()
        applying.measure(shard.apply, request, now)
        answer = shard.answer(request.device_id, workload.EVERYTHING)
        whole.stop()
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


def _maintain(loaded: Loaded) -> None:
    while loaded.shard.maintain():
        pass


def _request(loaded: Loaded, device: int, added: PatternBatch, updated: RateUpdates) -> SyncRequest:
    return workload.make_request(loaded.households.device_ids[device].tobytes(), added, updated)


def _updates(loaded: Loaded, device: int, rng: np.random.Generator) -> RateUpdates:
    own = loaded.households.ids[loaded.households.rows_of(device)]
    return workload.make_updates(rng.choice(own, UPDATES, replace=False), rng)


def _new_patterns(loaded: Loaded, part: Part, device: int, rng: np.random.Generator) -> PatternBatch:
    """Of films the household has patterns of already, so that it keeps its interests."""
    films = rng.choice(loaded.households.films[device], NEW_PATTERNS)
    return workload.make_batch(workload.make_ids(NEW_PATTERNS, rng), part.patterns(films, rng), rng)

"""What do reading the trends and finding a device cost?

Trends are read from a shard with many content items and the counts of a few thousand households; devices are found by
id in the table that the shard uses.
"""

import numpy as np

from bench import workload
from bench.plan import Answers, Plan, Timings, tracked
from bench.report import Row, Yardstick, at_most
from constellation.model import ContentItem
from constellation.shard import Shard
from constellation.shard.devices import Devices

TREND_MS_MAX = 0.05
DEVICE_US_MAX = 5.0
HOUSEHOLDS_MAX = 2_000
READS = 2_000
LOOKUPS = 100_000
ROUNDS = 5


def measure(plan: Plan) -> Answers:
    yield _measure_trends(plan)
    yield _measure_devices(plan)


def _measure_trends(plan: Plan) -> Row:
    rng = plan.rng("lookups")
    shard = Shard(workload.shard_settings(plan.patterns))
    part = workload.load_library(plan.patterns, plan.seed).known
    codes = part.patterns(part.draw(plan.content_items, rng), rng)
    now = float(workload.START_S)
    for number in tracked(range(len(codes)), "posting content"):
        shard.put_content(ContentItem(f"title:{number}", f"Title {number}", codes[number], None), now)
    households = workload.make_households(part, min(HOUSEHOLDS_MAX, plan.patterns // 10), None, rng)
    for request in workload.first_syncs(households, rng):
        shard.apply(request, now)
    limit = workload.EVERYTHING.trending
    scores = rng.random(plan.content_items)
    reads, sorts = Timings(), Timings()
    for household in rng.integers(0, len(households), READS):
        # Something has changed before every read, so that no read is of a list that was already made.
        updates = workload.make_updates(households.ids[households.rows_of(household)], rng)
        request = workload.make_request(households.device_ids[household].tobytes(), workload.no_patterns(), updates)
        shard.apply(request, now)
        trends = reads.measure(shard.trending, limit, now)
        sorts.measure(np.argpartition, scores, -min(limit, len(scores)))
    return Row(
        name=f"trend read, {plan.content_items:,} content items: p50",
        value=reads.p50,
        unit="ms",
        quality=f"{len(trends)} trends; p99 {reads.p99:.4f} ms",
        yardstick=Yardstick("np.argpartition of the scores", sorts.p50),
        target=at_most(TREND_MS_MAX),
    )


def _measure_devices(plan: Plan) -> Row:
    """Mean of the best of some rounds: a single look-up is too short for a clock."""
    rng = plan.rng("devices")
    ids = [device_id.tobytes() for device_id in rng.integers(0, 256, (plan.devices, 16), dtype=np.uint8)]
    devices = Devices(plan.devices, seed=plan.seed)
    rows = {device_id: devices.add(device_id) for device_id in tracked(ids, "adding devices")}
    asked = [ids[number] for number in rng.integers(0, len(ids), LOOKUPS)]
    found, known = Timings(), Timings()
    for _ in range(ROUNDS):
        answers = found.measure(list, map(devices.find, asked))
        expected = known.measure(list, map(rows.__getitem__, asked))
    assert answers == expected
    return Row(
        name=f"device look-up, {plan.devices:,} devices: mean",
        value=min(found.ms) / LOOKUPS * 1e3,
        unit="us",
        quality=f"all {LOOKUPS:,} found",
        yardstick=Yardstick("dict of Python objects", min(known.ms) / LOOKUPS * 1e3),
        target=at_most(DEVICE_US_MAX),
    )

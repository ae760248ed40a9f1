"""How well does a shard answer when it was restored, and when as well as before?

A shard that grew sync by sync is put back into empty ones, in process: from its pieces with their places in the
index, as from a snapshot, and from the changes alone, as from the database. It is asked at once and after upkeep, by
devices that hold one pattern, which is then the question; theirs is not served, so it is in nobody's answer.
"""

import time
from typing import NamedTuple

import numpy as np

from bench import workload
from bench.loaded import Loaded, load_shard
from bench.peers.exact import ExactScan
from bench.plan import Answers, Note, Plan, Timings, tracked
from bench.report import Row, Yardstick, at_least
from constellation import limits
from constellation.model import Codes, Ids
from constellation.shard import Shard

K = workload.EVERYTHING.similar
RECALL_MIN = 0.9
UNSERVED_RATE = 0.75
"""Good enough to be stored, not to be served."""


class Questions(NamedTuple):
    """Devices that ask, and the ids of the k patterns that each should get."""

    device_ids: list[bytes]
    truths: list[set[bytes]]


def measure(plan: Plan) -> Answers:
    loaded = load_shard(plan)
    library = workload.load_library(plan.patterns, plan.seed)
    rng = plan.rng("recovery")
    ids, codes = _served(loaded.shard)
    exact = ExactScan(codes)
    asked = {}
    for kind, part in (("A", library.known), ("B", library.unseen)):
        queries = part.patterns(part.draw(plan.queries, rng), rng)
        truths = [{pattern_id.tobytes() for pattern_id in ids[rows]} for rows in exact.top(queries, K)]
        asked[kind] = Questions(_enter(loaded, queries, rng), truths)
    before = _recalls(loaded.shard, asked)
    lists = loaded.shard.stats(loaded.now).index_lists
    yield from _rows("before the stop", before, before, f"{lists:,} lists")
    for way, with_places in (("from the snapshot", True), ("from the database", False)):
        shard, restored_s = _restored(plan, loaded.shard, with_places)
        yield from _rows(f"{way}, at once", _recalls(shard, asked), before, f"restored in {restored_s:.1f} s")
        began_at = time.perf_counter()
        while shard.maintain():
            pass
        upkeep = f"after {time.perf_counter() - began_at:.1f} s of upkeep"
        lists = shard.stats(loaded.now).index_lists
        yield from _rows(f"{way}, upkeep done", _recalls(shard, asked), before, f"{upkeep}, {lists:,} lists")
    yield Note("A: new patterns of films that stored ones are made of; B: of films that no stored pattern is made of")
    yield Note("upkeep is all that falls due, grouping by the codebook included; a server does it between requests")


def _served(shard: Shard) -> tuple[Ids, Codes]:
    """Ids (n, 16) and codes (n, 384) of all patterns: every one of the load is served."""
    batches = [piece.change.patterns.patterns for piece in shard.pieces(limits.SNAPSHOT_PATTERNS_PER_TURN)]
    return np.concatenate([batch.ids for batch in batches]), np.concatenate([batch.codes for batch in batches])


def _enter(loaded: Loaded, queries: Codes, rng: np.random.Generator) -> list[bytes]:
    """A device for each of the questions (m, 384)."""
    device_ids, pattern_ids = workload.make_ids(len(queries), rng), workload.make_ids(len(queries), rng)
    for i, device_id in enumerate(device_ids):
        batch = workload.make_batch(pattern_ids[i : i + 1], queries[i : i + 1], rng)
        batch.rates[:] = UNSERVED_RATE
        request = workload.make_request(device_id.tobytes(), batch, workload.no_updates())
        loaded.shard.apply(request, loaded.now)
    return [device_id.tobytes() for device_id in device_ids]


def _restored(plan: Plan, kept: Shard, with_places: bool) -> tuple[Shard, float]:
    """A new shard that holds what the kept one does, and the seconds that it took to take it in."""
    shard, restoring = Shard(workload.shard_settings(plan.patterns)), Timings()
    if with_places:
        restoring.measure(shard.expect, kept.layout())
    for change, places in tracked(kept.pieces(limits.SNAPSHOT_PATTERNS_PER_TURN), "restoring"):
        restoring.measure(shard.restore, change, places if with_places else b"")
    restoring.measure(list, shard.restored())
    return shard, sum(restoring.ms) / 1e3


def _recalls(shard: Shard, asked: dict[str, Questions]) -> dict[str, float]:
    return {kind: _recall(shard, questions) for kind, questions in asked.items()}


def _recall(shard: Shard, questions: Questions) -> float:
    """The share of the true patterns that is in the answers."""
    found = 0
    for device_id, truth in zip(*questions, strict=True):
        similar = shard.answer(device_id, workload.EVERYTHING).similar
        found += len(truth & {pattern_id.tobytes() for pattern_id in similar.ids})
    return found / sum(map(len, questions.truths))


def _rows(state: str, recalls: dict[str, float], before: dict[str, float], quality: str) -> Answers:
    for kind, recall in recalls.items():
        yield Row(
            name=f"{state}: recall@{K} {kind}",
            value=recall,
            unit="",
            quality=quality,
            yardstick=Yardstick("before the stop", before[kind]),
            target=at_least(RECALL_MIN),
            gate=at_least(RECALL_MIN),
        )

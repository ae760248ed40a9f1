"""The round as its definition, in plain Python and NumPy: sums as unbounded integers, dicts, sorting. Shares no code
with the merge."""

import math
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from constellation.federation import RoundTerms
from constellation.rounds import Partial


class Prototype(NamedTuple):
    id: bytes
    code: list[int]
    rate: np.float32
    samples: int
    context: tuple[Any, ...]
    quality: np.float32
    sources: int
    devices: int


class Trending(NamedTuple):
    item: str
    score: float
    week: dict[int, int]
    """Hour -> samples."""


def prototypes(partials: Sequence[Partial], terms: RoundTerms) -> dict[int, Prototype]:
    totals: defaultdict[int, Counter[Any]] = defaultdict(Counter)
    words: Counter[tuple[int, int, str]] = Counter()
    word_sources: Counter[tuple[int, int, str]] = Counter()
    for given in partials:
        for i, bucket in enumerate(given.buckets.numbers.tolist()):
            for name in ("weights", "samples", "devices"):
                totals[bucket][name] += int(getattr(given.buckets, name)[i])
            totals[bucket]["sources"] += 1
            totals[bucket].update(dict(enumerate(given.buckets.sums[i].tolist())))
        for i, string in enumerate(given.contexts.string_of.tolist()):
            place = int(given.contexts.buckets[i]), int(given.contexts.places[i]), given.contexts.strings[string]
            words[place] += int(given.contexts.counts[i])
            word_sources[place] += 1
    shards = len(terms.shards)
    told = [(-count, place) for place, count in words.items() if enough(word_sources[place], count, shards, terms)]
    return {
        bucket: _prototype(bucket, of, [place for _, place in sorted(told)], terms)
        for bucket, of in sorted(totals.items())
        if enough(of["sources"], of["devices"], shards, terms) and any(of[i] for i in range(384))
    }


def trending(partials: Sequence[Partial], shards: int, terms: RoundTerms) -> list[Trending]:
    weeks: defaultdict[str, Counter[int]] = defaultdict(Counter)
    sources: Counter[str] = Counter()
    devices: Counter[str] = Counter()
    now = terms.at // 3_600
    for given in partials:
        for column, item in enumerate(given.trends.items):
            own = {
                hour: int(given.trends.counts[hour % 168, column]) for hour in range(given.hour - 167, given.hour + 1)
            }
            own = {hour: count for hour, count in own.items() if count and now - 168 < hour <= now}
            weeks[item].update(own)
            devices[item] += int(given.trends.devices[column]) if own else 0
            sources[item] += bool(own)
    scores = {
        item: math.fsum(count * 0.95 ** (now - hour) for hour, count in week.items()) for item, week in weeks.items()
    }
    kept = [
        item
        for item, week in weeks.items()
        if week and enough(sources[item], max(devices[item], math.ceil(max(week.values()) / 200)), shards, terms)
    ]
    best = sorted(kept, key=lambda item: (-scores[item], item))[: terms.trends_max]
    return [Trending(item, scores[item] / scores[best[0]], dict(weeks[item])) for item in best]


def enough(sources: int, devices: int, shards: int, terms: RoundTerms) -> bool:
    if shards < terms.min_source_count:
        return sources == shards and devices >= max(terms.min_devices, terms.min_source_count)
    return sources >= terms.min_source_count and devices >= terms.min_devices


def _prototype(bucket: int, of: Counter[Any], ranked: list[tuple[int, int, str]], terms: RoundTerms) -> Prototype:
    sums = [of[i] for i in range(384)]
    rounded = np.array(sums, np.float64).astype(np.float32).astype(np.float64)
    best = [[string for b, p, string in ranked if (b, p) == (bucket, place)] for place in range(4)]
    return Prototype(
        id=uuid.uuid5(uuid.UUID("5f0c7a52-9d0e-4c64-8a3b-1c1f3a0b7de4"), f"{terms.codebook_version}/{bucket}").bytes,
        code=np.rint(rounded * (127 / np.abs(rounded).max())).astype(int).tolist(),
        rate=np.float32(of["weights"] / of["samples"]),
        samples=min(max(of["samples"] // 256, 1), 1_000_000),
        context=(*("".join(strings[:1]) for strings in best[:3]), tuple(best[3][:8])),
        quality=np.float32(min(1, math.sqrt(sum(x * x for x in sums)) / (16_384 * of["weights"]))),
        sources=of["sources"],
        devices=of["devices"],
    )

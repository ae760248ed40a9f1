"""Devices with patterns, and the partials of shards that hold them, made as a shard makes them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from constellation.federation import RoundTerms
from constellation.limits import WEIGHT_COUNT_CAP
from constellation.model import DIM, Codes
from constellation.rounds import BOUNDS, BucketSums, ContextCounts, Partial, TrendCounts
from kernels.codes import inverse_norms, requantise
from kernels.contributions import contribute, empty_totals
from kernels.trends import HOURS

BUCKETS = 5
HOUR = 489_000
REGIONS = ("eu", "us")
WORDS = ("morning", "evening", "", "drama", "horror")
TITLES = ("film:1", "film:2", "film:3", "genre:drama")


class Device(NamedTuple):
    """A household's p patterns: buckets (p,) int32, codes (p, 384), rates (p,) float32, counts (p,) uint32; words, the
    four places of each context; views of (title, hour, samples)."""

    buckets: npt.NDArray[np.int32]
    codes: Codes
    rates: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint32]
    words: list[list[str]]
    views: list[tuple[str, int, int]]


def draw_device(rng: np.random.Generator) -> Device:
    n = int(rng.integers(1, 5))
    return Device(
        buckets=rng.integers(0, BUCKETS, n, dtype=np.int32),
        codes=requantise(rng.integers(-127, 128, (n, DIM)).astype(np.int8)),
        rates=rng.uniform(0.7, 1, n).astype(np.float32),
        counts=rng.choice(np.array([1, 40, 999, 5_000], np.uint32), n),
        words=rng.choice(WORDS, (n, 4)).tolist(),
        views=[
            (str(rng.choice(TITLES)), HOUR - int(rng.integers(0, HOURS)), int(rng.integers(1, 201)))
            for _ in range(int(rng.integers(0, 4)))
        ],
    )


def shard_name(number: int) -> str:
    return f"shard-{number}"


def terms(shards: int, **more: Any) -> RoundTerms:
    """A round of shards 0..shards-1, all in one region."""
    names = {shard_name(number): REGIONS[0] for number in range(shards)}
    of = RoundTerms(round=7, at=HOUR * 3_600, map_epoch=2, codebook_version=3, buckets=BUCKETS, shards=names)
    return msgspec.structs.replace(of, **more)


def partial(number: int, devices: Sequence[Device], region: str = REGIONS[0]) -> Partial:
    """What shard `number` tells of its devices."""
    totals = empty_totals(BUCKETS, DIM)
    words: Counter[tuple[int, int, str]] = Counter()
    week = np.zeros((HOURS, len(TITLES)), np.uint32)
    for device in devices:
        n = len(device.buckets)
        ends, rows = np.array([0, n]), np.arange(n, dtype=np.int32)
        columns = (device.buckets, device.codes, inverse_norms(device.codes), device.rates, device.counts)
        contribute(totals, ends, rows, *columns, WEIGHT_COUNT_CAP, BOUNDS["patterns"].samples, 1)
        buckets = device.buckets.tolist()
        words.update(
            {(b, place, w) for b, own in zip(buckets, device.words, strict=True) for place, w in enumerate(own)}
        )
        for title, hour, samples in device.views:
            week[hour % HOURS, TITLES.index(title)] += samples
    views = [Counter({title for title, _, _ in device.views}) for device in devices]
    viewers = [sum(own[title] for own in views) for title in TITLES]
    used = np.flatnonzero(totals.devices)
    watched = np.flatnonzero(week.any(axis=0))
    return Partial(
        shard_id=shard_name(number),
        region=region,
        round=7,
        map_epoch=2,
        codebook_version=3,
        hour=HOUR,
        buckets=BucketSums(used.astype(np.int32), **{name: of[used] for name, of in totals._asdict().items()}),
        contexts=context_counts(words),
        trends=TrendCounts([TITLES[i] for i in watched], np.array(viewers, np.int64)[watched], week[:, watched]),
        devices=len(devices),
    )


def context_counts(words: dict[tuple[int, int, str], int]) -> ContextCounts:
    strings = sorted({word for _, _, word in words}, reverse=True)
    return ContextCounts(
        strings,
        np.array([bucket for bucket, _, _ in words], np.int32),
        np.array([place for _, place, _ in words], np.uint8),
        np.array([strings.index(word) for _, _, word in words], np.uint32),
        np.array(list(words.values()), np.int64),
    )

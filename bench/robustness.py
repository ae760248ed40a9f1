"""How far do devices that collude move a prototype, and what a region watches?

A bucket of honest devices, each with a pattern of one film, and attackers that all say the same of another film, as
heavily as a device may: the angle between the prototype with and without them, by the geometric median of keyed groups
and by the plain mean. Then titles that nobody watches, pushed by a share of a region's devices: how many of its best 50
they become in a robust round, in a plain one, and in one without the cap on what a device gives an hour.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench import workload
from bench.crowd import DEVICES as SHARD_DEVICES
from bench.crowd import SAMPLES_A_DEVICE_HOUR, Crowd, zipf
from bench.plan import Answers, Note, Plan
from bench.report import Row, Yardstick, at_most
from bench.workload import Part
from constellation.config import Settings
from constellation.federation.robust import geometric_medians
from constellation.limits import (
    SAMPLE_COUNT_MAX,
    TREND_DECAY_PER_HOUR,
    TREND_SAMPLES_PER_DEVICE_HOUR_MAX,
    TRENDING_MAX,
    WEIGHT_COUNT_CAP,
)
from constellation.model import DIM, ID_BYTES, Codes
from constellation.rounds import BOUNDS, GROUPS, GroupMeans, Sharing, encode
from constellation.shard.groups import group_of
from kernels.codes import inverse_norms
from kernels.contributions import Totals, contribute, empty_totals

SHARES = (0.001, 0.01, 0.05, 0.1)
DEVICES = (30, 100, 1_000, 10_000)
"""Honest ones in a bucket."""
TRIALS = 12
GATED_DEVICES, GATED_SHARE, DEGREES_MAX = 100, 0.01, 5.0
BUCKETS, PARTIAL_MB_MAX = 1_024, 10.0
REGION_DEVICES, TITLES, ATTACK_HOURS, HONEST_HOURS = 1_000_000, 10_000, 24, 168
PATTERNS_A_DEVICE_MAX = Settings().max_patterns_per_device

Vector = npt.NDArray[np.float64]
Mean = Callable[[Totals], Vector]


class Crowded(NamedTuple):
    """Devices with a pattern each: codes (n, 384), rates and counts (n,), and the group (n,) of each."""

    codes: Codes
    rates: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint32]
    groups: npt.NDArray[np.int32]

    def totals(self, stop: int, sharing: Sharing) -> Totals:
        """By group, of the first devices."""
        totals = empty_totals(GROUPS, DIM)
        starts, rows = np.arange(stop + 1), np.arange(stop, dtype=np.int32)
        columns = self.groups, self.codes, inverse_norms(self.codes), self.rates, self.counts
        contribute(totals, starts, rows, *columns, WEIGHT_COUNT_CAP, BOUNDS[sharing].samples, 1)
        return totals


def measure(plan: Plan) -> Answers:
    rng = plan.rng("robustness")
    part = workload.load_library(plan.patterns, plan.seed).known
    for devices in DEVICES:
        yield from (_prototype(part, devices, share, rng) for share in SHARES if devices * share >= 1)
    yield from (_trends(share, rng) for share in SHARES)
    yield _wire(Crowd(part, 1, min(BUCKETS, plan.patterns // 20), min(TITLES, plan.content_items), rng))
    yield Note("an attack on a prototype: a success rate of 1 and 1,000 samples each, all with one embedding")
    yield Note(f"one on a region: {TRENDING_MAX} titles that nobody watches, pushed for {ATTACK_HOURS} hours")


def _prototype(part: Part, devices: int, share: float, rng: np.random.Generator) -> Row:
    attackers = round(devices * share)
    trials = [_draw(part, devices, attackers, rng) for _ in range(TRIALS)]
    moved = {
        (sharing, mean): float(np.mean([_moved(trial, devices, sharing, mean) for trial in trials]))
        for sharing in BOUNDS
        for mean in (_median, _mean)
    }
    gate = at_most(DEGREES_MAX) if (devices, share) == (GATED_DEVICES, GATED_SHARE) else None
    hit = np.mean([len(np.unique(trial.groups[devices:])) for trial in trials])
    return Row(
        name=f"a prototype of {devices:,} devices, {attackers:,} against it ({share:.1%})",
        value=moved["patterns", _median],
        unit="degrees",
        quality=f"attackers in {hit:.1f} of {GROUPS} groups; within the bounds of aggregates "
        f"{moved['aggregates', _median]:.1f}, plain {moved['aggregates', _mean]:.1f}",
        yardstick=Yardstick("the plain mean", moved["patterns", _mean]),
        target=gate,
        gate=gate,
    )


def _draw(part: Part, devices: int, attackers: int, rng: np.random.Generator) -> Crowded:
    """The honest ones first."""
    honest, other = part.draw(2, rng)
    codes = part.patterns(np.repeat(np.array([honest, other], np.int32), (devices, 1)), rng)
    codes = np.concatenate((codes[:-1], np.repeat(codes[-1:], attackers, axis=0)))
    rates, counts = workload.draw_rates(devices, rng), workload.draw_counts(devices, rng)
    ids = rng.integers(0, 256, (devices + attackers, ID_BYTES), dtype=np.uint8)
    return Crowded(
        codes,
        np.concatenate((rates, np.ones(attackers, np.float32))).astype(np.float32),
        np.concatenate((counts, np.full(attackers, SAMPLE_COUNT_MAX, np.uint32))).astype(np.uint32),
        group_of(ids, rng.bytes(16)),
    )


def _moved(trial: Crowded, honest: int, sharing: Sharing, mean: Mean) -> float:
    """Degrees between the prototype of all and that of the honest ones alone."""
    before, after = mean(trial.totals(honest, sharing)), mean(trial.totals(len(trial.codes), sharing))
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _mean(groups: Totals) -> Vector:
    mean: Vector = groups.sums.sum(axis=0).astype(np.float64)
    return mean


def _median(groups: Totals) -> Vector:
    points = groups.sums / np.maximum(groups.weights, 1)[:, None]
    median: Vector = geometric_medians(points[None], groups.devices[None])[0]
    return median


def _trends(share: float, rng: np.random.Generator) -> Row:
    """Expected samples, decayed, that attackers deal evenly to the titles that they push; and expected devices, decayed
    since they watched last: each attacker is one of them for as many titles as it has patterns."""
    popularity = rng.permutation(zipf(TITLES))
    rates = popularity * SAMPLES_A_DEVICE_HOUR
    samples = rates * REGION_DEVICES * _decayed_hours(HONEST_HOURS)
    attackers = REGION_DEVICES * share
    pushed = attackers * _decayed_hours(ATTACK_HOURS)
    return Row(
        name=f"best {TRENDING_MAX} of a region, {share:.1%} of its devices against it",
        value=_taken(_watching(rates) * REGION_DEVICES, attackers * PATTERNS_A_DEVICE_MAX, attackers),
        unit="titles",
        quality=f"theirs; without a cap on samples {_taken(samples, pushed * SAMPLE_COUNT_MAX)}",
        yardstick=Yardstick("plain", _taken(samples, pushed * TREND_SAMPLES_PER_DEVICE_HOUR_MAX)),
    )


def _watching(rates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Expected decayed count of a device that watches n titles so often an hour (n,): each in its last hour."""
    hours = np.arange(HONEST_HOURS)[:, None]
    last = -np.expm1(-rates) * np.exp(-rates * hours)
    decayed: npt.NDArray[np.float64] = (last * TREND_DECAY_PER_HOUR**hours).sum(axis=0)
    return decayed


def _wire(crowd: Crowd) -> Row:
    """Of a shard whose devices are dealt evenly into groups."""
    partial = crowd.partial(next(iter(crowd.terms.shards)))
    plain_bytes = len(encode(partial))
    groups = [crowd.sums(partial.buckets.devices // GROUPS) for _ in range(GROUPS)]
    sums = np.stack([group.sums for group in groups], axis=1).reshape(-1, DIM)
    weights = np.stack([group.weights for group in groups], axis=1).ravel()
    devices = np.stack([group.devices for group in groups], axis=1).ravel()
    cells = np.flatnonzero(weights)
    means = np.rint(sums[cells] / weights[cells, None]).astype(np.int16)
    partial.groups = GroupMeans(cells.astype(np.int32), means, weights[cells], devices[cells])
    return Row(
        name="a shard's partial with groups",
        value=len(encode(partial)) / 1e6,
        unit="MB",
        quality=f"{SHARD_DEVICES:,} devices, {crowd.terms.buckets:,} buckets, {GROUPS} groups in each",
        yardstick=Yardstick("without", plain_bytes / 1e6),
        target=at_most(PARTIAL_MB_MAX),
        gate=at_most(PARTIAL_MB_MAX),
    )


def _decayed_hours(hours: int) -> float:
    return float((TREND_DECAY_PER_HOUR ** np.arange(hours)).sum())


def _taken(honest: npt.NDArray[np.float64], pushed: float, each_max: float = np.inf) -> int:
    """How many of the best titles are those of attackers who deal the score that they push evenly to as many as is best
    for them, to each so much at most."""
    best = np.sort(honest)[::-1][:TRENDING_MAX]
    titles = np.arange(1, TRENDING_MAX + 1)
    above = np.searchsorted(-best, -np.minimum(pushed / titles, each_max), side="right")
    return int(np.minimum(titles, TRENDING_MAX - above).max())

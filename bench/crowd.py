"""Shards of millions of devices, drawn as what they would tell a round: nobody is made, only counted.

Every bucket has a few patterns made of real films. How many devices of a shard hold which of them is drawn (each device
one pattern a bucket), and the sums follow exactly. So a partial costs the same for any number of devices, and the true
weighted mean of all patterns is known.
"""

import numpy as np
import numpy.typing as npt

from bench import workload
from bench.workload import Part
from constellation.federation import RoundTerms
from constellation.limits import WEIGHT_COUNT_CAP
from constellation.model import DIM
from constellation.rounds import BucketSums, ContextCounts, Partial, TrendCounts
from kernels.codes import inverse_norms
from kernels.sums import UNIT, WEIGHT_SCALE
from kernels.trends import HOURS

DEVICES = 4_000_000
"""Of one shard."""
BUCKETS_A_DEVICE = 3
PATTERNS_A_BUCKET = 8
SAMPLES_A_DEVICE_HOUR = 0.2
REGIONS = ("ap", "eu", "sa", "us")
WORDS = (
    ("night", "morning", "afternoon", "evening"),
    ("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
    ("movie", "series", "news", "sport"),
    tuple(f"genre-{number}" for number in range(30)),
)
"""Those of each place of a context."""


class Crowd:
    """The devices of all shards. Draws one shard after the other."""

    def __init__(self, part: Part, shards: int, buckets: int, titles: int, rng: np.random.Generator) -> None:
        self._rng = rng
        films = np.repeat(rng.permutation(len(part.vectors))[:buckets].astype(np.int32), PATTERNS_A_BUCKET)
        shape = (len(films) // PATTERNS_A_BUCKET, PATTERNS_A_BUCKET)
        codes = part.patterns(films, rng)
        scales = inverse_norms(codes).astype(np.float64)[:, None]
        self._units = (codes * scales).reshape(*shape, DIM)
        self._fixed = np.rint(codes * (scales * UNIT)).astype(np.int64).reshape(*shape, DIM)
        self._rates = workload.draw_rates(len(films), rng).astype(np.float64).reshape(shape)
        self._counts = (
            np.minimum(workload.draw_counts(len(films), rng), WEIGHT_COUNT_CAP).astype(np.int64).reshape(shape)
        )
        self._held = np.zeros(shape, np.int64)
        self._popularity = zipf(shape[0])
        self._word_shares = [rng.dirichlet(np.ones(len(words)), shape[0]) for words in WORDS]
        self._titles = [f"title:{number}" for number in range(titles)]
        by_hour = 1 + np.sin(np.arange(HOURS) * (2 * np.pi / 24))
        self._views = np.outer(by_hour, rng.permutation(zipf(titles))) * (DEVICES * SAMPLES_A_DEVICE_HOUR)
        self.terms = RoundTerms(
            round=1,
            at=workload.START_S,
            map_epoch=1,
            codebook_version=1,
            buckets=shape[0],
            shards={f"shard-{number}": REGIONS[number % len(REGIONS)] for number in range(shards)},
            min_devices=20,
        )

    def partial(self, shard_id: str) -> Partial:
        """What a shard whose devices are drawn now tells; in every bucket is at least one."""
        terms, rng = self.terms, self._rng
        devices = 1 + rng.multinomial(BUCKETS_A_DEVICE * DEVICES, self._popularity)
        return Partial(
            shard_id=shard_id,
            region=terms.shards[shard_id],
            round=terms.round,
            map_epoch=terms.map_epoch,
            codebook_version=terms.codebook_version,
            hour=terms.hour,
            buckets=self.sums(devices),
            contexts=self._contexts(devices),
            trends=TrendCounts(
                self._titles, self._views.sum(axis=0).astype(np.int64), rng.poisson(self._views).astype(np.uint32)
            ),
            devices=DEVICES,
        )

    def sums(self, devices: npt.NDArray[np.int64]) -> BucketSums:
        """Of so many devices (K,) in each bucket; which pattern of it each has is drawn."""
        held = self._rng.multinomial(devices, np.full(PATTERNS_A_BUCKET, 1 / PATTERNS_A_BUCKET))
        self._held += held
        weights = held * np.rint(self._rates * self._counts * WEIGHT_SCALE).astype(np.int64)
        return BucketSums(
            numbers=np.arange(len(devices), dtype=np.int32),
            sums=(weights[:, None] @ self._fixed)[:, 0],
            weights=weights.sum(axis=1),
            samples=(held * self._counts * WEIGHT_SCALE).sum(axis=1),
            patterns=devices,
            devices=devices,
        )

    def true_means(self) -> npt.NDArray[np.float64]:
        """(K, 384) quality-weighted sums of all patterns drawn so far, in floating point."""
        weights = self._held * self._rates * self._counts
        means: npt.NDArray[np.float64] = (weights[:, None] @ self._units)[:, 0]
        return means

    def _contexts(self, devices: npt.NDArray[np.int64]) -> ContextCounts:
        counts = np.hstack([self._rng.multinomial(devices, shares) for shares in self._word_shares])
        buckets, strings = np.nonzero(counts)
        places = np.repeat(np.arange(len(WORDS)), [len(words) for words in WORDS])
        return ContextCounts(
            strings=[word for words in WORDS for word in words],
            buckets=buckets.astype(np.int32),
            places=places[strings].astype(np.uint8),
            string_of=strings.astype(np.uint32),
            counts=counts[buckets, strings],
        )


def zipf(n: int) -> npt.NDArray[np.float64]:
    """(n,) shares that fall as 1 / (rank + 10)."""
    falling = 1 / (10 + np.arange(n))
    shares: npt.NDArray[np.float64] = falling / falling.sum()
    return shares

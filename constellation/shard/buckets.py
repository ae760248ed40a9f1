"""In which bucket of a codebook each pattern is, and what the devices give to each bucket: the shard's part of a round.

The sums are kept with every change, in integers: after any history they are, bit for bit, what a recomputation gives
(`kernels.contributions`). Under a new codebook every pattern finds its bucket again, some devices a step, while the
sums under the one before go on. Part of `shard.shard`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.codebook import Codebook
from constellation.limits import PATTERNS_PER_DEVICE_MAX, WEIGHT_COUNT_CAP
from constellation.model import DIM, Rows
from constellation.rounds import BucketSums, ContributionBounds
from constellation.shard import memory
from constellation.shard.devices import Devices
from constellation.shard.patterns import Patterns
from kernels import chains
from kernels.contributions import contribute, empty_totals, heaviest

BYTES_PER_PATTERN = 4
"""Of one codebook."""
PATTERNS_PER_STEP = 64
"""Of one step of `settle`, about: 0.5 ms for 1,024 centroids."""


class Backing(NamedTuple):
    """`rounds.BucketSums` without its embeddings."""

    numbers: Rows
    weights: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]
    patterns: npt.NDArray[np.int64]
    devices: npt.NDArray[np.int64]


class Buckets:
    """The buckets of one codebook and their sums. No device counts until `settle` came to it."""

    def __init__(self, codebook: Codebook, devices: Devices, patterns: Patterns, bounds: ContributionBounds) -> None:
        self.codebook, self.bounds = codebook, bounds
        self._devices, self._patterns = devices, patterns
        self._at: Rows = memory.column(len(patterns.codes), np.int32)
        """Per pattern 1 + the number of its bucket, or 0 where it is not known."""
        patterns.derived.append(self._at)
        self._totals = empty_totals(1 + len(codebook), DIM)
        self._reached = 0
        """The rows of devices below this one count."""

    @property
    def bytes_resident(self) -> int:
        """Of the sums, which do not grow with the patterns, and of the column."""
        return self._patterns.rows.high * BYTES_PER_PATTERN + sums_bytes(len(self.codebook))

    @property
    def complete(self) -> bool:
        """Does every device count?"""
        return self._reached == self._devices.capacity

    def leave(self, devices: Rows) -> None:
        """Take out what devices (n,) give; their patterns are about to change."""
        self._count(devices, sign=-1)

    def enter(self, devices: Rows) -> None:
        """Put in what devices (n,) give; to be called after each `leave`, and for devices that are new."""
        self._count(devices, sign=1)

    def settle(self) -> bool:
        """Let the next devices count, one step; True if more are waiting."""
        if self.complete:
            return False
        start, high = self._reached, self._devices.rows.high
        self._reached = min(self._devices.run(start, PATTERNS_PER_STEP), high)
        self._count(np.arange(start, self._reached, dtype=np.int32), sign=1)
        if self._reached == high:
            self._reached = self._devices.capacity
        return not self.complete

    def close(self) -> None:
        """Give up the codebook: its buckets are known no longer."""
        self._patterns.derived = [column for column in self._patterns.derived if column is not self._at]

    def of(self, rows: Rows) -> Rows:
        """Bucket numbers (n,) int32 of patterns, -1 where they are not known."""
        return self._at[rows] - 1

    def counted(self, devices: Rows) -> tuple[npt.NDArray[np.int64], Rows]:
        """The patterns of devices (n,) that count: starts (n + 1,) and rows (m,) as of `chains.rows_of_many`."""
        patterns = self._patterns
        starts, rows = chains.rows_of_many(self._devices.first, patterns.following, devices)
        self.codebook.place(self._at, rows, patterns.codes)
        if self.bounds.buckets >= PATTERNS_PER_DEVICE_MAX:
            return starts, rows
        of_rows = self._at, patterns.rates, patterns.counts
        chosen: tuple[npt.NDArray[np.int64], Rows] = heaviest(
            starts, rows, *of_rows, WEIGHT_COUNT_CAP, self.bounds.buckets
        )
        return chosen

    def sums(self) -> BucketSums:
        """What every bucket holds, as it is now; about 1 ms for 1,024 buckets."""
        used = np.flatnonzero(self._totals.patterns)
        return BucketSums((used - 1).astype(np.int32), *(column[used] for column in self._totals))

    def backing(self) -> Backing:
        """The same without the sums of embeddings, which are nearly all of it: 0.05 ms."""
        totals = self._totals
        used = np.flatnonzero(totals.patterns)
        columns = (totals.weights, totals.samples, totals.patterns, totals.devices)
        return Backing((used - 1).astype(np.int32), *(column[used] for column in columns))

    def _count(self, devices: Rows, sign: int) -> None:
        """Count the patterns of those devices (n,) that are reached, once (1) or no longer (-1)."""
        patterns = self._patterns
        starts, rows = self.counted(devices if self.complete else devices[devices < self._reached])
        if not len(rows):
            return
        columns = self._at, patterns.codes, patterns.inverse, patterns.rates, patterns.counts
        contribute(self._totals, starts, rows, *columns, WEIGHT_COUNT_CAP, self.bounds.samples, sign)


def sums_bytes(buckets: int) -> int:
    """What the sums of so many buckets take once each has a pattern."""
    return 8 * buckets * (DIM + 4)

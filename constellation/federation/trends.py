"""What a region watches, over its shards: hourly counts are summed as integers, and decayed only then."""

import heapq

import numpy as np
import numpy.typing as npt

from constellation.federation.noise import DEVICE_SCORE_MAX, Noising, expected_sources
from constellation.federation.terms import RoundTerms
from constellation.limits import TREND_DECAY_PER_HOUR, TREND_SAMPLES_PER_DEVICE_HOUR_MAX
from constellation.rounds import RegionTrends, TrendCounts
from kernels.trends import HOURS, recompute_scores

Counts = npt.NDArray[np.int64]


class TrendTally:
    """Counts of n items in the week that ends with `hour`, laid out as in `kernels.trends`."""

    def __init__(self, hour: int) -> None:
        self._hour = hour
        self._numbers: dict[str, int] = {}
        self._counts = np.zeros((HOURS, 0), np.int64)
        self._sources = np.zeros(0, np.int64)
        self._devices = np.zeros(0, np.int64)

    def add(self, given: TrendCounts, hour: int) -> None:
        """Those of one more shard, whose week ends with `hour`. Hours outside the tally's own week are left out."""
        hours = hour - (hour - np.arange(HOURS)) % HOURS
        within = (hours > self._hour - HOURS) & (hours <= self._hour)
        counts = np.multiply(given.counts, within[:, None], dtype=np.int64)
        sources = np.minimum(counts.max(axis=0), 1)
        self._add(given.items, counts, sources, given.devices * sources)

    def add_region(self, other: "TrendTally") -> None:
        """All of a region, for the trends over all regions."""
        n = len(other._numbers)
        self._add(list(other._numbers), other._counts[:, :n], other._sources[:n], other._devices[:n])

    def add_noise(self, noising: Noising, shards: int) -> None:
        """Only decayed sums are left, as if they were counted in the last hour: one number to be noised, not a week."""
        scores = noising.trends(self._counts[:, : len(self._numbers)], self._hour)
        self._counts = np.zeros((HOURS, len(scores)), np.int64)
        self._counts[self._hour % HOURS] = scores
        self._devices = scores // DEVICE_SCORE_MAX
        self._sources = expected_sources(self._devices, shards)

    def top(self, region: str, shards: int, terms: RoundTerms) -> RegionTrends:
        """The best items that are backed by enough of that many shards; of equals the first by name.

        Devices that have no pattern about the item any more count too, as far as they are proven: one gives at most
        TREND_SAMPLES_PER_DEVICE_HOUR_MAX in an hour, so the fullest hour tells how many there are at least.
        """
        items = list(self._numbers)
        scores = np.zeros(len(self._sources))
        recompute_scores(self._counts, scores, 0, len(items), self._hour, TREND_DECAY_PER_HOUR)
        proven = -(-self._counts.max(axis=0) // TREND_SAMPLES_PER_DEVICE_HOUR_MAX)
        devices_min = np.maximum(self._devices, proven)
        backed = np.flatnonzero(terms.backed(self._sources, devices_min, shards)).tolist()
        best = heapq.nsmallest(terms.trends_max, backed, key=lambda item: (-scores[item], items[item]))
        highest = scores[best].max(initial=0)
        return RegionTrends(
            region=region,
            items=[items[item] for item in best],
            scores=(scores[best] / highest).astype(np.float32),
            counts=self._counts[:, best],
        )

    def _add(self, items: list[str], counts: Counts, sources: Counts, devices: Counts) -> None:
        columns = np.array([self._numbers.setdefault(item, len(self._numbers)) for item in items], np.int64)
        self._make_room()
        self._counts[:, columns] += counts
        self._sources[columns] += sources
        self._devices[columns] += devices

    def _make_room(self) -> None:
        more = len(self._numbers) - len(self._sources)
        if more > 0:
            more = max(more, len(self._sources))
            self._counts = np.pad(self._counts, ((0, 0), (0, more)))
            self._sources = np.pad(self._sources, (0, more))
            self._devices = np.pad(self._devices, (0, more))

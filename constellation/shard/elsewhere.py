"""What other shards counted, by the last round: it is added to own counts of this moment. Part of `shard.trends`."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.limits import TREND_DECAY_PER_HOUR
from constellation.rounds import RegionTrends, TrendCounts
from kernels.trends import HOURS, recompute_scores

Scores = npt.NDArray[np.float64]


class Elsewhere(NamedTuple):
    """Decayed samples, as of `hour`, of n items on the other shards of a region, or on all others."""

    hour: int
    items: list[str]
    scores: Scores

    def at(self, hour: int) -> Scores:
        """The same (n,) some hours later. What leaves the week before the last of it is too little to matter."""
        hours = max(0, hour - self.hour)
        return self.scores * (TREND_DECAY_PER_HOUR**hours if hours < HOURS else 0.0)


def elsewhere(merged: RegionTrends, hour: int, given: TrendCounts, given_hour: int) -> Elsewhere:
    """The merged counts of the week that ends with `hour`, without what this shard gave of the week to `given_hour`."""
    hours = given_hour - (given_hour - np.arange(HOURS)) % HOURS
    merged_too = (hours > hour - HOURS) & (hours <= hour)
    place_of = {item: place for place, item in enumerate(merged.items)}
    own = [(place_of[item], column) for column, item in enumerate(given.items) if item in place_of]
    places, columns = np.array(own, np.int64).reshape(-1, 2).T
    counts = merged.counts.copy()
    counts[:, places] -= given.counts[:, columns] * merged_too[:, None]
    scores = np.zeros(len(merged))
    recompute_scores(np.maximum(counts, 0), scores, 0, len(merged), hour, TREND_DECAY_PER_HOUR)
    return Elsewhere(hour, merged.items, scores)

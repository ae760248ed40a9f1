"""Which patterns of others a device gets: those most like each of its interests, or the best known ones.

Part of `shard.shard`; changes nothing.
"""

import numpy as np

from constellation.model import Rows
from constellation.shard.best_known import BestKnown
from constellation.shard.devices import Devices
from constellation.shard.interests import divide, find_interests
from constellation.shard.patterns import Patterns
from constellation.shard.similarity import SimilarityIndex
from kernels import chains
from kernels.scan import pairwise_cosine


class Asking:
    """The questions that a device's patterns ask the index."""

    def __init__(self, devices: Devices, patterns: Patterns, index: SimilarityIndex, best_known: BestKnown) -> None:
        self._devices, self._patterns = devices, patterns
        self._index, self._best_known = index, best_known

    def similar(self, device: int, k: int) -> Rows:
        """min(k, available) rows of other devices, most similar first; `device` is a row or -1.

        The results are split over the device's interests by weight. A device without patterns has nothing to be
        compared by and gets the best known patterns.
        """
        own = chains.rows_of(self._devices.first, self._patterns.following, device) if device >= 0 else None
        if own is None or not len(own):
            return self._best_known.top(k)
        medoids, shares = find_interests(
            pairwise_cosine(self._patterns.codes, self._patterns.inverse, own), self._patterns.weights(own)
        )
        medoids = own[medoids]
        found: dict[int, float] = {}
        for medoid, part in zip(medoids.tolist(), divide(k, shares), strict=True):
            self._ask(device, medoid, part, len(own), found)
        for medoid in medoids.tolist():
            if len(found) < k:  # two interests found the same patterns
                self._ask(device, medoid, k, len(own), found, until=k)
        if len(found) < k:  # there are few patterns at all: look at every one
            self._ask(device, int(medoids[0]), k, len(own), found, until=k, among=len(self._index))
        best_first = sorted(found, key=found.__getitem__, reverse=True)
        return np.array(best_first, np.int32)

    def _ask(
        self,
        device: int,
        medoid: int,
        k: int,
        own: int,
        found: dict[int, float],
        until: int | None = None,
        among: int | None = None,
    ) -> None:
        """Add to `found` the k rows of others most like the medoid, or as many as bring it to `until`."""
        rows, cosines = self._index.search(self._patterns.codes[medoid], k, spare=own, among=among)
        others = np.flatnonzero(self._patterns.devices[rows] != device)[:k]
        for row, cosine in zip(rows[others].tolist(), cosines[others].tolist(), strict=True):
            if until is not None and len(found) >= until:
                return
            found[row] = max(cosine, found.get(row, -1.0))

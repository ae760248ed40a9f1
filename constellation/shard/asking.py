"""Which patterns of others a device gets: those most like each of its interests, or the best known ones.

Part of `shard.shard`; changes nothing.
"""

from collections.abc import Iterator

import numpy as np

from constellation.model import Rows
from constellation.shard.interests import divide, find_interests
from constellation.shard.tables import Tables
from kernels import chains
from kernels.scan import pairwise_cosine


class Asking:
    """The questions that a device's patterns ask the index."""

    def __init__(self, tables: Tables) -> None:
        self._devices, self._patterns = tables.devices, tables.patterns
        self._index, self._best_known = tables.index, tables.best_known

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
            for row, cosine in self._others(device, medoid, part, len(own)):
                found[row] = max(cosine, found.get(row, -1.0))
        if len(found) < k:  # interests found the same patterns: the heaviest has k of its own, if there are so many
            for row, cosine in self._others(device, int(medoids[0]), k, len(own)):
                if len(found) < k:
                    found.setdefault(row, cosine)
        best_first = sorted(found, key=found.__getitem__, reverse=True)
        return np.array(best_first, np.int32)

    def _others(self, device: int, medoid: int, k: int, own: int) -> Iterator[tuple[int, float]]:
        """The k rows of other devices most like the medoid, with their cosines; `own` patterns are the device's."""
        rows, cosines = self._index.search(self._patterns.codes[medoid], k, spare=own)
        others = np.flatnonzero(self._patterns.devices[rows] != device)[:k]
        return zip(rows[others].tolist(), cosines[others].tolist(), strict=True)

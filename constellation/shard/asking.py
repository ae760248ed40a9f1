"""Which patterns of others, and which prototypes, a device gets: those most like each of its interests, or the best.

Part of `shard.shard`; changes nothing.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.config import Settings
from constellation.model import Rows
from constellation.shard.interests import Interest, Weights, divide, find_interests
from constellation.shard.similarity import Cosines, Vector
from constellation.shard.tables import Tables
from kernels import chains
from kernels.queries import mean_code
from kernels.scan import pairwise_cosine

_PROTOTYPE_SHARE = 5
"""One in so many results may be a prototype as long as patterns are not short: means lie nearer than their members."""


class Found(NamedTuple):
    """Rows (n,) of others and their cosines (n,) with the interest that found them, best first."""

    rows: Rows
    cosines: Cosines


class Asking:
    """The questions that a device's patterns ask the index."""

    def __init__(self, settings: Settings, tables: Tables) -> None:
        self._devices, self._patterns = tables.devices, tables.patterns
        self._index, self._best_known = tables.index, tables.best_known
        self._prototypes = tables.prototypes
        self._shares_patterns = settings.shares == "patterns"

    def similar(self, device: int, k: int) -> Rows:
        """min(k, available) rows of other devices and of prototypes, most similar first; `device` is a row or -1.

        The results are split over the device's interests by weight. A device without patterns has nothing to be
        compared by and gets the prototypes of most devices, then the best known patterns.
        """
        own = chains.rows_of(self._devices.first, self._patterns.following, device) if device >= 0 else None
        if own is None or not len(own):
            best = self._prototypes.best(k)
            return np.concatenate((best, self._best_known.top(k - len(best) if self._shares_patterns else 0)))
        weights = self._patterns.weights(own)
        interests = find_interests(pairwise_cosine(self._patterns.codes, self._patterns.inverse, own), weights)
        queries = [self._query(own, weights, interest) for interest in interests]
        parts = divide(k, [interest.share for interest in interests])
        found = _merge(*(self._others(device, q, part, len(own)) for q, part in zip(queries, parts, strict=True)))
        if len(found.rows) < k:
            # Interests found the same patterns: the heaviest has k of its own, if there are so many.
            more = self._others(device, queries[0], k, len(own))
            new = np.flatnonzero(~np.isin(more.rows, found.rows))[: k - len(found.rows)]
            found = _merge(found, Found(more.rows[new], more.cosines[new]))
        return found.rows

    def _query(self, own: Rows, weights: Weights, interest: Interest) -> Vector:
        """The code (384,) int8 of the weighted mean of an interest's patterns.

        The mean of near patterns is what they share; one of them, the medoid, would bring its own noise along
        (`bench.relevance`). It speaks for them where they cancel out or weigh nothing.
        """
        rows, members = own[interest.members], weights[interest.members]
        return mean_code(self._patterns.codes, self._patterns.inverse, rows, members)

    def _others(self, device: int, query: Vector, k: int, own: int) -> Found:
        """The k patterns of other devices and prototypes most like the query; `own` patterns are the device's."""
        rows, cosines = self._index.search(query, k if self._shares_patterns else 0, spare=own)
        others = np.flatnonzero(self._patterns.devices[rows] != device)[:k]
        of_devices = Found(rows[others], cosines[others])
        prototypes = self._prototypes.nearest(query, max(k // _PROTOTYPE_SHARE, k - len(others)))
        if not len(prototypes[0]):
            return of_devices
        both = _merge(of_devices, Found(*prototypes))
        return Found(both.rows[:k], both.cosines[:k])


def _merge(*answers: Found) -> Found:
    """All of them once, best first; of equal cosines the one that came earlier."""
    if len(answers) == 1:
        return answers[0]
    rows = np.concatenate([answer.rows for answer in answers])
    cosines = np.concatenate([answer.cosines for answer in answers])
    order: npt.NDArray[np.int64] = np.argsort(-cosines, kind="stable")
    _, first = np.unique(rows[order], return_index=True)
    order = order[np.sort(first)]
    return Found(rows[order], cosines[order])

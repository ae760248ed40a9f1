"""Which patterns of others, and which prototypes, a device gets: those most like each of its interests, or the best.

Part of `shard.shard`; changes nothing but what is remembered of the answer.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.config import Settings
from constellation.model import Rows
from constellation.shard.rankings import Ranking
from constellation.shard.similarity import Cosines
from constellation.shard.tables import Tables
from kernels.rankings import PROTOTYPE_SHARE, RESERVE, Asked


class Found(NamedTuple):
    """Rows (n,) of others and their cosines (n,) with the interest that found them, best first."""

    rows: Rows
    cosines: Cosines


class Lists(NamedTuple):
    """How many since the start, by how they were made for devices that have patterns."""

    renewed: int
    sought: int


class Asking:
    """The questions that a device's patterns ask the index."""

    def __init__(self, settings: Settings, tables: Tables) -> None:
        self._interests = tables.interests
        self._owners = tables.patterns.devices
        self._index, self._best_known = tables.index, tables.best_known
        self._prototypes, self._rankings = tables.prototypes, tables.rankings
        self._shares_patterns = settings.shares == "patterns"
        self._renewed = self._sought = 0

    @property
    def lists(self) -> Lists:
        return Lists(self._renewed, self._sought)

    def similar(self, device: int, k: int, place: int = 0) -> Rows:
        """min(k, available) rows of other devices and of prototypes; `device` is a row or -1, its cursor is at `place`.

        The results are split over the device's interests by weight. A device without patterns has nothing to be
        compared by and gets the prototypes of most devices, then the best known patterns. Nearest first, but for what
        was only brought up to date since the last answer.
        """
        renewed = self._rankings.renewed(place, device, k)
        if renewed is not None:
            self._renewed += 1
            return renewed
        asked, own = self._interests.ask(device, k) if device >= 0 else (None, 0)
        if asked is not None and own:
            self._sought += 1
            return self._found(place, asked, k, own)
        best = self._prototypes.best(k)
        return np.concatenate((best, self._best_known.top(k - len(best) if self._shares_patterns else 0)))

    def _found(self, place: int, asked: Asked, k: int, own: int) -> Rows:
        """As `similar`, by a search of the whole index; `own` patterns are the device's."""
        parts = asked.parts.tolist()
        rankings = [self._rank(asked, i, part, own) for i, part in enumerate(parts)]
        found = _merge(*(_best(ranking, part) for ranking, part in zip(rankings, parts, strict=True)))
        if len(found.rows) < k:
            # Interests found the same patterns: the heaviest has k of its own, if there are so many.
            rankings[0] = self._rank(asked, 0, k, own)
            more = _best(rankings[0], k)
            new = np.flatnonzero(~np.isin(more.rows, found.rows))[: k - len(found.rows)]
            found = _merge(found, Found(more.rows[new], more.cosines[new]))
        self._rankings.keep(place, asked, rankings)
        return found.rows

    def _rank(self, asked: Asked, i: int, k: int, own: int) -> Ranking:
        """The patterns of other devices and prototypes most like interest i, deeper than the k that are told."""
        query = asked.queries[i]
        rows, cosines = self._index.search(query, k if self._shares_patterns else 0, spare=own + RESERVE)
        others = np.flatnonzero(self._owners[rows] != asked.device)[: k + RESERVE]
        share = (k if i else int(asked.parts.sum())) // PROTOTYPE_SHARE
        return Ranking(rows[others], cosines[others], *self._prototypes.nearest(query, max(share, k - len(others))))


def _best(ranking: Ranking, k: int) -> Found:
    """The k best of it; few of them are prototypes as long as there are patterns."""
    patterns = Found(ranking.rows[:k], ranking.cosines[:k])
    allowed = max(k // PROTOTYPE_SHARE, k - len(patterns.rows))
    prototypes = Found(ranking.prototypes[:allowed], ranking.prototype_cosines[:allowed])
    if not len(prototypes.rows):
        return patterns
    both = _merge(patterns, prototypes)
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

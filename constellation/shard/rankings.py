"""What the interests of recently active devices found last, so that the next answer is brought up to date, not sought.

It costs what came and went since (`kernels.rankings`). A ranking is remembered for the very question that it answers:
own patterns that changed it, a round of prototypes, or other parameters make another. Nothing is written down.
Part of `shard.shard`; `asking` asks, places are those of `cursors`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from constellation.config import Settings
from constellation.limits import INTERESTS_MAX, SIMILAR_MAX
from constellation.model import Rows
from constellation.shard import memory
from constellation.shard.interests import Interests
from constellation.shard.patterns import Patterns
from constellation.shard.prototypes import PrototypeTable
from constellation.shard.similarity import Cosines, SimilarityIndex
from kernels import rankings as kernel
from kernels.rankings import PROTOTYPE_SHARE, RESERVE, Asked

_ROWS_MAX = (
    SIMILAR_MAX
    + INTERESTS_MAX * RESERVE
    + SIMILAR_MAX * (INTERESTS_MAX - 1) // INTERESTS_MAX
    + 2 * SIMILAR_MAX // PROTOTYPE_SHARE
)
"""The heaviest interest's ranking may have all that is told, the others have their parts, with their prototypes."""
_SIZES = 2 * INTERESTS_MAX
BYTES_PER_CURSOR = 4 * _ROWS_MAX + _SIZES + 8 + 8

_NOBODYS = 0


class Ranking(NamedTuple):
    """Rows (n,) of others and their cosines, prototypes (m,) and theirs, each best first."""

    rows: Rows
    cosines: Cosines
    prototypes: Rows
    prototype_cosines: Cosines


class Rankings:
    """Those of the devices that `cursors` has places for; place 0 is nobody's."""

    def __init__(
        self,
        settings: Settings,
        interests: Interests,
        patterns: Patterns,
        index: SimilarityIndex,
        prototypes: PrototypeTable,
    ) -> None:
        self._households = interests.households
        self._index, self._prototypes = index, prototypes
        self._patterns = kernel.Patterns(patterns.codes, patterns.inverse, patterns.devices, index.home)
        count = 1 + min(settings.max_cursors, settings.max_devices)
        self._rows = memory.column(count, np.int32, _ROWS_MAX)
        self._sizes = memory.column(count, np.uint8, _SIZES)
        self._questions = memory.column(count, np.uint64)
        self._since = memory.column(count, np.int64)
        self._remembered = kernel.Remembered(self._rows, self._sizes, self._questions, self._since)

    def renewed(self, place: int, device: int, k: int) -> Rows | None:
        """The k rows that a device is to have, its cursor at this place, if it asked the same before and not too much
        has changed since."""
        rows: Rows = kernel.renewed(
            *(self._remembered, place, self._households, device, k, self._prototypes.rounds),
            *(self._patterns, self._index.arrivals, self._prototypes.columns),
        )
        return rows if len(rows) else None

    def keep(self, place: int, asked: Asked, found: Sequence[Ranking]) -> None:
        """Remember what was found now, unless a ranking is shorter than it should be: there are few patterns then, and
        to look at all of them costs little."""
        self._questions[place] = 0
        depths = [len(ranking.rows) for ranking in found]
        if place == _NOBODYS or any(
            depth < part + RESERVE for depth, part in zip(depths, asked.parts.tolist(), strict=True) if part
        ):
            return
        rows = np.concatenate([rows for ranking in found for rows in (ranking.rows, ranking.prototypes)])
        self._rows[place, : len(rows)] = rows
        self._sizes[place, : 2 * len(found)] = depths + [len(ranking.prototypes) for ranking in found]
        self._questions[place] = kernel.fingerprint(asked.queries, asked.parts, asked.device, self._prototypes.rounds)
        self._since[place] = self._index.now

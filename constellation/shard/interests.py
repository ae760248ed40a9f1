"""What a household likes: its few patterns in up to three groups, so that every interest can ask for itself.

A household likes several things at once; the mean of all its patterns lies between them and resembles none. Within an
interest it is the other way round: the mean of near patterns is what they share, and one of them, even the heaviest,
would bring its own noise along (`bench.relevance`). A pure function of the device's patterns. Asked by
`shard.asking` and `shard.rankings`.
"""

from constellation.limits import INTERESTS_MAX, WEIGHT_COUNT_CAP
from constellation.shard.devices import Devices
from constellation.shard.patterns import Patterns
from constellation.shard.similarity import SimilarityIndex
from kernels import interests as kernel
from kernels.rankings import Asked

SAME_INTEREST_COSINE = 0.5
"""Patterns at least this close to the heaviest of an interest belong to it."""

_BOUNDS = kernel.Bounds(SAME_INTEREST_COSINE, INTERESTS_MAX, WEIGHT_COUNT_CAP)


class Interests:
    """Those of the devices of a shard."""

    def __init__(self, devices: Devices, patterns: Patterns, index: SimilarityIndex) -> None:
        self.households = kernel.Households(
            *(devices.first, patterns.following),
            *(patterns.codes, patterns.inverse, patterns.rates, patterns.counts),
            *index.projection,
            _BOUNDS,
        )

    def ask(self, device: int, k: int) -> tuple[Asked, int]:
        """What a device (row) asks for, to get k results, and how many patterns it has; nothing if it has none."""
        queries, inverse, sketches, parts, own = kernel.ask(self.households, device, k)
        return Asked(queries, inverse, sketches, parts, device), own

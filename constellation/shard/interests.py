"""What a household likes: its few patterns in up to three groups, so that every interest can ask for itself.

A household likes several things at once; the mean of all its patterns lies between them and resembles none. Within an
interest it is the other way round: the mean of near patterns is what they share, and one of them, even the heaviest,
would bring its own noise along (`bench.relevance`). A pure function of the device's patterns.
"""

import numpy as np
import numpy.typing as npt

from constellation.limits import INTERESTS_MAX
from constellation.model import Codes, Rows
from constellation.shard.patterns import Patterns
from kernels.interests import questions

SAME_INTEREST_COSINE = 0.5
"""Patterns at least this close to the heaviest of an interest belong to it."""


def ask(patterns: Patterns, own: Rows, k: int) -> tuple[Codes, npt.NDArray[np.int64]]:
    """What rows (n,) int32 of one device ask for, n >= 1: queries (m, 384) int8, the heaviest interest's first, and how
    many of k results each gets (m,) int64."""
    asked: tuple[Codes, npt.NDArray[np.int64]] = questions(
        patterns.codes, patterns.inverse, own, patterns.weights(own), k, SAME_INTEREST_COSINE, INTERESTS_MAX
    )
    return asked

"""Patterns as a compact reply tells them: centroid and residual by a codebook. Part of `shard.federating`.

Computed once a pattern is asked for, or before that in the background, and kept until it is written anew; so an answer
only gathers. A pattern's 34 bytes follow from its code and the codebook, and are not written down. Among rows,
prototype number i is -1 - i, which is where NumPy finds it in a column that ends with the prototypes.
"""

import numpy as np
import numpy.typing as npt

from constellation.codebook import stamp
from constellation.model import Codes, Quantised, Rows
from constellation.residuals import TABLES, Encoder, Quantiser
from constellation.shard import memory, prototypes
from constellation.shard.buckets import Buckets
from constellation.shard.patterns import Patterns
from kernels.codes import inverse_norms

BYTES_PER_PATTERN = 2 + TABLES
PATTERNS_PER_STEP = 32
"""Of one step of `settle`: about 0.5 ms."""
_UNKNOWN = 0


class Quantising:
    """What is known of patterns by the codebook of `buckets`."""

    def __init__(self, buckets: Buckets, quantiser: Quantiser, patterns: Patterns) -> None:
        self._buckets, self._patterns = buckets, patterns
        self._stamp = stamp(buckets.codebook)
        self._encoder = Encoder(buckets.codebook.codes, quantiser)
        rows = len(patterns.codes) + prototypes.CAPACITY
        self._numbers: npt.NDArray[np.uint16] = memory.column(rows, np.uint16)
        """1 + the centroid's number, or _UNKNOWN."""
        self._residuals = memory.column(rows, np.uint8, TABLES)
        self._reached = 0
        patterns.derived.append(self._numbers)

    @property
    def bytes_resident(self) -> int:
        return self._patterns.rows.high * BYTES_PER_PATTERN

    def of(self, rows: Rows, codes: Codes) -> Quantised:
        """Of patterns and prototypes (n,), whose codes are (n, 384)."""
        unknown = np.flatnonzero(self._numbers[rows] == _UNKNOWN)
        if len(unknown):
            self._find(rows[unknown], codes[unknown])
        return Quantised(self._stamp, self._numbers[rows].astype(np.int32) - 1, self._residuals[rows])

    def settle(self) -> bool:
        """The next rows, one step; True if more are waiting."""
        if not self._buckets.complete:
            return False
        stop = min(self._reached + PATTERNS_PER_STEP, self._patterns.rows.high)
        rows = np.arange(self._reached, stop, dtype=np.int32)
        rows = rows[(self._numbers[rows] == _UNKNOWN) & (self._buckets.of(rows) >= 0)]
        if len(rows):
            self._find(rows, self._patterns.codes[rows])
        self._reached = stop
        return stop < self._patterns.rows.high

    def forget(self, rows: Rows) -> None:
        """These were written anew."""
        self._numbers[rows] = _UNKNOWN

    def close(self) -> None:
        """Give up the codebook."""
        self._patterns.derived = [column for column in self._patterns.derived if column is not self._numbers]

    def _find(self, rows: Rows, codes: Codes) -> None:
        numbers = np.full(len(rows), -1, np.int32)
        numbers[rows >= 0] = self._buckets.of(rows[rows >= 0])
        homeless = np.flatnonzero(numbers < 0)
        numbers[homeless] = self._buckets.codebook.buckets(codes[homeless])
        self._residuals[rows] = self._encoder.encode(codes, inverse_norms(codes), numbers)
        self._numbers[rows] = 1 + numbers

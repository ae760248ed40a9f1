"""How often each row changed, so that a cursor sees what happened to it since: three counts modulo 2^16.

They outlive the pattern in a row: what comes into it later is another revision. Owned by the tables of rows.
"""

import numpy as np

from constellation.model import Rows
from constellation.shard import memory
from kernels import cursors

BYTES_PER_ROW = 6


class Revisions:
    """Counts (capacity, 3) uint16, as `kernels.cursors.tell` reads them. A call is one change of each of the rows."""

    def __init__(self, capacity: int) -> None:
        self.counts = memory.column(capacity, np.uint16, 3)

    def changed(self, rows: Rows | slice) -> None:
        """Rate, count or time are others."""
        self.counts[rows, cursors.CHANGED] += 1

    def written(self, rows: Rows | slice) -> None:
        """All may be other, the id apart."""
        self.changed(rows)
        self.counts[rows, cursors.WRITTEN] = self.counts[rows, cursors.CHANGED]

    def born(self, rows: Rows | slice) -> None:
        """The row is that of a new id."""
        self.changed(rows)
        self.counts[rows, cursors.BORN] = self.counts[rows, cursors.CHANGED]

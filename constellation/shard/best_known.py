"""The best known patterns: what a device gets that has none of its own to be compared by.

Ordered by success rate, then by sample count capped at BEST_KNOWN_COUNT_CAP. Owned by the shard.
"""

import numpy as np
import numpy.typing as npt

from constellation.limits import BEST_KNOWN_COUNT_CAP, SIMILAR_MAX
from constellation.model import Rows
from constellation.shard import memory
from constellation.shard.leaders import Leaders
from kernels.trends import top_k

BYTES_PER_PATTERN = 8 + 1
_COUNT_STEPS = 1 << BEST_KNOWN_COUNT_CAP.bit_length()


class BestKnown:
    """The order over all served rows of the pattern columns."""

    def __init__(self, capacity: int) -> None:
        self._merit = memory.column(capacity, np.float64)
        self._served = memory.column(capacity, np.uint8)
        self._high = 0
        self._leaders = Leaders(SIMILAR_MAX, 4 * SIMILAR_MAX, self._values, self._best)

    def put(self, row: int, rate: np.float32, count: int) -> None:
        """The row is served, with this rate and count."""
        # The bits of a float32 that is not negative order as it does: exact, and the count breaks ties.
        merit = float(int(rate.view(np.uint32)) * _COUNT_STEPS + min(count, BEST_KNOWN_COUNT_CAP))
        self._merit[row] = merit
        self._served[row] = 1
        self._high = max(self._high, row + 1)
        self._leaders.changed(row, merit)

    def put_many(self, rows: Rows, rates: npt.NDArray[np.float32], counts: npt.NDArray[np.uint32]) -> None:
        """As `put` for rows (n,); `top` is wrong until `refill`."""
        capped = np.minimum(counts, BEST_KNOWN_COUNT_CAP).astype(np.float64)
        self._merit[rows] = rates.view(np.uint32).astype(np.float64) * _COUNT_STEPS + capped
        self._served[rows] = 1
        self._high = max(self._high, int(rows.max(initial=-1)) + 1)

    def served(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of rows (n,) are served."""
        return self._served[rows] > 0

    def refill(self) -> None:
        self._leaders.refill()

    def drop(self, row: int) -> None:
        """The row is not served any more."""
        self._served[row] = 0
        self._leaders.changed(row, -np.inf)

    def top(self, k: int) -> Rows:
        """The k <= SIMILAR_MAX best served rows, best first."""
        return self._leaders.top(k)

    def _values(self, rows: Rows) -> npt.NDArray[np.float64]:
        return np.where(self._served[rows] > 0, self._merit[rows], -np.inf)

    def _best(self, k: int) -> Rows:
        best: Rows = top_k(self._merit[: self._high], self._served[: self._high], k)
        return best

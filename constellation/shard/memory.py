"""Columns: arrays mapped once at their configured maximum. Pages are lazy, addresses never move."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.pages import lazy_zeros


def column(rows: int, dtype: npt.DTypeLike, *width: int) -> npt.NDArray[Any]:
    """A zeroed column of `rows` entries."""
    return lazy_zeros((rows, *width), dtype)


class Rows:
    """Which rows of a set of columns are in use: the lowest never used ones, or freed ones, are handed out."""

    def __init__(self, capacity: int) -> None:
        self._free: npt.NDArray[np.int32] = column(capacity, np.int32)
        self._freed = 0
        self.high = 0
        """Rows below this one were in use at some time."""

    def __len__(self) -> int:
        return self.high - self._freed

    def take(self) -> int:
        """A row that is not in use; there must be one."""
        if self._freed:
            self._freed -= 1
            return int(self._free[self._freed])
        assert self.high < len(self._free)
        self.high += 1
        return self.high - 1

    def take_many(self, n: int) -> npt.NDArray[np.int32]:
        """n rows (n,) int32 that are not in use; there must be so many."""
        freed = min(n, self._freed)
        self._freed -= freed
        first = self.high
        self.high += n - freed
        assert self.high <= len(self._free)
        fresh = np.arange(first, self.high, dtype=np.int32)
        return np.concatenate((self._free[self._freed : self._freed + freed], fresh))

    def give_back(self, row: int) -> None:
        self._free[self._freed] = row
        self._freed += 1

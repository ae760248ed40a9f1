"""Columns: arrays mapped once at their configured maximum. Pages are lazy, addresses never move."""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.pages import lazy_zeros


def column(rows: int, dtype: npt.DTypeLike, *width: int) -> npt.NDArray[Any]:
    """A zeroed column of `rows` entries."""
    return lazy_zeros((rows, *width), dtype)


class Rows:
    """Which rows of a set of columns are in use: the lowest never used ones, or freed ones, are handed out.

    The last `rest` freed rows are kept back as long as there are others, so that who remembers a row finds in it what
    was there.
    """

    def __init__(self, capacity: int, rest: int = 0) -> None:
        self._free: npt.NDArray[np.int32] = column(capacity, np.int32)
        self._rest = rest
        self._oldest, self._freed = 0, 0
        self.high = 0
        """Rows below this one were in use at some time."""

    def __len__(self) -> int:
        return self.high - self._freed

    def take(self) -> int:
        """A row that is not in use; there must be one."""
        if self._freed > self._rest or self.high == len(self._free):
            return int(self._freed_rows(1)[0])
        self.high += 1
        return self.high - 1

    def take_many(self, n: int) -> npt.NDArray[np.int32]:
        """n rows (n,) int32 that are not in use; there must be so many."""
        unused = len(self._free) - self.high
        freed = max(min(n, self._freed - self._rest), n - unused, 0)
        first = self.high
        self.high += n - freed
        return np.concatenate((self._freed_rows(freed), np.arange(first, self.high, dtype=np.int32)))

    def give_back(self, row: int) -> None:
        self._free[(self._oldest + self._freed) % len(self._free)] = row
        self._freed += 1

    def _freed_rows(self, n: int) -> npt.NDArray[np.int32]:
        """The n that were freed first."""
        assert n <= self._freed
        rows = self._free[(self._oldest + np.arange(n)) % len(self._free)]
        self._oldest, self._freed = (self._oldest + n) % len(self._free), self._freed - n
        return rows

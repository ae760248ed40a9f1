"""The best few of very many values that change all the time, without ever sorting the many.

Keeps a little more than anyone asks for, and a floor that no other item is above. When changes eat up the surplus,
the caller's full pass fills it again. Used for trends and for the best known patterns.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from constellation.model import Rows

Values = npt.NDArray[np.float64]


class Leaders:
    """The `keep` best items, of which at least `need` are always exact; which of equal ones they are is not.

    `values(items)` gives the current values of items (n,) int32, -inf for one that is out of the race;
    `best(k)` scans everything and returns the k best items.
    """

    def __init__(self, need: int, keep: int, values: Callable[[Rows], Values], best: Callable[[int], Rows]) -> None:
        assert need < keep
        self._need, self._keep = need, keep
        self._values, self._best = values, best
        self._items: set[int] = set()
        self._floor = -np.inf
        self._sorted: Rows | None = np.empty(0, np.int32)

    def changed(self, item: int, value: float) -> None:
        """The item's value is now this one."""
        if item in self._items:
            self._sorted = None
        elif value > self._floor:
            self._items.add(item)
            self._sorted = None
            if len(self._items) > 2 * self._keep:
                self._trim()

    def scale(self, factor: float) -> None:
        """All values were multiplied by the factor, or fell further."""
        self._floor *= factor
        self._sorted = None

    def refill(self) -> None:
        """Any values changed: find the best anew."""
        self._refill()
        self._sorted = None

    def top(self, k: int) -> Rows:
        """The k <= need best items, best first, equals by lower item. Fewer if there are no more."""
        if self._sorted is None:
            self._sorted = self._sort()
        return self._sorted[:k]

    def _sort(self) -> Rows:
        items, values = self._ordered()
        sure = int(np.count_nonzero(values >= self._floor)) if np.isfinite(self._floor) else len(items)
        if sure < self._need and np.isfinite(self._floor):
            self._refill()
            items, _ = self._ordered()
        return items

    def _refill(self) -> None:
        found = self._best(self._keep)
        self._items = set(found.tolist())
        self._floor = float(self._values(found[-1:])[0]) if len(found) == self._keep else -np.inf

    def _trim(self) -> None:
        items, values = self._ordered()
        self._floor = max(self._floor, float(values[min(self._keep, len(values)) - 1])) if len(values) else self._floor
        self._items = set(items[: self._keep].tolist())

    def _ordered(self) -> tuple[Rows, Values]:
        items = np.fromiter(self._items, np.int32, len(self._items))
        values = self._values(items)
        order = np.lexsort((items, -values))
        order = order[np.isfinite(values[order])]
        return items[order], values[order]

"""Which of a bounded number of places was not used for longest: it is used for something else next.

A ring in columns, from place 0, that is nobody's, to the newest, to older ones, to the oldest, and back. All O(1).
"""

from constellation.shard import memory

BYTES_PER_PLACE = 2 * 4


class Recent:
    """Places 1 to `capacity`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._older = memory.column(capacity + 1, "i4")
        self._newer = memory.column(capacity + 1, "i4")
        self.high = 0
        """Places up to this one were in use at some time."""

    def take(self) -> int:
        """A place that was never used, else the oldest. It is the newest now."""
        if self.high < self._capacity:
            self.high += 1
            self._put(self.high, newer=0)
            return self.high
        oldest = int(self._newer[0])
        self.use(oldest)
        return oldest

    def use(self, place: int) -> None:
        """The place is the newest now."""
        if self._older[0] != place:
            self._take_out(place)
            self._put(place, newer=0)

    def give_back(self, place: int) -> None:
        """The place is the oldest now."""
        self._take_out(place)
        self._put(place, newer=int(self._newer[0]))

    def _take_out(self, place: int) -> None:
        older, newer = self._older[place], self._newer[place]
        self._older[newer], self._newer[older] = older, newer

    def _put(self, place: int, newer: int) -> None:
        older = self._older[newer]
        self._older[newer] = self._newer[older] = place
        self._older[place], self._newer[place] = older, newer

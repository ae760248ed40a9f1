"""The device table: one row per TV, found by its UUID; who synced lately is counted as time passes.

And how often each may sync: a token bucket in one number, the moment until which its tokens are spent (as the generic
cell rate algorithm of ATM has it). Owned by the shard. About 100 bytes a device.
"""

import numpy as np
import numpy.typing as npt

from constellation.limits import ACTIVE_WINDOW_S
from constellation.model import ID_BYTES, Ids, Rows
from constellation.records import DeviceRows
from constellation.shard import memory
from kernels.keytable import KeyTable

BYTES_PER_DEVICE = ID_BYTES + 4 + 4 + 2 + 8 + 8 + 8 + 8 + 4 + 2 + 8 + 4 + 13
_EVERY_DEVICE = -1


class Devices:
    """Columns of up to `capacity` devices."""

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity = capacity
        self.rows = memory.Rows(capacity)
        self.ids = memory.column(capacity, np.uint8, ID_BYTES)
        self.first = memory.column(capacity, np.int32)
        self.patterns = memory.column(capacity, np.uint16)
        self.last_sync = memory.column(capacity, np.int64)
        self.cursor = memory.column(capacity, np.int64)
        self.sequence = memory.column(capacity, np.int64)
        self.fingerprint = memory.column(capacity, np.uint64)
        self.credit_hour = memory.column(capacity, np.uint32)
        self.credit_used = memory.column(capacity, np.uint16)
        self.spent_until = memory.column(capacity, np.float64)
        # The key table wants an owner for every key; devices have none.
        self._owners: npt.NDArray[np.int32] = memory.column(capacity, np.int32)
        self._keys = KeyTable(self._owners, self.ids, seed)
        self._found_id, self._found_row = b"", -1
        self.active = ActiveWindow()

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, device_id: bytes) -> int:
        """The device's row, or -1."""
        return self._keys.find(_EVERY_DEVICE, device_id)

    def find_again(self, device_id: bytes) -> int:
        """As `find`, for who asks several times for one device: a sync is charged, applied and answered."""
        if self._found_id != device_id:
            self._found_id, self._found_row = device_id, self.find(device_id)
        return self._found_row

    def add(self, device_id: bytes) -> int:
        """A row for a device that is not in the table; there must be room."""
        self._found_id = b""
        row = self.rows.take()
        self.ids[row] = np.frombuffer(device_id, np.uint8)
        self._owners[row] = _EVERY_DEVICE
        self.first[row] = -1
        for column in (self.patterns, self.last_sync, self.cursor, self.sequence, self.fingerprint):
            column[row] = 0
        self.credit_hour[row] = 0
        self.credit_used[row] = 0
        self.spent_until[row] = 0.0
        self._keys.insert(row)
        return row

    def find_many(self, device_ids: Ids) -> Rows:
        """Rows (n,) int32 of the devices with these ids (n, 16), -1 where there is none."""
        return self._keys.find_many(np.full(len(device_ids), _EVERY_DEVICE, np.int32), device_ids)

    def add_many(self, device_ids: Ids) -> Rows:
        """Rows (n,) int32 for devices that are not in the table; there must be room."""
        self._found_id = b""
        rows = self.rows.take_many(len(device_ids))
        self.ids[rows] = device_ids
        self._owners[rows] = _EVERY_DEVICE
        self.first[rows] = -1
        self.patterns[rows] = 0
        self.spent_until[rows] = 0.0
        self._keys.insert_many(rows)
        return rows

    def run(self, start: int, patterns: int) -> int:
        """The end of a run of rows from `start` on that have about so many patterns, or are so many."""
        counts = self.patterns[start : min(start + patterns, self.rows.high)]
        return start + max(1, int(np.searchsorted(np.cumsum(counts, dtype=np.int64), patterns)))

    def spend(self, row: int, now: float, per_s: float, burst: int) -> float:
        """Take one of up to `burst` tokens, of which `per_s` come a second; 0, or the seconds until there is one.

        None is taken then. A clock that was set back costs a device no more than a whole burst.
        """
        spent_until = min(max(float(self.spent_until[row]), now), now + burst / per_s)
        wait_s = spent_until - now - (burst - 1) / per_s
        if wait_s > 1e-5:  # unix seconds in floating point are no finer
            return wait_s
        self.spent_until[row] = spent_until + 1 / per_s
        return 0.0

    def touch(self, row: int, now: int) -> None:
        """The device synced at `now` (unix seconds)."""
        self.active.leave(int(self.last_sync[row]), now)
        self.last_sync[row] = self.active.enter(now)

    def drop(self, row: int, now: int) -> None:
        """Forget the device; its patterns are gone already."""
        self._found_id = b""
        self.active.leave(int(self.last_sync[row]), now)
        self._keys.delete(row)
        self.last_sync[row] = 0
        self.rows.give_back(row)

    def gather(self, rows: Rows) -> DeviceRows:
        """The devices of these rows (n,), in their order."""
        return DeviceRows(
            ids=self.ids[rows],
            sequences=self.sequence[rows],
            fingerprints=self.fingerprint[rows],
            cursors=self.cursor[rows],
            last_syncs=self.last_sync[rows],
            credit_hours=self.credit_hour[rows],
            credit_used=self.credit_used[rows].astype(np.uint32),
        )


class ActiveWindow:
    """How many devices synced within ACTIVE_WINDOW_S, counted by the second of their last sync; all O(1)."""

    def __init__(self) -> None:
        self._seconds = [0] * ACTIVE_WINDOW_S
        self._now = 0
        self._total = 0

    def recount(self, entered: npt.NDArray[np.int64]) -> None:
        """Count anew: devices that synced in these seconds (n,), 0 for never. The newest is taken for now."""
        self._now = int(entered.max(initial=0))
        within = entered[entered > max(0, self._now - ACTIVE_WINDOW_S)]
        self._seconds = np.bincount(within % ACTIVE_WINDOW_S, minlength=ACTIVE_WINDOW_S).tolist()
        self._total = len(within)

    def enter_many(self, entered: npt.NDArray[np.int64], now: int) -> None:
        """Devices more that synced in these seconds (n,), none after `now`."""
        self._advance(now)
        for second in entered[entered > self._now - ACTIVE_WINDOW_S].tolist():
            self._seconds[second % ACTIVE_WINDOW_S] += 1
            self._total += 1

    def count(self, now: int) -> int:
        self._advance(now)
        return self._total

    def enter(self, now: int) -> int:
        """One more device synced now. Returns the second it counts in: the newest seen, if the clock stepped back."""
        self._advance(now)
        self._seconds[self._now % ACTIVE_WINDOW_S] += 1
        self._total += 1
        return self._now

    def leave(self, entered: int, now: int) -> None:
        """A device that counts in the second `entered` (0: in none) does so no longer."""
        self._advance(now)
        if entered and entered > self._now - ACTIVE_WINDOW_S:
            self._seconds[entered % ACTIVE_WINDOW_S] -= 1
            self._total -= 1

    def _advance(self, now: int) -> None:
        if now <= self._now:
            return
        for second in range(max(self._now + 1, now - ACTIVE_WINDOW_S + 1), now + 1):
            slot = second % ACTIVE_WINDOW_S
            self._total -= self._seconds[slot]
            self._seconds[slot] = 0
        self._now = now

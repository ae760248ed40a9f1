"""What the database does not have yet: keys, not values, so that many changes of one thing are written once.

Each kind is kept in the order in which its things first became dirty: whatever changed before the oldest is in the
database. Owned by the write-behind task.
"""

import sys
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np

from constellation.records import Change, Forgotten, TrendCells

Cell = tuple[str, int]


class DirtyDevice(NamedTuple):
    """Since which journal position, and which of its patterns."""

    since: int
    patterns: set[bytes]


class Batch(NamedTuple):
    """Dirty things to write together, each with the position since which it is dirty."""

    devices: dict[bytes, DirtyDevice]
    titles: dict[int, int]
    cells: dict[Cell, int]
    forgotten: dict[bytes, tuple[int, Forgotten]]

    def patterns(self) -> dict[bytes, set[bytes]]:
        return {device_id: dirty.patterns for device_id, dirty in self.devices.items()}

    def trend_cells(self) -> TrendCells:
        """The cells, without their counts."""
        hours = np.array([hour for _, hour in self.cells], np.uint32)
        return TrendCells([name for name, _ in self.cells], hours, np.zeros(len(hours), np.uint32))


class Dirty:
    """All that is dirty."""

    def __init__(self) -> None:
        self._devices: dict[bytes, DirtyDevice] = {}
        self._titles: dict[int, int] = {}
        self._cells: dict[Cell, int] = {}
        self._forgotten: dict[bytes, tuple[int, Forgotten]] = {}

    def __len__(self) -> int:
        return len(self._devices) + len(self._titles) + len(self._cells) + len(self._forgotten)

    def note(self, change: Change, position: int) -> None:
        """What the change at this position touched is dirty now."""
        for forgotten in change.forgotten:
            since, _ = self._forgotten.get(forgotten.key, (position, forgotten))
            self._forgotten[forgotten.key] = (since, forgotten)
            self._devices.pop(forgotten.device_id, None)
        for device_id in _ids(change.devices.ids):
            self._device(device_id, position)
        for keys in (change.gone, change.patterns):
            ids = keys.ids if keys is change.gone else change.patterns.patterns.ids
            for owner, pattern_id in zip(_ids(keys.owners), _ids(ids), strict=True):
                self._device(owner, position).patterns.add(pattern_id)
        for number, _ in change.content:
            self._titles.setdefault(number, position)
        for cell in zip(change.trends.items, change.trends.hours.tolist(), strict=True):
            self._cells.setdefault(cell, position)

    def take(self, patterns_max: int, titles_max: int, cells_max: int) -> Batch:
        """The oldest of each kind, and all households to forget; at most so many, one device's patterns more."""
        devices: dict[bytes, DirtyDevice] = {}
        patterns = 0
        for device_id, dirty in self._devices.items():
            if patterns >= patterns_max:
                break
            devices[device_id] = dirty
            patterns += 1 + len(dirty.patterns)
        batch = Batch(
            devices,
            dict(islice(self._titles.items(), titles_max)),
            dict(islice(self._cells.items(), cells_max)),
            self._forgotten,
        )
        for device_id in devices:
            del self._devices[device_id]
        for number in batch.titles:
            del self._titles[number]
        for cell in batch.cells:
            del self._cells[cell]
        self._forgotten = {}
        return batch

    def take_all(self) -> Batch:
        return self.take(sys.maxsize, sys.maxsize, sys.maxsize)

    def put_back(self, batch: Batch) -> None:
        """A batch that was not written: dirty as before, and what changed since still is."""
        later, self._devices = self._devices, dict(batch.devices)
        for device_id in self._forgotten.keys() & self._devices.keys():
            del self._devices[device_id]
        for device_id, dirty in later.items():
            self._device(device_id, dirty.since).patterns.update(dirty.patterns)
        self._titles = batch.titles | {n: since for n, since in self._titles.items() if n not in batch.titles}
        self._cells = batch.cells | {c: since for c, since in self._cells.items() if c not in batch.cells}
        self._forgotten = batch.forgotten | {
            key: (batch.forgotten.get(key, (since, forgotten))[0], forgotten)
            for key, (since, forgotten) in self._forgotten.items()
        }

    def since(self) -> int | None:
        """The position at which the oldest became dirty; None if nothing is."""
        heads = [
            *(dirty.since for dirty in islice(self._devices.values(), 1)),
            *islice(self._titles.values(), 1),
            *islice(self._cells.values(), 1),
            *(since for since, _ in islice(self._forgotten.values(), 1)),
        ]
        return min(heads, default=None)

    def _device(self, device_id: bytes, position: int) -> DirtyDevice:
        dirty = self._devices.get(device_id)
        if dirty is None:
            dirty = self._devices[device_id] = DirtyDevice(position, set())
        return dirty


def _ids(ids: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Iterable[bytes]:
    return (row.tobytes() for row in ids)

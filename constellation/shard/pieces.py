"""All that a shard holds, a piece at a time, as changes are written down: for a snapshot. Part of `shard.shard`.

The shard may change between two pieces, so they are not of one moment (`records.Piece`).
"""

from collections.abc import Iterator

import numpy as np

from constellation.records import Change, Forgotten, NumberedItem, Piece, empty_change
from constellation.shard.tables import Tables
from constellation.shard.tombstones import Tombstones
from kernels import chains

_TITLES_AT_ONCE = 200
_TOMBSTONES_AT_ONCE = 1_000


class Pieces:
    """One pass over the tables: tombstones, titles, devices with their patterns, trends."""

    def __init__(self, tables: Tables, tombstones: Tombstones, version: int, patterns_at_once: int) -> None:
        self._tables, self._tombstones, self._version = tables, tombstones, version
        self._patterns_at_once = patterns_at_once
        self._titles = 0

    def all(self) -> Iterator[Piece]:
        """Each piece takes about 1 ms for 500 patterns."""
        tombstones = self._tombstones.all()
        for start in range(0, len(tombstones) + 1, _TOMBSTONES_AT_ONCE):
            change = self._change()
            some = tombstones[start : start + _TOMBSTONES_AT_ONCE]
            change.forgotten = [Forgotten(b"", *tombstone, at=0) for tombstone in some]
            yield Piece(change)
        while self._titles < len(self._tables.content):
            yield Piece(self._change())
        row = 0
        while row < self._tables.devices.rows.high:
            stop = self._tables.devices.run(row, self._patterns_at_once)
            yield self._devices(row, stop)
            row = stop
        for cells in self._tables.trends.cells():
            change = self._change()
            change.trends = cells
            yield Piece(change)

    def _change(self) -> Change:
        """With the next titles: those that came since are there before the patterns and counts that may name them."""
        change = empty_change(self._version)
        stop = min(self._titles + _TITLES_AT_ONCE, len(self._tables.content))
        change.content = [
            NumberedItem(number, self._tables.content.item(number)) for number in range(self._titles, stop)
        ]
        self._titles = stop
        return change

    def _devices(self, row: int, stop: int) -> Piece:
        devices, patterns = self._tables.devices, self._tables.patterns
        in_use = (row + np.flatnonzero(devices.last_sync[row:stop])).astype(np.int32)
        _, rows = chains.rows_of_many(devices.first, patterns.following, in_use)
        change = self._change()
        change.devices = devices.gather(in_use)
        change.patterns = self._tables.changes.gather_patterns(rows)
        return Piece(change, self._tables.index.places(rows))

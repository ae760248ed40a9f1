"""Putting back what was written down: rows as they were, nothing decided again. Part of `shard.shard`.

While changes are put back, patterns lie outside the index, unless their places in it were written down too, and in no
order in their chains; `finish` mends both. So a million patterns take seconds: all of a change is written at once, and
the index is filled in bulk.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from constellation.model import Ids, Rows
from constellation.records import Change, DeviceRows, Forgotten, PatternKeys, PatternRows
from constellation.shard.similarity import ADDED_AT_ONCE_MAX
from constellation.shard.tables import Tables
from constellation.shard.tombstones import Tombstones
from kernels import chains
from kernels.codes import inverse_norms

_PATTERNS_AT_ONCE = 5_000


class Restoring:
    """The way back into the tables."""

    def __init__(self, tables: Tables, tombstones: Tombstones, serve_threshold: float) -> None:
        self._devices, self._patterns, self._index = tables.devices, tables.patterns, tables.index
        self._best_known, self._content, self._trends = tables.best_known, tables.content, tables.trends
        self._tombstones = tombstones
        self._serve_threshold = np.float32(serve_threshold)

    def put(self, change: Change, places: bytes) -> None:
        """Write one change into the tables; its patterns go to their places in the index, if these are known."""
        for forgotten in change.forgotten:
            self._forget(forgotten)
        for number, item in change.content:
            self._content.restore(number, item)
            self._trends.title(number, item.content_id)
        self.put_devices(change.devices)
        self._drop(change.gone)
        rows = self.put_patterns(change.patterns)
        if places:
            self._index.place(rows, places, self._patterns.rates[rows] >= self._serve_threshold)
        self._trends.restore(change.trends)

    def finish(self) -> Iterator[None]:
        """Titles found, scores, chains in order, and every served pattern in the index and among the best known.

        The steps take about 1 ms; after them `SimilarityIndex.settle` has work.
        """
        yield from self._content.rebuild()
        self._trends.rescore()
        yield
        devices, patterns = self._devices, self._patterns
        devices.active.recount(devices.last_sync[: devices.rows.high])
        start = 0
        while start < devices.rows.high:
            yield
            stop = devices.run(start, _PATTERNS_AT_ONCE)
            rows = self._put_in_order(start, stop)
            start = stop
            served = rows[patterns.rates[rows] >= self._serve_threshold]
            self._best_known.put_many(served, patterns.rates[served], patterns.counts[served])
            outside = served[~self._index.holds(served)]
            for at in range(0, len(outside), ADDED_AT_ONCE_MAX):
                yield
                self._index.add_many(outside[at : at + ADDED_AT_ONCE_MAX])
        yield
        self._best_known.refill()

    def _put_in_order(self, start: int, stop: int) -> Rows:
        """The patterns (n,) of these rows of devices, which are in their chains as they entered afterwards."""
        first, patterns = self._devices.first, self._patterns
        _, rows = chains.rows_of_many(first, patterns.following, np.arange(start, stop, dtype=np.int32))
        ordered: Rows = rows[np.lexsort((patterns.entered[rows], patterns.devices[rows]))]
        first[start:stop] = -1
        chains.link_all(first, patterns.following, patterns.devices, ordered)
        return ordered

    def _forget(self, forgotten: Forgotten) -> None:
        if forgotten.tombstone:
            self._tombstones.put(forgotten.tombstone, forgotten.sequence)
        device = self._devices.find(forgotten.device_id) if forgotten.device_id else -1
        if device < 0:
            return
        rows = chains.rows_of(self._devices.first, self._patterns.following, device)
        for row in rows.tolist():
            self._drop_row(row)
        self._devices.last_sync[device] = 0  # it is not counted as active before `finish`
        self._devices.drop(device, 0)

    def put_devices(self, came: DeviceRows) -> Rows:
        """Their rows (n,)."""
        devices = self._devices
        rows = devices.find_many(came.ids)
        new = rows < 0
        rows[new] = devices.add_many(came.ids[new])
        devices.sequence[rows] = came.sequences
        devices.fingerprint[rows] = came.fingerprints
        devices.cursor[rows] = came.cursors
        # A record may be older than the piece of a snapshot before it, which knows of syncs that changed nothing.
        devices.last_sync[rows] = np.maximum(devices.last_sync[rows], came.last_syncs)
        devices.credit_hour[rows] = came.credit_hours
        devices.credit_used[rows] = came.credit_used
        return rows

    def _drop(self, keys: PatternKeys) -> None:
        rows = self._patterns.find_of(self._devices.find_many(keys.owners), keys.ids)
        for row in rows[rows >= 0].tolist():
            self._drop_row(row)

    def _drop_row(self, row: int) -> None:
        if row in self._index:
            self._index.remove(row)
        device = int(self._patterns.devices[row])
        chains.unlink(self._devices.first, self._patterns.following, device, row)
        self._devices.patterns[device] -= 1
        self._patterns.drop_row(row)

    def put_patterns(self, came: PatternRows) -> Rows:
        """Their rows (n,), outside the index; devices and titles are there. Raises ShardFull, see `Contexts`."""
        patterns, batch = self._patterns, came.patterns
        devices = self._devices.find_many(came.owners)
        rows = patterns.find_of(devices, batch.ids)
        new = rows < 0
        rows[new] = self._new_rows(devices[new], batch.ids[new], came.entered[new])
        known = rows[~new]
        for words in patterns.words[known]:
            patterns.contexts.release(words)
        for row in known[self._index.holds(known)].tolist():
            self._index.remove(row)
        at = _stretch(rows)
        patterns.words[at] = patterns.contexts.intern_many(batch.contexts)
        patterns.codes[at] = batch.codes
        for column in patterns.derived:
            column[at] = 0
        patterns.inverse[at] = inverse_norms(batch.codes)
        patterns.rates[at] = batch.rates
        patterns.counts[at] = batch.counts
        patterns.created_at[at] = batch.created_at
        patterns.updated_at[at] = batch.updated_at
        patterns.changed_version[at] = came.versions
        patterns.revisions.written(rows)
        patterns.credited_item[at] = self._items(came.items)
        patterns.credited_samples[at] = came.item_samples
        patterns.credited_hour[at] = came.item_hours
        return rows

    def _new_rows(self, devices: Rows, ids: Ids, entered: npt.NDArray[np.int64]) -> Rows:
        rows = self._patterns.new_rows(devices, ids, entered)
        chains.link_all(self._devices.first, self._patterns.following, self._patterns.devices, rows)
        np.add.at(self._devices.patterns, devices, np.uint16(1))
        return rows

    def _items(self, names: list[str]) -> Rows:
        numbers = {name: self._trends.item_named(name) for name in dict.fromkeys(names)}
        return np.array([numbers[name] for name in names], np.int32)


def _stretch(rows: Rows) -> Rows | slice:
    """The rows as a slice if they follow one another, as new ones mostly do: written three times as fast."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows

"""The pattern columns: every stored pattern is one row across them. No Python object per pattern.

The int8 code is the truth about an embedding: everything later is computed from it. A row belongs to one device; the
device's rows are chained. The key table finds a row by (device row, pattern id). Owned by the shard.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.limits import FREED_ROWS_KEPT, WEIGHT_COUNT_CAP
from constellation.model import DIM, ID_BYTES, Ids, PatternBatch, Rows
from constellation.shard import memory
from constellation.shard.contexts import WORDS, ContextTable, Words
from constellation.shard.revisions import BYTES_PER_ROW as REVISION_BYTES
from constellation.shard.revisions import Revisions
from kernels.codes import inverse_norms
from kernels.keytable import KeyTable

BYTES_PER_PATTERN = DIM + 4 + ID_BYTES + 4 + 4 + 4 + 4 + 8 + 8 + 2 * WORDS + 8 + 8 + 4 + 4 + 4 + REVISION_BYTES + 13
"""Columns and key table, without the index."""


_NO_COLUMNS = (
    *(np.empty((0, ID_BYTES), np.uint8), np.empty((0, DIM), np.int8)),
    *(np.empty(0, np.float32), np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.int64)),
)


class Facts(NamedTuple):
    """What a digest tells of n patterns: ids (n, 16), rates (n,), counts (n,) and updated_at (n,)."""

    ids: Ids
    rates: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint32]
    updated_at: npt.NDArray[np.int64]


class Patterns:
    """Columns of up to `capacity` patterns."""

    def __init__(self, capacity: int, seed: int) -> None:
        self.rows = memory.Rows(capacity, rest=FREED_ROWS_KEPT)
        self.codes = memory.column(capacity, np.int8, DIM)
        self.inverse = memory.column(capacity, np.float32)
        self.ids = memory.column(capacity, np.uint8, ID_BYTES)
        self.devices = memory.column(capacity, np.int32)
        self.following = memory.column(capacity, np.int32)
        self.rates = memory.column(capacity, np.float32)
        self.counts = memory.column(capacity, np.uint32)
        self.created_at = memory.column(capacity, np.int64)
        self.updated_at = memory.column(capacity, np.int64)
        self.words = memory.column(capacity, np.uint16, WORDS)
        self.entered = memory.column(capacity, np.int64)
        self.changed_version = memory.column(capacity, np.int64)
        self.revisions = Revisions(capacity)
        self.credited_item = memory.column(capacity, np.int32)
        self.credited_samples = memory.column(capacity, np.uint32)
        self.credited_hour = memory.column(capacity, np.uint32)
        self.contexts = ContextTable()
        self.derived: list[npt.NDArray[np.integer]] = []
        """Columns of others, of `capacity` or more integers, that follow from the code: 0 in a row that was written."""
        self._keys = KeyTable(self.devices, self.ids, seed)

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, device: int, ids: Ids) -> Rows:
        """Rows (m,) int32 of the device's patterns with these ids (m, 16), -1 where it has none."""
        return self._keys.find_many(np.full(len(ids), device, np.int32), ids)

    def find_of(self, devices: Rows, ids: Ids) -> Rows:
        """Rows (m,) int32 of the patterns with these devices (m,) and ids (m, 16), -1 where there is none."""
        return self._keys.find_many(devices, ids)

    def new_row(self, device: int, pattern_id: Ids, entered: int) -> int:
        """A row for a pattern that the device does not have yet; the caller writes it and chains it."""
        row = self.rows.take()
        self.revisions.born(slice(row, row + 1))
        self.ids[row] = pattern_id
        self.devices[row] = device
        self.words[row] = 0
        self.entered[row] = entered
        self.credited_item[row] = -1
        self.credited_samples[row] = 0
        self._keys.insert(row)
        return row

    def new_rows(self, devices: Rows, ids: Ids, entered: npt.NDArray[np.int64]) -> Rows:
        """Rows (n,) for patterns that the devices (n,) do not have yet; the caller writes and chains them."""
        rows = self.rows.take_many(len(devices))
        self.revisions.born(rows)
        self.ids[rows] = ids
        self.devices[rows] = devices
        self.entered[rows] = entered
        self._keys.insert_many(rows)
        return rows

    def write(self, row: int, batch: PatternBatch, i: int, words: Words, version: int) -> None:
        """Write pattern i of the batch over what the row holds; takes over one count of the words."""
        self.contexts.release(self.words[row])
        self.words[row] = words
        self.codes[row] = batch.codes[i]
        for column in self.derived:
            column[row] = 0
        self.inverse[row] = inverse_norms(batch.codes[i : i + 1])[0]
        self.rates[row] = batch.rates[i]
        self.counts[row] = batch.counts[i]
        self.created_at[row] = batch.created_at[i]
        self.updated_at[row] = batch.updated_at[i]
        self.changed_version[row] = version
        self.revisions.written(slice(row, row + 1))

    def drop_row(self, row: int) -> None:
        """Give the row back; the caller has taken it out of its chain and of the index."""
        self._keys.delete(row)
        self.contexts.release(self.words[row])
        self.words[row] = 0
        self.rows.give_back(row)

    def weights(self, rows: Rows) -> npt.NDArray[np.float64]:
        """What each pattern counts for among its device's: success rate x capped sample count."""
        capped = np.minimum(self.counts[rows], WEIGHT_COUNT_CAP)
        weights: npt.NDArray[np.float64] = self.rates[rows].astype(np.float64) * capped
        return weights

    def facts(self, rows: Rows) -> Facts:
        """Of the patterns of these rows (n,), in their order."""
        return Facts(self.ids[rows], self.rates[rows], self.counts[rows], self.updated_at[rows])

    def gather(self, rows: Rows) -> PatternBatch:
        """The patterns of these rows (n,), in their order."""
        if not len(rows):  # many answers tell no pattern
            return PatternBatch(*_NO_COLUMNS, contexts=[])
        return PatternBatch(
            ids=self.ids[rows],
            codes=self.codes[rows],
            rates=self.rates[rows],
            counts=self.counts[rows],
            created_at=self.created_at[rows],
            updated_at=self.updated_at[rows],
            contexts=self.contexts.contexts(self.words[rows]),
        )

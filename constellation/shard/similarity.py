"""Which served patterns are most like a given one: an index that follows every change at once and never rebuilds.

Rows lie in lists of near ones (`kernels.lists`); a query scans the nearest lists by sketch and scores the best few
hundred exactly by their codes. Adding and removing cost microseconds, there is nothing to load or to build in the
background, and recall does not decay: `settle` moves rows to the list that is nearest now.
Why not a graph (HNSW) over the patterns: docs/architecture.md, with the figures. Owned by the shard.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from constellation.model import DIM, Codes, Rows
from kernels import lists, partition
from kernels.lists import CAPACITY, HELD, USED, empty_level
from kernels.partition import NEXT, SOWN, SPARSE
from kernels.sketches import AXES, HALF, SKETCH_NORM

ROWS_SCANNED_BASE, ROWS_SCANNED_PER_RESULT = 2_000, 180
"""How many rows a query for k looks at by sketch. Recall against time: `bench.similarity`."""
ROWS_SCORED_BASE, ROWS_SCORED_PER_RESULT = 40, 3
"""How many of them are scored exactly."""

ADDED_AT_ONCE_MAX = 128
"""Rows of one `add_many`: about 1 ms, so that the event loop goes on in between."""

_SETTLE_EVERY = 12
"""One list is settled for so many changes: each list about six times while it fills."""
_LIST_BYTES = CAPACITY * (HALF + 4) + AXES + 8

BYTES_PER_PATTERN = 4 + 2 * _LIST_BYTES // CAPACITY
"""Of the index, for lists that are half full: a little emptier than they are found (`bench.memory`)."""

Vector = npt.NDArray[np.int8]
Cosines = npt.NDArray[np.float32]


class SimilarityIndex:
    """Index over rows of the caller's columns codes (N, 384) int8 and inverse (N,) float32, 1/|code|."""

    def __init__(self, codes: Codes, inverse: npt.NDArray[np.float32]) -> None:
        self._codes = codes
        self._inverse = inverse
        count = 64 + len(codes) // SPARSE
        self._lists = empty_level(count, len(codes))
        self._groups = empty_level(count, count)
        axes = np.load(Path(__file__).with_name("axes.npy")).astype(np.float32)
        assert axes.shape == (AXES, DIM)
        self._axes = axes * np.float32(SKETCH_NORM)
        self._seeds = np.zeros(2, np.int64)
        self._changes = 0
        self._settled = 0

    def __len__(self) -> int:
        return int(self._lists.counts[HELD])

    def __contains__(self, row: int) -> bool:
        return bool(self._lists.home[row])

    @property
    def list_count(self) -> int:
        """Lists in use."""
        return int(self._groups.counts[HELD])

    @property
    def bytes_resident(self) -> int:
        return int(self._lists.counts[USED]) * _LIST_BYTES + 4 * len(self)

    def add(self, row: int) -> None:
        """Take in a row that is not in the index; its code must not change while it is."""
        self._make_room()
        partition.insert(self._lists, self._groups, row, self._sketch(self._codes[row]))
        self._changes += 1

    def add_many(self, rows: Rows) -> None:
        """Take in rows (n,) int32, up to ADDED_AT_ONCE_MAX: as `add` for each, at a quarter of the cost.

        After the last, `settle` until it is False: recall is that of an index that grew row by row.
        """
        assert len(rows) <= ADDED_AT_ONCE_MAX
        own = np.array(rows, np.int32)
        partition.insert_many(self._lists, self._groups, self._seeds, own, self._sketches(own))
        self._changes = max(self._changes, _SETTLE_EVERY * int(self._lists.counts[USED]))

    def remove(self, row: int) -> None:
        """Take out a row that is in the index."""
        self._make_room()
        partition.remove(self._lists, self._groups, row)
        self._changes += 1

    def centroids(self) -> bytes:
        """Where the lists in use lie, AXES bytes each: a hint to `seed` the index with that gets the rows back."""
        in_use = self._groups.home[: self._lists.counts[USED]] > 0
        return self._lists.centroids[: len(in_use)][in_use].tobytes()

    def seed(self, centroids: bytes) -> None:
        """Prepare an index without rows for those that `centroids` were taken from: adding takes a quarter less time.

        A hint that is not a whole number of centroids is ignored, of one that is too long for this index the beginning
        is used; one that is stale or damaged costs time, never a result. About 20 ms for a million rows.
        """
        assert len(self) == 0
        if len(centroids) % AXES == 0:
            made = np.frombuffer(centroids, np.int8).reshape(-1, AXES).copy()
            partition.seed(self._lists, self._groups, self._seeds, made)

    def search(self, query: Vector, k: int, spare: int = 0) -> tuple[Rows, Cosines]:
        """The k + spare rows most similar to a code (384,) int8, best first: rows int32 and cosines float32.

        min(k + spare, len(self)) of them; none if k is 0. The effort is that for k, the spare ones make up for rows
        that the caller will not use.
        """
        return lists.search(
            self._lists,
            self._groups,
            self._codes,
            self._inverse,
            query.astype(np.int16),
            self._sketch(query),
            k + spare if k else 0,
            ROWS_SCANNED_BASE + ROWS_SCANNED_PER_RESULT * k,
            ROWS_SCORED_BASE + ROWS_SCORED_PER_RESULT * k,
        )

    def settle(self) -> bool:
        """Settle the next list if changes call for it; True if more lists are waiting. Takes about 0.1 ms.

        After `seed` it first gives up the lists that stayed sparse, about 1 ms a call: call it when the rows are in.
        """
        if self._seeded:
            partition.weed(self._lists, self._groups, self._seeds)
            return self._seeded or self._changes >= _SETTLE_EVERY
        if self._changes < _SETTLE_EVERY:
            return False
        self._changes -= _SETTLE_EVERY
        used = int(self._lists.counts[USED])
        self._settled = (self._settled + 1) % used
        partition.settle(self._lists, self._groups, self._settled)
        return self._changes >= _SETTLE_EVERY

    @property
    def _seeded(self) -> bool:
        """Are there lists that `seed` made and `settle` has not looked at?"""
        return bool(self._seeds[NEXT] < self._seeds[SOWN])

    def _make_room(self) -> None:
        if self._seeded:
            partition.make_room(self._lists, self._groups, self._seeds)

    def _sketches(self, rows: Rows) -> npt.NDArray[np.int8]:
        """(n, AXES): `_sketch` of each row, by one matrix product."""
        vectors = self._codes[rows].astype(np.float32)
        vectors *= self._inverse[rows, None]
        made: npt.NDArray[np.float32] = vectors @ self._axes.T
        np.rint(made, out=made)
        np.clip(made, -127, 127, out=made)
        return made.astype(np.int8)

    def _sketch(self, code: Vector) -> Vector:
        vector = code.astype(np.float32)
        vector *= 1 / np.sqrt(vector @ vector)
        sketch: npt.NDArray[np.float32] = self._axes @ vector
        np.rint(sketch, out=sketch)
        np.clip(sketch, -127, 127, out=sketch)
        return sketch.astype(np.int8)

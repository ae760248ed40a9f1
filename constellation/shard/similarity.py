"""Which served patterns are most like a given one: an index that follows every change at once and never rebuilds.

Rows lie in lists of near ones (`kernels.lists`); a query scans the nearest lists by sketch and scores the best few
hundred exactly by their codes. Adding and removing cost microseconds, there is nothing to load or to build in the
background, and recall does not decay: `settle` moves rows to the list that is nearest now.
Why not a graph (HNSW) over the patterns: docs/architecture.md, with the figures. Owned by the shard.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from constellation.codebook import default_codebook
from constellation.model import DIM, Codes, Rows
from kernels import arrivals, lists, partition
from kernels.arrivals import RECORD_BYTES, empty_arrivals
from kernels.codes import inverse_norms, quantise
from kernels.lists import CAPACITY, HELD, USED, empty_level
from kernels.partition import NEXT, SOWN, SPARSE
from kernels.queries import project
from kernels.sketches import AXES, HALF, SKETCH_NORM

ROWS_SCANNED_BASE, ROWS_SCANNED_PER_RESULT = 2_000, 180
"""How many rows of a million a query for k looks at by sketch. Recall against time: `bench.similarity`."""
_ROWS_SCANNED_OF = 1_000_000
_ROWS_SCANNED_GROWTH = 1 / 8
"""Of fewer rows fewer are looked at for the same recall: this power of their number."""
ROWS_SCORED_BASE, ROWS_SCORED_PER_RESULT = 40, 3
"""How many of them are scored exactly."""

ADDED_AT_ONCE_MAX = 128
"""Rows of one `add_many`: about 1 ms, so that the event loop goes on in between."""

ARRIVALS_KEPT = 1 << 17
"""So many rows that came are known in the order in which they did: what a full shard's devices send in half an hour."""

_SETTLE_EVERY = 12
"""One list is settled for so many changes: each list about six times while it fills."""
_BYTES_A_LIST = CAPACITY * (HALF + 4) + AXES + 8

BYTES_PER_PATTERN = 4 + 4 + 2 * _BYTES_A_LIST // CAPACITY
"""Of the index, for lists that are half full: a little emptier than they are found (`bench.memory`)."""
BYTES_OF_ARRIVALS = ARRIVALS_KEPT * RECORD_BYTES

_LIST = np.dtype([("number", "<i4"), ("centroid", "i1", (AXES,))])
_PLACE = np.dtype([("list", "<i4"), ("sketch", "u1", (HALF,))])
LIST_BYTES = _LIST.itemsize
"""Of one list in `SimilarityIndex.layout`."""

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
        self._axes = quantise(axes)
        self._scales = SKETCH_NORM * inverse_norms(self._axes)
        # Any points will do to find what came near a query: with others more of it, or less, is looked at in vain.
        points = default_codebook()
        self.arrivals = empty_arrivals(
            ARRIVALS_KEPT, len(codes), self.sketches(points.codes.copy(), points.inverse.copy())
        )
        self._seeds = np.zeros(2, np.int64)
        self._renumbered: Rows = np.empty(0, np.int32)
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
        arrived = min(self.now, ARRIVALS_KEPT) * RECORD_BYTES + 4 * len(self)
        return int(self._lists.counts[USED]) * _BYTES_A_LIST + 4 * len(self) + arrived

    @property
    def projection(self) -> tuple[Codes, npt.NDArray[np.float32]]:
        """The axes (AXES, 384) of sketches and their scales (AXES,), as `kernels.queries.project` takes them."""
        return self._axes, self._scales

    @property
    def home(self) -> Rows:
        """Column by row: 0 for one that is not in the index."""
        return self._lists.home

    @property
    def now(self) -> int:
        """The number that the next arrival gets."""
        return int(self.arrivals.counts[0])

    def add(self, row: int) -> None:
        """Take in a row that is not in the index; its code must not change while it is."""
        self._make_room()
        (sketch,) = self.sketches(self._codes[row : row + 1], self._inverse[row : row + 1])
        partition.insert(self._lists, self._groups, row, sketch)
        arrivals.note(self.arrivals, row, sketch)
        self._changes += 1

    def add_many(self, rows: Rows) -> None:
        """Take in rows (n,) int32, up to ADDED_AT_ONCE_MAX: as `add` for each, at a quarter of the cost.

        After the last, `settle` until it is False: recall is that of an index that grew row by row.
        """
        assert len(rows) <= ADDED_AT_ONCE_MAX
        own = np.array(rows, np.int32)
        sketches = self.sketches(self._codes[own], self._inverse[own])
        partition.insert_many(self._lists, self._groups, self._seeds, own, sketches)
        self._all_changed()

    def remove(self, row: int) -> None:
        """Take out a row that is in the index."""
        self._make_room()
        partition.remove(self._lists, self._groups, row)
        self._changes += 1

    def layout(self) -> bytes:
        """Where the lists in use lie, with their numbers: what `expect` takes."""
        numbers = np.flatnonzero(self._groups.home[: self._lists.counts[USED]]).astype(np.int32)
        lying = np.empty(len(numbers), _LIST)
        lying["number"] = numbers
        lying["centroid"] = self._lists.centroids[numbers]
        return lying.tobytes()

    def expect(self, layout: bytes) -> None:
        """Prepare an index without rows for those of the one that the layout was taken from.

        A hint: `add_many` then takes a quarter less time, and `place` finds the lists. One that is not a whole number
        of entries is ignored, of one that is too long for this index the beginning is used; one that is stale or
        damaged costs time, never a result. About 20 ms for a million rows.
        """
        assert len(self) == 0
        if len(layout) % _LIST.itemsize:
            return
        lying = np.frombuffer(layout, _LIST)
        partition.seed(self._lists, self._groups, self._seeds, lying["centroid"].copy())
        numbers = lying["number"][: self._seeds[SOWN]]
        within = (numbers >= 0) & (numbers < len(self._lists.sizes))
        self._renumbered = np.full(len(self._lists.sizes), -1, np.int32)
        self._renumbered[numbers[within]] = np.flatnonzero(within)

    def places(self, rows: Rows) -> bytes:
        """In which lists rows (n,) int32 are and how: what `place` takes. Also says which are in the index."""
        at = self._lists.home[rows] - 1
        inside = at >= 0
        places = np.zeros(len(rows), _PLACE)
        places["list"] = np.where(inside, at // CAPACITY, -1)
        places["sketch"][inside] = self._lists.sketches[at[inside] // CAPACITY, at[inside] % CAPACITY]
        return places.tobytes()

    def place(self, rows: Rows, places: bytes, wanted: npt.NDArray[np.bool_]) -> None:
        """Take in those of rows (n,) int32 that are wanted (n,) and were in the index that the places were taken from.

        As `add` for each, at a thirtieth of the cost after `expect`; after the last, `settle` until it is False.
        """
        known = np.frombuffer(places, _PLACE)
        taken = wanted & (known["list"] >= 0) & (known["list"] < len(self._renumbered))
        partition.place_many(
            *(self._lists, self._groups, self._seeds, np.array(rows[taken], np.int32)),
            *(self._renumbered[known["list"][taken]], known["sketch"][taken]),
        )
        self._all_changed()

    def holds(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """(n,): is each of rows (n,) in the index?"""
        held: npt.NDArray[np.bool_] = self._lists.home[rows] > 0
        return held

    def search(self, query: Vector, k: int, spare: int = 0) -> tuple[Rows, Cosines]:
        """The k + spare rows most similar to a code (384,) int8, best first: rows int32 and cosines float32.

        min(k + spare, len(self)) of them; none if k is 0. The effort is that for k, the spare ones make up for rows
        that the caller will not use.
        """
        code = query.reshape(1, DIM)
        (sketch,) = self.sketches(code, inverse_norms(code))
        return lists.search(
            self._lists,
            self._groups,
            self._codes,
            self._inverse,
            query,
            sketch,
            k + spare if k else 0,
            self._rows_scanned(k),
            ROWS_SCORED_BASE + ROWS_SCORED_PER_RESULT * k,
        )

    def _rows_scanned(self, k: int) -> int:
        share = min(1.0, (len(self) / _ROWS_SCANNED_OF) ** _ROWS_SCANNED_GROWTH)
        return int(share * (ROWS_SCANNED_BASE + ROWS_SCANNED_PER_RESULT * k))

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

    def _all_changed(self) -> None:
        """Every list shall be settled once, and nobody can be told what came."""
        self.arrivals.counts[0] += ARRIVALS_KEPT + 1
        self._changes = max(self._changes, _SETTLE_EVERY * int(self._lists.counts[USED]))

    def _make_room(self) -> None:
        if self._seeded:
            partition.make_room(self._lists, self._groups, self._seeds)

    def sketches(self, codes: Codes, inverse: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
        """(n, AXES): of codes (n, 384) int8 with 1/|code| (n,)."""
        return project(codes, inverse, self._axes, self._scales)

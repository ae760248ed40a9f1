"""What a device is told against lists in a dict, and by handles, as a device puts them together."""

import numpy as np
import numpy.typing as npt
import pytest

from kernels import cursors, reference
from kernels.cursors import ACKNOWLEDGED, BORN, CHANGED, NOTHING, PENDING, SAME, SLOTS, WHOLE, WRITTEN

PATTERNS, PROTOTYPES = 150, 20
Numbers = npt.NDArray[np.int64]


class Rows:
    """Rows of patterns and of prototypes with counts that wrap, and the same without an end."""

    def __init__(self, rng: np.random.Generator, ids: int) -> None:
        self.rng, self.id_max = rng, ids
        start = 65_530
        self.counts = {row: (start, start, start) for row in range(-PROTOTYPES, PATTERNS)}
        self.ids = {row: rng.bytes(16) for row in self.counts}
        self.columns = np.full((PATTERNS, 3), start, np.uint16), np.full((PROTOTYPES, 3), start, np.uint16)
        self.id_columns = np.empty((PATTERNS, 2), np.uint64), np.empty((PROTOTYPES, 2), np.uint64)
        for row in self.counts:
            self.change(row, BORN)

    def change(self, row: int, what: int) -> None:
        """Rate, count or time; all of it; or it is another pattern's now, with an id that others may have."""
        changed, written, born = self.counts[row]
        self.counts[row] = (
            *(changed + 1, changed + 1 if what in (WRITTEN, BORN) else written),
            changed + 1 if what == BORN else born,
        )
        kind, place = (0, row) if row >= 0 else (1, -1 - row)
        self.columns[kind][place] = np.array(self.counts[row]) & 65_535
        if what == BORN:
            self.ids[row] = int(self.rng.integers(self.id_max)).to_bytes(16, "big")
        self.id_columns[kind][place] = np.frombuffer(self.ids[row], np.uint64)


@pytest.mark.parametrize(("ids", "length"), [(1 << 60, 100), (40, 100), (6, 8), (3, 3), (1, 1)])
def test_histories_are_told_as_by_the_twin(ids: int, length: int, rng: np.random.Generator) -> None:
    rows, twin = Rows(rng, ids), reference.Cursor()
    words, sent = np.zeros(SLOTS, np.uint32), np.zeros(SLOTS, np.uint16)
    wanted = rng.choice(list(rows.counts), length, replace=False)
    for _ in range(400):
        for row in rng.choice(list(rows.counts), rng.integers(0, 12)).tolist():
            rows.change(row, int(rng.choice([CHANGED, WRITTEN, BORN], p=[0.6, 0.3, 0.1])))
        wanted = _other(wanted, list(rows.counts), length, rng)
        against = int(rng.choice([NOTHING, ACKNOWLEDGED, PENDING], p=[0.05, 0.35, 0.6]))
        handles, kinds, gone, removed, nameless = cursors.tell(
            words, sent, against, wanted.astype(np.int32), *rows.columns, *rows.id_columns
        )
        names = [name.tobytes() for name in removed]
        assert (handles.tolist(), kinds.tolist(), gone.tolist(), names, nameless) == twin.tell(
            against, wanted.tolist(), rows.counts, rows.ids
        )
        assert {column.dtype for column in (handles, kinds, gone)} == {np.dtype(np.uint8)}


def test_handles_lead_a_device_to_the_list_whatever_is_lost(rng: np.random.Generator) -> None:
    """It holds one of the two lists that it was sent last; by handles alone it gets from either to the next."""
    rows = Rows(rng, 1 << 60)
    words, sent = np.zeros(SLOTS, np.uint32), np.zeros(SLOTS, np.uint16)
    device: dict[int, tuple[int, tuple[int, int, int]]] = {}
    wanted, against = np.empty(0, np.int64), NOTHING
    for _ in range(2_000):
        for row in rng.choice(list(rows.counts), rng.integers(0, 6)).tolist():
            rows.change(row, int(rng.choice([CHANGED, WRITTEN, BORN])))
        wanted = _other(wanted, list(rows.counts), int(rng.integers(0, 101)), rng)
        handles, kinds, gone, _, _ = cursors.tell(
            words, sent, against, wanted.astype(np.int32), *rows.columns, *rows.id_columns
        )
        against = ACKNOWLEDGED
        if rng.random() < 0.5:
            against = PENDING
            assert not set(gone.tolist()) & set(handles.tolist())
            for handle in gone.tolist():
                del device[handle]
            for row, handle, kind in zip(wanted.tolist(), handles.tolist(), kinds.tolist(), strict=True):
                if kind == WHOLE:
                    device[handle] = row, rows.counts[row]
                elif kind != SAME:
                    known, (_, *embedding) = device[handle]
                    assert (known, tuple(embedding)) == (row, rows.counts[row][1:])
                    device[handle] = row, rows.counts[row]
            assert sorted(device.values()) == sorted((row, rows.counts[row]) for row in wanted.tolist())


@pytest.mark.parametrize("length", [100, 5, 0])
def test_a_list_is_unchanged_if_there_is_nothing_to_tell(length: int, rng: np.random.Generator) -> None:
    rows = Rows(rng, 1 << 60)
    words, sent = np.zeros(SLOTS, np.uint32), np.zeros(SLOTS, np.uint16)
    wanted, seen = rng.choice(list(rows.counts), length, replace=False), {False: 0, True: 0}
    for _ in range(300):
        for row in rng.choice(list(rows.counts), rng.choice([0, 0, 1])).tolist():
            rows.change(row, int(rng.choice([CHANGED, WRITTEN, BORN])))
        wanted = rng.permutation(wanted) if rng.random() < 0.7 else _other(wanted, list(rows.counts), length, rng)
        looked_at = words.copy(), sent.copy()
        unchanged = cursors.unchanged(*looked_at, wanted.astype(np.int32), *rows.columns)
        against = PENDING if rng.random() < 0.8 else ACKNOWLEDGED
        before = words.copy(), sent.copy()
        _, kinds, gone, _, _ = cursors.tell(
            words, sent, against, wanted.astype(np.int32), *rows.columns, *rows.id_columns
        )
        if against == PENDING:
            assert unchanged == (not kinds.any() and not len(gone))
            seen[unchanged] += 1
        if not unchanged or against == PENDING:
            expected_words, expected_sent = (words, sent) if unchanged else before
            assert np.array_equal(looked_at[0], expected_words) and np.array_equal(looked_at[1], expected_sent)
    assert seen[True] > 30 and (seen[False] > 30 or not length)


def _other(wanted: Numbers, rows: list[int], length: int, rng: np.random.Generator) -> Numbers:
    """Most of the rows again, in another order, and some that were not among them."""
    kept = rng.permutation(wanted)[: rng.integers(length * 3 // 4, length + 1)]
    others = rng.permutation(np.setdiff1d(rows, kept))
    return np.concatenate((kept, others[: length - len(kept)]))

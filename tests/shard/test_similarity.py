"""The index over real columns: rows added at once, hints good and bad, and every answer the exact scan's."""

import numpy as np
import numpy.typing as npt
import pytest

from constellation.model import DIM, Codes
from constellation.shard.similarity import ADDED_AT_ONCE_MAX, LIST_BYTES, SimilarityIndex
from kernels import compiled, reference
from kernels.codes import inverse_norms

pytestmark = pytest.mark.skipif(not compiled.JIT, reason="many rows")

ROWS = 3_000


@pytest.fixture
def codes(rng: np.random.Generator) -> Codes:
    """(ROWS, 384) around a hundred directions, some of them equal."""
    centres = rng.standard_normal((100, DIM))
    made = centres[rng.integers(0, 100, ROWS)] + 0.5 * rng.standard_normal((ROWS, DIM))
    made[::50] = made[0]
    rounded: Codes = np.rint(made * (127 / np.abs(made).max(axis=1, keepdims=True))).astype(np.int8)
    return rounded


def empty(codes: Codes) -> SimilarityIndex:
    return SimilarityIndex(codes, inverse_norms(codes))


def add_all(index: SimilarityIndex, rows: npt.NDArray[np.int32]) -> None:
    for start in range(0, len(rows), ADDED_AT_ONCE_MAX):
        index.add_many(rows[start : start + ADDED_AT_ONCE_MAX])


def finish(index: SimilarityIndex) -> None:
    for _ in range(10_000):
        if not index.settle():
            return
    raise AssertionError("settling does not end")


def check_exact(index: SimilarityIndex, codes: Codes, rows: npt.NDArray[np.int32]) -> None:
    """A query for every row looks at every row; one for few finds at least that many."""
    inverse = inverse_norms(codes)
    assert len(index) == len(rows)
    for query in codes[:3]:
        found, cosines = index.search(query, len(rows) + 5)
        wanted, wanted_cosines = reference.search(codes, inverse, rows, query, len(rows))
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(cosines, wanted_cosines)
        assert len(index.search(query, 10)[0]) == min(10, len(rows))


def test_rows_added_at_once_are_found_as_rows_added_one_by_one(codes: Codes, rng: np.random.Generator) -> None:
    index = empty(codes)
    rows = rng.permutation(ROWS).astype(np.int32)
    add_all(index, rows[: ROWS // 2])
    for row in rows[ROWS // 2 :].tolist():
        index.add(row)
    check_exact(index, codes, np.sort(rows))
    finish(index)
    check_exact(index, codes, np.sort(rows))
    assert all(row in index for row in range(ROWS))


def test_rows_may_come_strided_read_only_or_not_at_all(codes: Codes) -> None:
    index = empty(codes)
    before = compiled.specialisations()
    index.add_many(np.zeros(0, np.int32))
    rows = np.arange(200, dtype=np.int32)
    rows.flags.writeable = False
    index.add_many(rows[::2])
    index.add_many(rows[1::2])
    check_exact(index, codes, rows)
    assert compiled.specialisations() - before <= 20, "one form of each kernel at most"


def test_a_hint_brings_the_lists_back(codes: Codes) -> None:
    rows = np.arange(ROWS, dtype=np.int32)
    first = empty(codes)
    add_all(first, rows)
    finish(first)
    hint = first.layout()
    index = empty(codes)
    index.expect(hint)
    assert index.list_count == first.list_count
    assert index.layout() == hint
    assert len(index.search(codes[0], 5)[0]) == 0
    add_all(index, rows[: ROWS // 2])
    check_exact(index, codes, rows[: ROWS // 2])
    add_all(index, rows[ROWS // 2 :])
    check_exact(index, codes, rows)
    finish(index)
    check_exact(index, codes, rows)
    assert index.list_count < 1.3 * first.list_count


def test_rows_change_while_the_lists_are_seeded(codes: Codes, rng: np.random.Generator) -> None:
    """More centroids than rows can fill, so that room must be made again and again."""
    index = empty(codes)
    index.expect(rng.bytes(ROWS * LIST_BYTES))
    held: set[int] = set()
    for _ in range(3):
        add_all(index, np.array(sorted(set(range(ROWS)) - held), np.int32))
        held = set(range(ROWS))
        for row in rng.permutation(ROWS)[: ROWS - 40].tolist():
            index.remove(row)
            held.remove(row)
        check_exact(index, codes, np.array(sorted(held), np.int32))
        for row in sorted(set(range(500)) - held):
            index.add(row)
            held.add(row)
    check_exact(index, codes, np.array(sorted(held), np.int32))
    finish(index)
    check_exact(index, codes, np.array(sorted(held), np.int32))


def test_rows_go_back_to_their_places(codes: Codes) -> None:
    """Numbers of lists that are in use no more in between; rows that were not in the index stay out."""
    rows = np.arange(ROWS, dtype=np.int32)
    first = empty(codes)
    add_all(first, rows)
    for row in range(0, ROWS, 3):
        first.remove(row)
    finish(first)
    index = empty(codes)
    index.expect(first.layout())
    index.place(rows[::-1], first.places(rows[::-1]), np.ones(ROWS, np.bool_))
    assert index.holds(rows).tolist() == [row % 3 != 0 for row in range(ROWS)] == first.holds(rows).tolist()
    check_exact(index, codes, rows[rows % 3 != 0])
    alike = sum(np.array_equal(index.search(code, 9)[0], first.search(code, 9)[0]) for code in codes[:200])
    assert alike > 190
    finish(index)
    check_exact(index, codes, rows[rows % 3 != 0])


@pytest.mark.parametrize("layout", [0, 7, 300])
def test_wrong_places_cost_time_but_no_result(codes: Codes, rng: np.random.Generator, layout: int) -> None:
    """Those of other rows, and a layout of nothing."""
    rows = np.arange(ROWS, dtype=np.int32)
    other = empty(codes)
    add_all(other, rows)
    index = empty(codes)
    index.expect(rng.bytes(layout * LIST_BYTES))
    index.place(rows, other.places(rng.permutation(ROWS).astype(np.int32)), rows % 2 == 0)
    add_all(index, rows[1::2])
    finish(index)
    assert index.holds(rows).all() and len(index) == ROWS
    assert sorted(index.search(codes[0], ROWS)[0].tolist()) == rows.tolist()


@pytest.mark.parametrize("length", [1, LIST_BYTES - 1, LIST_BYTES + 1, 40 * LIST_BYTES + 7])
def test_a_hint_of_a_wrong_length_is_ignored(codes: Codes, length: int) -> None:
    index = empty(codes)
    index.expect(bytes(length))
    assert index.list_count == 0
    add_all(index, np.arange(ROWS, dtype=np.int32))
    finish(index)
    check_exact(index, codes, np.arange(ROWS, dtype=np.int32))


@pytest.mark.parametrize("count", [0, 1, 5, 60, 5_000])
@pytest.mark.parametrize("held", [0, 1, 50, ROWS])
def test_any_hint_costs_time_but_no_result(codes: Codes, rng: np.random.Generator, count: int, held: int) -> None:
    index = empty(codes)
    index.expect(rng.bytes(count * LIST_BYTES))
    add_all(index, np.arange(held, dtype=np.int32))
    check_exact(index, codes, np.arange(held, dtype=np.int32))
    finish(index)
    check_exact(index, codes, np.arange(held, dtype=np.int32))
    assert index.list_count <= max(1, held // 32)


def test_a_recovered_index_finds_what_one_grown_row_by_row_finds(rng: np.random.Generator) -> None:
    """20,000 rows, of which a query looks at a part: the recall of both, beside the exact scan."""
    centres = rng.standard_normal((300, DIM))
    made = centres[rng.integers(0, 300, 20_000)] + 0.9 * rng.standard_normal((20_000, DIM))
    codes = np.rint(made * (127 / np.abs(made).max(axis=1, keepdims=True))).astype(np.int8)
    rows = np.arange(len(codes), dtype=np.int32)
    grown, recovered = empty(codes), empty(codes)
    for row in rows.tolist():
        grown.add(row)
        grown.settle()
    recovered.expect(grown.layout())
    add_all(recovered, rows)
    finish(recovered)
    queries = codes[rng.integers(0, len(codes), 60)]
    wanted = [reference.search(codes, inverse_norms(codes), rows, query, 20)[0] for query in queries]
    recalls = [
        np.mean(
            [
                len(np.intersect1d(index.search(query, 20)[0], best)) / 20
                for query, best in zip(queries, wanted, strict=True)
            ]
        )
        for index in (grown, recovered)
    ]
    assert recalls[1] > recalls[0] - 0.02

"""Inverted lists: what holds after any change, exact answers where everything is looked at, and arrays long enough.

The logic runs as plain Python with lists of eight places, where a hundred rows meet every case; the compiled kernels
run with their own constants on what is worst for them.
"""

from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kernels import compiled, reference
from tests.kernels.levels import LISTS, Levels, Sketches, in_use, sketches_of
from tests.kernels.levels import small_lists as make_small_lists
from tests.kernels.material import same, unit

SMALL = make_small_lists()
MODULES = [pytest.param(SMALL, id="small"), pytest.param(LISTS, id="compiled")] if compiled.JIT else [SMALL]
over_modules = pytest.mark.parametrize("module", MODULES)

Codes = npt.NDArray[np.int8]


class ListsMachine(RuleBasedStateMachine):
    """Rows around a few places that repeat, drift and vanish."""

    rows = 120

    def __init__(self) -> None:
        super().__init__()
        self.levels = Levels(SMALL, self.rows, slack=2)
        self.free = list(range(self.rows))

    @rule(seed=st.integers(0, 5), n=st.integers(1, 30), spread=st.sampled_from([0, 1, 20, 200]))
    def insert_near_one_place(self, seed: int, n: int, spread: int) -> None:
        rng = np.random.default_rng(seed)
        place = rng.integers(-99, 100, SMALL.AXES)
        noise = np.random.default_rng(len(self.free)).integers(-spread, spread + 1, (n, SMALL.AXES))
        made = sketches_of(place + noise + 0.5, SMALL)
        for sketch in made[: len(self.free)]:
            self.levels.insert(self.free.pop(), sketch)

    @precondition(lambda self: self.levels.held)
    @rule(at=st.integers(0, 200), n=st.integers(1, 12))
    def remove_some(self, at: int, n: int) -> None:
        for _ in range(min(n, len(self.levels.held))):
            self._remove(sorted(self.levels.held)[at % len(self.levels.held)])

    @precondition(lambda self: self.levels.held)
    @rule(at=st.integers(0, 200), left=st.integers(0, 8))
    def thin_out_a_list(self, at: int, left: int) -> None:
        level = self.levels.lists
        used = in_use(level)
        k = used[at % len(used)]
        for row in level.rows[k, : level.sizes[k]].tolist()[left:]:
            self._remove(row)

    @precondition(lambda self: self.levels.lists.counts[0])
    @rule(times=st.integers(1, 3))
    def settle_every_list(self, times: int) -> None:
        for _ in range(times):
            for k in range(self.levels.lists.counts[0] + 1):
                self.levels.settle(k)

    @rule()
    def remove_all(self) -> None:
        for row in sorted(self.levels.held):
            self._remove(row)

    def _remove(self, row: int) -> None:
        self.levels.remove(row)
        self.free.append(row)

    @invariant()
    def all_holds(self) -> None:
        self.levels.check()


ListsMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
test_every_row_is_in_one_list_and_every_list_in_one_group: Any = ListsMachine.TestCase


class SeededLevels(Levels):
    """Levels that start from centroids somebody kept, used as the index uses them."""

    def __init__(self, module: Any, rows: int, slack: int = 64) -> None:
        super().__init__(module, rows, slack)
        self.seeds = np.zeros(2, np.int64)

    def seed(self, centroids: Sketches) -> None:
        self.module.seed(self.lists, self.groups, self.seeds, centroids)

    def insert(self, row: int, sketch: Sketches) -> None:
        self.module.make_room(self.lists, self.groups, self.seeds)
        super().insert(row, sketch)

    def insert_many(self, rows: list[int], made: Sketches) -> None:
        self.module.insert_many(self.lists, self.groups, self.seeds, np.array(rows, np.int32), made)
        for row, sketch in zip(rows, made, strict=True):
            self.held[row], self._packed[row] = sketch, reference.pack(sketch)

    def place_many(self, rows: npt.NDArray[np.int32], places: npt.NDArray[np.int32], packed: Any) -> None:
        self.module.place_many(self.lists, self.groups, self.seeds, rows, places, packed)
        unpacked = np.empty(self.module.AXES, np.int8)
        for row, sketch in zip(rows.tolist(), packed, strict=True):
            self.module.unpack(sketch, unpacked)
            self.held[row], self._packed[row] = unpacked.copy(), sketch

    def remove(self, row: int) -> None:
        self.module.make_room(self.lists, self.groups, self.seeds)
        super().remove(row)

    def weed(self) -> None:
        self.module.weed(self.lists, self.groups, self.seeds)

    @property
    def seeded(self) -> bool:
        return bool(self.seeds[0] < self.seeds[1])

    def check(self) -> None:
        """All invariants; while lists are seeded, those that `weed` has not seen may be sparse."""
        assert self.seeds[1] <= self.lists.counts[0]
        if not self.seeded:
            return super().check()
        self._check_level(self.lists, self._packed)
        lists = in_use(self.lists)
        self._check_level(self.groups, {k: reference.pack(self.lists.centroids[k]) for k in lists})
        assert all(self.groups.sizes[g] > 0 for g in in_use(self.groups))
        sparse = [k for k in lists if self.lists.sizes[k] < self.module.SPARSE]
        assert len(lists) == 1 or all(self.seeds[0] <= k < self.seeds[1] for k in sparse)
        assert self.lists.counts[0] <= self.rows // self.module.SPARSE + 2
        assert self.groups.counts[0] <= self.lists.counts[0]


class SeededMachine(ListsMachine):
    """The same, from lists that are prepared for other rows or for none, and now and then weeded a little."""

    levels: SeededLevels

    def __init__(self) -> None:
        super().__init__()
        self.levels = SeededLevels(SMALL, self.rows, slack=2)

    @initialize(seed=st.integers(0, 5), n=st.integers(0, 70), spread=st.sampled_from([0, 20, 200]))
    def seed(self, seed: int, n: int, spread: int) -> None:
        rng = np.random.default_rng(seed)
        place = rng.integers(-99, 100, SMALL.AXES)
        self.levels.seed(sketches_of(place + rng.integers(-spread, spread + 1, (n, SMALL.AXES)) + 0.5, SMALL))

    @precondition(lambda self: not self.levels.held)
    @rule(n=st.integers(0, 70))
    def seed_again(self, n: int) -> None:
        self.seed(n, n, 200)

    @rule(seed=st.integers(0, 5), n=st.integers(1, 30))
    def insert_many(self, seed: int, n: int) -> None:
        n = min(n, len(self.free))
        made = sketches_of(np.random.default_rng(seed).integers(-99, 100, (n, SMALL.AXES)) + 0.5, SMALL)
        self.levels.insert_many([self.free.pop() for _ in range(n)], made)

    @rule()
    def weed(self) -> None:
        self.levels.weed()


SeededMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
test_seeded_lists_hold_every_row_and_have_room: Any = SeededMachine.TestCase


def clustered(module: SimpleNamespace, n: int, clusters: int, noise: float, seed: int) -> Codes:
    """(n, AXES) codes around so many directions."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, module.AXES))
    made = centres[rng.integers(0, clusters, n)] + noise * rng.standard_normal((n, module.AXES))
    codes: Codes = np.rint(made * (127 / np.abs(made).max(axis=1, keepdims=True))).astype(np.int8)
    return codes


def filled(module: SimpleNamespace, codes: Codes) -> Levels:
    levels = Levels(module, len(codes))
    for row, sketch in enumerate(sketches_of(codes, module)):
        levels.insert(row, sketch)
    return levels


def scale(module: SimpleNamespace, rows_in_lists: int) -> int:
    """So many rows of a module with small lists, for one with large lists."""
    return int(rows_in_lists * module.CAPACITY // SMALL.CAPACITY)


@over_modules
@pytest.mark.parametrize("spread", [0, 3, 60])
def test_lists_are_few_whatever_comes_and_goes(module: SimpleNamespace, spread: int, rng: np.random.Generator) -> None:
    """Many equal rows (spread 0), near ones and scattered ones: filled, thinned at random, filled, emptied."""
    n = scale(module, 250)
    base = rng.integers(-80, 80, module.AXES)
    made = sketches_of(base + rng.integers(-spread, spread + 1, (n, module.AXES)) + 0.5, module)
    levels = Levels(module, n, slack=2)
    for row in range(n):
        levels.insert(row, made[row])
    levels.check()
    for round_number in range(2):
        for row in rng.permutation(n)[: n - 5 * (round_number + 1)].tolist():
            levels.remove(row)
        levels.check()
        for row in sorted(set(range(n)) - set(levels.held)):
            levels.insert(row, made[row])
        levels.check()
    for k in range(levels.lists.counts[0]):
        levels.settle(k)
    levels.check()
    for row in range(n):
        levels.remove(row)
    levels.check()
    assert len(in_use(levels.lists)) == 1


@over_modules
def test_lists_are_few_when_topics_drift(module: SimpleNamespace, rng: np.random.Generator) -> None:
    """The place where rows come in wanders, the oldest leave: what was a topic becomes empty lists."""
    n = scale(module, 60)
    levels = Levels(module, n, slack=2)
    waiting: deque[int] = deque(range(n))
    place = rng.standard_normal(module.AXES)
    lists_used = 0
    for step in range(5 * n):
        place += 0.02 * rng.standard_normal(module.AXES)
        row = waiting.popleft()
        if row in levels.held:
            levels.remove(row)
        near = place + 0.2 * rng.standard_normal(module.AXES)
        levels.insert(row, sketches_of(near[None], module)[0])
        waiting.append(row)
        if step % 10 == 0 and levels.lists.counts[0]:
            levels.settle(step // 10 % int(levels.lists.counts[0]))
        if step % (n // 6) == 0:
            levels.check()
            lists_used = max(lists_used, len(in_use(levels.lists)))
    levels.check()
    assert 2 < lists_used <= n // module.SPARSE


@over_modules
def test_insert_and_remove_at_one_place_use_no_more_lists(module: SimpleNamespace, rng: np.random.Generator) -> None:
    """A list on the edge of a split, and lists on the edge of being dissolved, crossed again and again."""
    n = scale(module, 30)
    made = sketches_of(rng.standard_normal((n, module.AXES)), module)
    levels = Levels(module, n, slack=2)
    for row in range(n - 2):
        levels.insert(row, made[row])
    for _ in range(3 * module.CAPACITY):
        levels.insert(n - 1, made[0])
        levels.insert(n - 2, made[0])
        levels.remove(n - 1)
        levels.remove(n - 2)
    levels.check()
    biggest = int(np.argmax(levels.lists.sizes))
    for _ in range(10):  # one list down to the edge, over it, and back
        rows = levels.lists.rows[biggest, : levels.lists.sizes[biggest]].tolist()
        for row in rows[: max(1, len(rows) - module.SPARSE + 1)]:
            sketch = levels.held[row]
            levels.remove(row)
            levels.insert(row, sketch)
        levels.check()


@over_modules
def test_dissolved_lists_flow_into_full_ones(module: SimpleNamespace, rng: np.random.Generator) -> None:
    """Every list but those at one place is thinned out, so that their rows fill and split what is near."""
    n = scale(module, 120)
    codes = clustered(module, n, 6, 0.4, 1)
    levels = filled(module, codes)
    for _ in range(6):
        for k in in_use(levels.lists):
            rows = levels.lists.rows[k, : levels.lists.sizes[k]].tolist()
            for row in rows[: len(rows) - module.SPARSE]:
                levels.remove(row)
        levels.check()
        lightest = in_use(levels.lists)[0]
        for row in levels.lists.rows[lightest, : levels.lists.sizes[lightest]].tolist():
            levels.remove(row)
        levels.check()
        if len(in_use(levels.lists)) == 1:
            break


@over_modules
@pytest.mark.parametrize("kind", ["equal", "two points", "one far", "spread"])
def test_a_split_leaves_a_quarter_on_each_side(module: SimpleNamespace, kind: str, rng: np.random.Generator) -> None:
    n = module.CAPACITY
    made: Sketches = np.tile(sketches_of(rng.standard_normal((1, module.AXES)), module), (n, 1))
    if kind == "two points":
        made[: n // 8] = -made[0]
    elif kind == "one far":
        made[-1] = -made[0]
    elif kind == "spread":
        made = sketches_of(rng.standard_normal((n, module.AXES)), module)
    levels = Levels(module, n)
    for row in range(n):
        levels.insert(row, made[row])
    levels.check()
    sizes = [int(levels.lists.sizes[k]) for k in in_use(levels.lists)]
    assert len(sizes) == 2 and sum(sizes) == n and min(sizes) >= n // 4


@over_modules
def test_settle_never_fills_a_list(module: SimpleNamespace, rng: np.random.Generator) -> None:
    """All rows want to be in one list: it takes what it has places for, but keeps one."""
    n = scale(module, 60)
    codes = clustered(module, n, 3, 0.5, 2)
    levels = filled(module, codes)
    wanted = in_use(levels.lists)[0]
    for k in in_use(levels.lists):
        if k != wanted:
            levels.lists.centroids[k] = -levels.lists.centroids[wanted]
    for k in range(levels.lists.counts[0]):
        levels.settle(k)
    levels.check()


@over_modules
@pytest.mark.parametrize("held", [1, 5, 40, 400])
def test_a_search_that_looks_at_everything_is_exact(
    module: SimpleNamespace, held: int, rng: np.random.Generator
) -> None:
    codes = clustered(module, 500, 5, 0.5, held)
    codes[::3] = codes[0]
    inverse = unit(codes)
    levels = filled(module, codes)
    for row in rng.permutation(500)[held:].tolist():
        levels.remove(row)
    rows = np.array(sorted(levels.held), np.int32)
    for k in (0, 1, 3, held, held + 7):
        for query in (codes[0], codes[7], clustered(module, 1, 1, 1, k)[0]):
            got_rows, got_cosines = levels.search(codes, inverse, query, k, held, held)
            wanted_rows, wanted_cosines = reference.search(codes, inverse, rows, query, k)
            same(got_rows, wanted_rows)
            same(got_cosines, wanted_cosines)
            exact = codes[got_rows].astype(float) @ query / np.linalg.norm(codes[got_rows].astype(float), axis=1)
            np.testing.assert_allclose(got_cosines, exact / np.linalg.norm(query.astype(float)), atol=1e-6)


@over_modules
@pytest.mark.parametrize("budget", [0, 1, 30, 10_000])
def test_any_budget_gives_as_many_results_as_there_are(
    module: SimpleNamespace, budget: int, rng: np.random.Generator
) -> None:
    codes = clustered(module, 300, 4, 0.5, budget)
    levels = filled(module, codes)
    for row in range(0, 300, 2):
        levels.remove(row)
    for k in (1, 10, 149, 150, 151, 500):
        rows, cosines = levels.search(codes, unit(codes), codes[1], k, budget, 0)
        assert len(rows) == len(set(rows.tolist())) == min(k, 150)
        assert set(rows.tolist()) <= levels.held.keys()
        assert (np.diff(cosines) <= 0).all()


def test_lists_as_sparse_as_they_get_are_all_looked_at(rng: np.random.Generator) -> None:
    """The number of lists to look at is a guess from the rows wanted: here it is too low, and must be raised."""
    codes = clustered(SMALL, 600, 12, 0.5, 4)
    levels = filled(SMALL, codes)
    for k in in_use(levels.lists):
        for row in levels.lists.rows[k, : levels.lists.sizes[k]].tolist()[SMALL.SPARSE :]:
            levels.remove(row)
    assert len(in_use(levels.lists)) * (SMALL.SPARSE + 1) >= len(levels.held)
    inverse = unit(codes)
    for k in (len(levels.held), len(levels.held) - 9):
        rows, _ = levels.search(codes, inverse, codes[0], k, 0, 0)
        assert len(set(rows.tolist())) == k


def weeded(levels: SeededLevels) -> SeededLevels:
    while levels.seeded:
        levels.weed()
    return levels


@over_modules
def test_lists_seeded_as_they_were_take_the_rows_back(module: SimpleNamespace) -> None:
    """No result is missing on the way, hardly a list splits, and nothing sparse is left."""
    n = scale(module, 250)
    codes = clustered(module, n, 6, 0.4, 5)
    made, inverse = sketches_of(codes, module), unit(codes)
    before = filled(module, codes)
    centroids = before.lists.centroids[in_use(before.lists)]
    levels = SeededLevels(module, n)
    levels.seed(centroids)
    levels.check()
    assert len(in_use(levels.lists)) == len(centroids)
    assert len(levels.search(codes, inverse, codes[0], 5, 5, 5)[0]) == 0
    done = 0
    for upto in (1, 3, n // 10, n // 2, n):
        levels.insert_many(list(range(done, upto)), made[done:upto])
        levels.check()
        done = upto
        rows = np.arange(done, dtype=np.int32)
        for k in (1, 7, done + 1):
            same(
                levels.search(codes, inverse, codes[2], k, done, done)[0],
                reference.search(codes, inverse, rows, codes[2], k)[0],
            )
        assert len(levels.search(codes, inverse, codes[2], done, 0, 0)[0]) == done
    weeded(levels).check()
    assert len(centroids) / 2 < len(in_use(levels.lists)) < len(centroids) * 3 / 2
    same(
        levels.search(codes, inverse, codes[2], n, n, n)[0],
        reference.search(codes, inverse, np.arange(n, dtype=np.int32), codes[2], n)[0],
    )


@over_modules
@pytest.mark.parametrize("kind", ["as they were", "shuffled", "one", "none"])
def test_rows_go_to_their_places_or_to_the_nearest_list(
    module: SimpleNamespace, kind: str, rng: np.random.Generator
) -> None:
    """Whatever the places are, every row is in one list; if they are right, in its own."""
    n = scale(module, 250)
    codes = clustered(module, n, 6, 0.4, 5)
    before = filled(module, codes)
    used = in_use(before.lists)
    was = before.lists.home[:n] - 1
    packed = before.lists.sketches[was // module.CAPACITY, was % module.CAPACITY]
    was = np.searchsorted(used, was // module.CAPACITY).astype(np.int32)
    places = {
        "as they were": was,
        "shuffled": rng.permutation(was),
        "one": np.zeros(n, np.int32),
        "none": rng.choice(np.array([-1, len(used), 2**31 - 1], np.int32), n),
    }[kind]
    levels = SeededLevels(module, n)
    levels.seed(before.lists.centroids[used])
    for rows in np.array_split(np.arange(n, dtype=np.int32), 5):
        levels.place_many(rows, places[rows], packed[rows])
        levels.check()
    if kind == "as they were":
        same(levels.lists.home[:n] - 1 >= 0, np.ones(n, bool))
        same(((levels.lists.home[:n] - 1) // module.CAPACITY).astype(np.int32), was)
    weeded(levels).check()
    same(
        levels.search(codes, unit(codes), codes[2], n, n, n)[0],
        reference.search(codes, unit(codes), np.arange(n, dtype=np.int32), codes[2], n)[0],
    )


@over_modules
@pytest.mark.parametrize("kind", ["far too many", "equal", "zero", "lowest", "the other side"])
def test_any_centroids_will_do_and_leave_room(module: SimpleNamespace, kind: str, rng: np.random.Generator) -> None:
    """All rows come to a few places, and split there as often as they can, beside lists that nobody needs."""
    n = scale(module, 400)
    codes = clustered(module, n, 3, 0.2, 6)
    made = sketches_of(codes, module)
    centroids = {
        "far too many": rng.integers(-128, 128, (n, module.AXES)).astype(np.int8),
        "equal": np.tile(made[0], (n, 1)),
        "zero": np.zeros((n, module.AXES), np.int8),
        "lowest": np.full((n, module.AXES), -128, np.int8),
        "the other side": -made,
    }[kind]
    levels = SeededLevels(module, n, slack=2)
    levels.seed(centroids)
    levels.check()
    assert len(in_use(levels.lists)) == n // module.SPARSE - module.SPARSE
    for start in range(0, n, n // 10):
        levels.insert_many(list(range(start, start + n // 10)), made[start : start + n // 10])
        levels.check()
    for row in range(0, n, 3):
        levels.remove(row)
    levels.check()
    weeded(levels).check()
    for row in levels.held.copy():
        levels.remove(row)
    levels.check()


@over_modules
def test_rows_of_many_sparse_lists_are_poured_together(module: SimpleNamespace) -> None:
    """One row in each of as many lists as there may be: the next splits make room first."""
    n = scale(module, 60)
    made = sketches_of(clustered(module, n, n, 0, 7), module)
    levels = SeededLevels(module, n, slack=2)
    levels.seed(made)
    seeded = len(in_use(levels.lists))
    levels.insert_many(list(range(seeded)), made[:seeded])
    levels.check()
    rest = list(range(seeded, n))
    levels.insert_many(rest, np.tile(made[0], (len(rest), 1)))
    levels.check()
    weeded(levels).check()


@over_modules
def test_seeds_without_rows_are_given_up(module: SimpleNamespace, rng: np.random.Generator) -> None:
    levels = SeededLevels(module, scale(module, 200))
    levels.seed(sketches_of(rng.standard_normal((20, module.AXES)), module))
    levels.weed()
    weeded(levels).check()
    assert len(in_use(levels.lists)) == 1
    levels.seed(sketches_of(rng.standard_normal((20, module.AXES)), module))
    levels.check()
    assert len(in_use(levels.lists)) == 21


@over_modules
def test_levels_too_small_to_seed_are_left_alone(module: SimpleNamespace, rng: np.random.Generator) -> None:
    levels = SeededLevels(module, 3)
    levels.seed(sketches_of(rng.standard_normal((9, module.AXES)), module))
    assert not levels.seeded and in_use(levels.lists) == []
    levels.insert_many([1, 2], sketches_of(rng.standard_normal((2, module.AXES)), module))
    levels.check()


@over_modules
def test_nothing_is_found_in_empty_levels(module: SimpleNamespace) -> None:
    codes = clustered(module, 2, 1, 0.5, 1)
    levels = Levels(module, 2)
    assert len(levels.search(codes, unit(codes), codes[0], 5, 5, 5)[0]) == 0
    levels.insert(1, sketches_of(codes, module)[1])
    assert levels.search(codes, unit(codes), codes[0], 5, 5, 5)[0].tolist() == [1]
    levels.remove(1)
    levels.check()
    assert len(levels.search(codes, unit(codes), codes[0], 5, 5, 5)[0]) == 0


@pytest.mark.skipif(not compiled.JIT, reason="many rows")
def test_a_search_of_a_tenth_of_the_rows_finds_most_of_the_nearest(rng: np.random.Generator) -> None:
    codes = clustered(LISTS, 20_000, 200, 0.7, 3)
    inverse = unit(codes)
    levels = filled(LISTS, codes)
    rows = np.arange(len(codes), dtype=np.int32)
    found = 0
    for query in codes[rng.integers(0, len(codes), 50)]:
        got, _ = levels.search(codes, inverse, query, 50, 2_000, 200)
        found += len(np.intersect1d(got, reference.search(codes, inverse, rows, query, 50)[0]))
    assert found / 50 / 50 > 0.9


def test_a_packed_sketch_is_that_of_its_twin() -> None:
    """Every int8 in either half of a byte."""
    for low in range(-128, 128):
        sketch = np.array([low, -low - 1, 5, low], np.int8)
        packed = np.empty(2, np.uint8)
        SMALL.pack(sketch, packed)
        same(packed, reference.pack(sketch))

"""Trend counts: credits, the turn of hours, debits and the k best, against counts that never roll."""

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kernels import reference, trends
from tests.kernels.material import same

ITEMS = 3
START_HOUR = 490_000


class TrendsMachine(RuleBasedStateMachine):
    """The kernels on a ring, the twin on a dict of absolute hours."""

    decay = 0.95

    def __init__(self) -> None:
        super().__init__()
        self.now = START_HOUR
        self.counts, self.scores = trends.empty_counts(ITEMS), np.zeros(ITEMS)
        self.twin = reference.Trends(self.decay)

    @rule(item=st.integers(0, ITEMS - 1), samples=st.integers(0, 1_000_000))
    def credit(self, item: int, samples: int) -> None:
        assert trends.credit(self.counts, self.scores, item, self.now, samples) == samples
        self.twin.credit(item, self.now, samples)

    @rule(hours=st.one_of(st.integers(-3, 3), st.integers(100, 400)))
    def roll(self, hours: int) -> None:
        to_hour = self.now + hours
        trends.roll_hours(self.counts, self.scores, ITEMS, self.now, to_hour, self.decay)
        self.now = max(self.now, to_hour)

    @rule(item=st.integers(0, ITEMS - 1), samples=st.integers(0, 1_500_000), back=st.integers(-2, 200))
    def debit(self, item: int, samples: int, back: int) -> None:
        got = trends.debit(self.counts, self.scores, item, samples, self.now, self.now - back, self.decay)
        assert got == self.twin.debit(item, samples, self.now, self.now - back)

    @rule()
    def recompute(self) -> None:
        trends.recompute_scores(self.counts, self.scores, 0, ITEMS, self.now, self.decay)

    @invariant()
    def agree(self) -> None:
        for item in range(ITEMS):
            wanted = self.twin.score(item, self.now)
            assert self.scores[item] == pytest.approx(wanted, rel=1e-9, abs=1e-6)
            if wanted == 0:
                assert self.scores[item] == 0, "rounding left over makes a trend of nothing"
        held = [[self.twin.count(item, self.now - age, self.now) for item in range(ITEMS)] for age in range(168)]
        ring = [self.counts[(self.now - age) % trends.HOURS].tolist() for age in range(168)]
        assert ring == held


TrendsMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
test_trends_agree_with_counts_that_never_roll: Any = TrendsMachine.TestCase


@pytest.mark.parametrize("gap", [1, 2, 167, 168, 169, 336, 10_000])
def test_one_jump_equals_hour_by_hour(gap: int) -> None:
    rng = np.random.default_rng(gap)
    jumped = rng.integers(0, 5, (trends.HOURS, 2)).astype(np.uint32)
    jumped_scores = np.zeros(2)
    trends.recompute_scores(jumped, jumped_scores, 0, 2, START_HOUR, 0.95)
    stepped, stepped_scores = jumped.copy(), jumped_scores.copy()
    trends.roll_hours(jumped, jumped_scores, 2, START_HOUR, START_HOUR + gap, 0.95)
    for hour in range(START_HOUR, START_HOUR + min(gap, 200)):
        trends.roll_hours(stepped, stepped_scores, 2, hour, hour + 1, 0.95)
    same(jumped, stepped)
    np.testing.assert_allclose(jumped_scores, stepped_scores, rtol=1e-9)
    trends.recompute_scores(stepped, stepped_scores, 0, 2, START_HOUR + gap, 0.95)
    np.testing.assert_allclose(jumped_scores, stepped_scores, rtol=1e-9)
    if gap >= 168:
        assert not jumped.any() and not jumped_scores.any()


@pytest.mark.parametrize(("dtype", "most"), [(np.uint32, 1_000_000), (np.int64, 1 << 40)])
def test_recompute_agrees_with_definition_for_a_part_of_the_items(dtype: type[np.integer[Any]], most: int) -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, most, (trends.HOURS, 5)).astype(dtype)
    scores = np.full(5, -1.0)
    trends.recompute_scores(counts, scores, 1, 4, START_HOUR, 0.9)
    ages = (START_HOUR - np.arange(trends.HOURS)) % trends.HOURS
    wanted = (counts * 0.9 ** ages[:, None]).sum(axis=0)
    np.testing.assert_allclose(scores[1:4], wanted[1:4], rtol=1e-12)
    assert scores[0] == scores[4] == -1


def test_items_beyond_those_in_use_are_left_alone() -> None:
    counts, scores = trends.empty_counts(3), np.ones(3)
    counts[:] = 1
    trends.roll_hours(counts, scores, 2, START_HOUR, START_HOUR + 500, 0.95)
    assert counts[:, :2].sum() == 0 and counts[:, 2].sum() == trends.HOURS
    assert scores.tolist() == [0, 0, 1]


def test_debit_of_a_later_hour_starts_now_and_the_oldest_hour_goes_last() -> None:
    counts, scores = trends.empty_counts(1), np.zeros(1)
    oldest = START_HOUR - trends.HOURS + 1
    counts[oldest % trends.HOURS, 0] = 5
    counts[START_HOUR % trends.HOURS, 0] = 3
    assert trends.debit(counts, scores, 0, 4, START_HOUR, START_HOUR + 1, 0.95) == 4
    assert counts[START_HOUR % trends.HOURS, 0] == 0 and counts[oldest % trends.HOURS, 0] == 4
    assert scores[0] == pytest.approx(4 * 0.95**167)
    assert trends.debit(counts, scores, 0, 9, START_HOUR, oldest - 1, 0.95) == 0
    assert trends.debit(counts, scores, 0, 9, START_HOUR, oldest, 0.95) == 4 and scores[0] == 0


def test_without_decay_scores_are_plain_counts() -> None:
    counts, scores = trends.empty_counts(1), np.zeros(1)
    for hour in range(START_HOUR, START_HOUR + 200):
        trends.roll_hours(counts, scores, 1, hour - 1, hour, 1.0)
        trends.credit(counts, scores, 0, hour, 2)
    assert scores[0] == 2 * trends.HOURS


def test_credit_stops_at_the_largest_count() -> None:
    counts, scores = trends.empty_counts(1), np.zeros(1)
    assert trends.credit(counts, scores, 0, 5, trends.COUNT_MAX - 1) == trends.COUNT_MAX - 1
    assert trends.credit(counts, scores, 0, 5, 3) == 1
    assert counts[5, 0] == trends.COUNT_MAX and scores[0] == trends.COUNT_MAX


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("k", [0, 1, 3, 8, 30, 31, 99])
@pytest.mark.parametrize("seed", range(12))
def test_top_k_agrees_with_twin(dtype: Any, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array([0, -1, 2.5, 7, np.inf, -np.inf, np.nan, *rng.random(5)]), 30).astype(dtype)
    live = rng.integers(0, 3, 30).astype(np.uint8)
    for order in (np.arange(30), np.argsort(values), np.argsort(-values)):
        got = trends.top_k(np.ascontiguousarray(values[order]), live, k)
        same(got, reference.top_k(values[order], live, k))


def test_top_k_of_nothing_is_empty() -> None:
    assert trends.top_k(np.zeros(0), np.zeros(0, np.uint8), 5).shape == (0,)
    assert trends.top_k(np.full(4, np.nan), np.ones(4, np.uint8), 2).shape == (0,)
    assert trends.top_k(np.ones(4), np.zeros(4, np.uint8), 2).shape == (0,)

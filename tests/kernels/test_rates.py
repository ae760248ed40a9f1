"""Merging rates, against exact fractions, one observation after the other."""

from fractions import Fraction

import numpy as np

from kernels.rates import merge_rates

COUNT_MAX = 1_000_000


def test_observations_are_merged_in_order(rng: np.random.Generator) -> None:
    rates = rng.random(6).astype(np.float32)
    counts = rng.integers(1, COUNT_MAX, 6, endpoint=True).astype(np.uint32)
    rows = rng.integers(0, 5, 200).astype(np.int32)  # the last is never named
    new_rates = rng.random(200).astype(np.float32)
    samples = rng.choice([1, 5, 1_000, COUNT_MAX], 200).astype(np.uint32)
    expected = [(np.float32(rate), int(count)) for rate, count in zip(rates, counts, strict=True)]
    for row, rate, m in zip(rows.tolist(), new_rates.tolist(), samples.tolist(), strict=True):
        before, n = expected[row]
        merged = (Fraction(float(before)) * n + Fraction(rate) * m) / (n + m)
        expected[row] = np.float32(float(merged)), min(n + m, COUNT_MAX)
    merge_rates(rates, counts, rows, new_rates, samples, COUNT_MAX)
    assert counts.tolist() == [count for _, count in expected]
    np.testing.assert_allclose(rates, [rate for rate, _ in expected], rtol=0, atol=2e-7)


def test_nothing_to_merge_changes_nothing() -> None:
    rates, counts = np.full(2, 0.5, np.float32), np.full(2, 7, np.uint32)
    merge_rates(rates, counts, np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.uint32), COUNT_MAX)
    assert rates.tolist() == [0.5, 0.5] and counts.tolist() == [7, 7]

"""Exact scan: the k best, their order, ties, masks."""

import itertools

import numpy as np
import pytest

from kernels import reference, scan
from tests.kernels.material import DIM, random_codes, same, unit

KS = [0, 1, 2, 5, 40, 41]


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("seed", range(3))
def test_scan_agrees_with_twin(seed: int, k: int) -> None:
    codes = random_codes(seed, 60)
    rows = np.random.default_rng(seed).permutation(60)[:40].astype(np.int32)
    for got, wanted in zip(
        scan.scan_top_k(codes, unit(codes), rows, codes[7], 0.01, k),
        reference.scan_top_k(codes, unit(codes), rows, codes[7], 0.01, k),
        strict=True,
    ):
        same(got, wanted)


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("seed", range(3))
def test_scan_of_a_range_agrees_with_twin(seed: int, k: int) -> None:
    codes = random_codes(seed, 60)
    live = np.random.default_rng(seed).integers(0, 2, 60).astype(np.uint8)
    for start, stop in [(0, 60), (10, 50), (5, 5), (59, 60)]:
        for got, wanted in zip(
            scan.scan_all_top_k(codes, unit(codes), live, start, stop, codes[7], np.float32(0.01), k),
            reference.scan_all_top_k(codes, unit(codes), live, start, stop, codes[7], 0.01, k),
            strict=True,
        ):
            same(got, wanted)


def test_every_order_of_five_ties_gives_the_smaller_rows() -> None:
    codes = np.array([[3, 4], [6, 8], [3, 4], [-3, -4], [3, 4]], np.int8)
    inv = np.array([0.2, 0.1, 0.2, 0.2, 0.2], np.float32)
    for order in itertools.permutations(range(5)):
        rows = np.array(order, np.int32)
        got, scores = scan.scan_top_k(codes, inv, rows, codes[0], 0.2, 3)
        assert got.tolist() == [0, 1, 2]
        np.testing.assert_allclose(scores, 1, atol=1e-6)


def test_negative_scores_are_found_too() -> None:
    codes = np.array([[-1, 0], [-1, -1], [0, -1]], np.int8)
    rows, scores = scan.scan_top_k(codes, unit(codes), np.arange(3, dtype=np.int32), np.array([1, 0], np.int8), 1.0, 3)
    assert rows.tolist() == [2, 1, 0] and scores[0] == 0 and scores[2] == -1


def test_fewer_live_rows_than_asked_for_gives_them_all() -> None:
    codes = random_codes(1, 9)
    live = np.zeros(9, np.uint8)
    live[[2, 8]] = 1
    rows, scores = scan.scan_all_top_k(codes, unit(codes), live, 0, 9, codes[0], 1.0, 5)
    assert sorted(rows.tolist()) == [2, 8] and len(scores) == 2


def test_cosines_keep_the_order_of_rows() -> None:
    codes = random_codes(2, 30, DIM)
    rows = np.array([29, 3, 3, 0, 17, 8, 9, 10, 11], np.int32)
    same(
        scan.cosines(codes, unit(codes), rows, codes[3], 0.001),
        reference.cosines(codes, unit(codes), rows, codes[3], 0.001),
    )
    assert len(scan.cosines(codes, unit(codes), rows[:0], codes[3], 0.001)) == 0


@pytest.mark.parametrize("m", [0, 1, 2, 13])
def test_pairwise_cosine_agrees_with_twin(m: int) -> None:
    codes = random_codes(4, 20)
    rows = np.random.default_rng(4).permutation(20)[:m].astype(np.int32)
    got = scan.pairwise_cosine(codes, unit(codes), rows)
    assert got.shape == (m, m) and got.dtype == np.float32
    np.testing.assert_allclose(got, reference.pairwise_cosine(codes, unit(codes), rows), atol=1e-6)
    np.testing.assert_array_equal(got, got.T)

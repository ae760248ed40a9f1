"""The nearest centroid: the one that comparing all exactly gives, however close the others come."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kernels import centroids, coarse, reference
from kernels.coarse import BLOCK
from kernels.compiled import JIT, compiled, has_feature
from tests.kernels.material import DIM, SHORT, random_codes, same, unit

Array = npt.NDArray[Any]


@compiled
def fill(packed: Array, code: Array, dots: Array) -> None:
    coarse.coarse_dots(packed, code, dots)


def nearest(codes: Array, of: Array) -> Array:
    return centroids.nearest_centroid(codes, of, unit(of), *centroids.coarsen(of, unit(of)))


@pytest.mark.parametrize("d", [SHORT, BLOCK, DIM])
@pytest.mark.parametrize("k", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("seed", range(3))
def test_nearest_agrees_with_twin_and_ties_go_low(seed: int, k: int, d: int) -> None:
    codes, of = random_codes(seed, 8, d), np.maximum(random_codes(seed + 9, k, d), np.int8(-127))
    codes[4] = 0
    got = nearest(codes, of)
    same(got, reference.nearest_centroid(codes, of, unit(of)))
    assert got[4] == 0
    same(nearest(codes[:0], of), np.empty(0, np.int32))


@pytest.mark.parametrize("step", [1, 15, 16])
@pytest.mark.parametrize("seed", range(20))
def test_nearest_of_centroids_that_hardly_differ(seed: int, step: int) -> None:
    """Coarsely all are the same, or say nothing of their order; some have no rest at all."""
    rng = np.random.default_rng(seed)
    near = np.repeat(16 * rng.integers(-7, 7, (1, SHORT)) + 8, 50, axis=0)
    near[np.arange(50), rng.integers(0, SHORT, 50)] += rng.choice([-step, 0, step], 50)
    of: npt.NDArray[np.int8] = np.clip(near, -127, 127).astype(np.int8)
    codes = np.concatenate(
        [of[:5], rng.integers(-127, 128, (5, SHORT)).astype(np.int8), np.eye(3, SHORT, dtype=np.int8)]
    )
    same(nearest(codes, of), reference.nearest_centroid(codes, of, unit(of)))


def test_coarse_scores_are_within_their_slack() -> None:
    codes, of = random_codes(1, 40, DIM).astype(np.float64), np.maximum(random_codes(2, 40, DIM), np.int8(-127))
    packed, slack = centroids.coarsen(of, unit(of))
    halves = np.stack([packed & 15, packed >> 4])  # (2, blocks, slices, BLOCK, 4)
    steps = halves.transpose(1, 3, 0, 2, 4).reshape(-1, DIM)[: len(of)].astype(np.float64)
    off = np.abs(codes @ (of - (16 * steps - 120)).T) * unit(of)
    assert (off < np.linalg.norm(codes, axis=1, keepdims=True) * slack).all()
    assert slack.max() < 0.2, "or all would be compared exactly"


@pytest.mark.parametrize(("n", "d"), [(BLOCK, BLOCK), (2 * BLOCK, 3 * BLOCK)])
def test_coarse_dots_are_exact(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    for steps, code in (
        (rng.integers(0, 16, (n, d)), rng.integers(-128, 128, d)),
        (np.full((n, d), 15), np.full(d, -128)),
        (np.full((n, d), 15), np.full(d, 127)),
    ):
        dots = np.full(n, 7, np.int32)
        fill(coarse.pack(steps.astype(np.uint8)), code.astype(np.int8), dots)
        same(dots, (steps @ code).astype(np.int32))


def test_only_what_has_no_place_is_placed() -> None:
    codes, of = random_codes(5, 30), np.maximum(random_codes(6, 9), np.int8(-127))
    rows = np.random.default_rng(5).permutation(30)[:20].astype(np.int32)
    got = np.zeros(30, np.int32)
    got[rows[:5]] = 77
    wanted = got.copy()
    centroids.place(got, rows, codes, of, unit(of), *centroids.coarsen(of, unit(of)))
    reference.place(wanted, rows, codes, of, unit(of))
    same(got, wanted)
    assert (got[rows[:5]] == 77).all() and (got == 0).sum() == 10


@pytest.mark.skipif(not (JIT and has_feature("avx2")), reason="the loop runs on this machine")
def test_machines_with_avx2_use_it() -> None:
    assert coarse.coarse_dots.__module__ == "kernels.avx2"

"""What a query is made of: means of codes, components along axes."""

import numpy as np
import pytest

from kernels import queries, reference
from tests.kernels.material import DIM, SHORT, random_codes, same, unit

COUNTS = [1, 2, 7]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_agrees_with_twin(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    codes = random_codes(seed, 60)
    rows = rng.permutation(60)[:count].astype(np.int32)
    weights = rng.random(count) * 1_000
    same(queries.mean_code(codes, unit(codes), rows, weights), reference.mean_code(codes, unit(codes), rows, weights))


def test_the_mean_of_what_weighs_nothing_or_cancels_out_is_the_first() -> None:
    codes = np.array([[127, 5], [-127, -5], [3, 127]], np.int8)
    for rows, weights in ([2, 0], [0.0, 0.0]), ([1, 0], [4.0, 4.0]):
        got = queries.mean_code(codes, unit(codes), np.array(rows, np.int32), np.array(weights))
        same(got, codes[rows[0]])


def test_the_mean_counts_directions_not_lengths() -> None:
    codes = np.array([[127, 0], [0, 127], [0, 1]], np.int8)
    got = queries.mean_code(codes, unit(codes), np.array([0, 2], np.int32), np.ones(2))
    assert got.tolist() == [127, 127]


@pytest.mark.parametrize("d", [SHORT, DIM, DIM + 3])
@pytest.mark.parametrize("n", [0, 1, 4])
def test_components_agree_with_twin(n: int, d: int) -> None:
    codes, axes = random_codes(1, n, d), random_codes(2, 9, d)
    scales = np.linspace(0.1, 9, 9, dtype=np.float32)
    same(queries.project(codes, unit(codes), axes, scales), reference.project(codes, unit(codes), axes, scales))


def test_components_are_held_to_their_range() -> None:
    code = np.array([[127, -127]], np.int8)
    got = queries.project(code, unit(code), np.array([[127, 0], [0, 127]], np.int8), np.ones(2, np.float32))
    assert got.tolist() == [[90, -90]]
    got = queries.project(code, unit(code), np.array([[127, 0], [0, 127]], np.int8), np.full(2, 9, np.float32))
    assert got.tolist() == [[127, -127]]

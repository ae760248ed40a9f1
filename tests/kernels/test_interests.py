"""Interests: groups of near patterns, what they ask, and results divided by their weight."""

import numpy as np
import numpy.typing as npt
import pytest

from kernels import reference
from kernels.interests import questions
from tests.kernels.material import random_codes, same, unit

SAME, MOST = 0.5, 3


def ask(codes: npt.NDArray[np.int8], weights: list[float], k: int = 12) -> tuple[list[list[int]], list[int]]:
    rows = np.arange(len(codes), dtype=np.int32)
    queries, parts = questions(codes, unit(codes), rows, np.array(weights), k, SAME, MOST)
    return queries.tolist(), parts.tolist()


def groups(*sizes: int) -> npt.NDArray[np.int8]:
    """Codes along one axis for each group."""
    codes = np.zeros((sum(sizes), 4), np.int8)
    codes[np.arange(len(codes)), np.repeat(np.arange(len(sizes)), sizes)] = 127
    return codes


@pytest.mark.parametrize("seed", range(60))
def test_it_agrees_with_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = random_codes(seed, 50, 6 if seed % 2 else 48)
    codes[25:] = codes[rng.integers(0, 25, 25)]
    rows = rng.permutation(50)[: rng.integers(1, 33)].astype(np.int32)
    weights = rng.choice([0.0, 1.0, 2.5, 7.0], len(rows)) if seed % 3 else np.zeros(len(rows))
    k = int(rng.integers(0, 101))
    queries, parts = questions(codes, unit(codes), rows, weights, k, SAME, MOST)
    wanted, wanted_parts = reference.questions(codes, unit(codes), rows, weights, k, SAME, MOST)
    same(queries, wanted)
    assert parts.tolist() == wanted_parts


def test_one_pattern_is_one_interest() -> None:
    assert ask(groups(1), [5.0]) == (groups(1).tolist(), [12])


def test_each_group_is_an_interest_and_the_heaviest_comes_first() -> None:
    queries, parts = ask(groups(3, 2, 1), [1.0, 3.0, 2.0, 5.0, 1.0, 12.0])
    assert (queries, parts) == (groups(1, 1, 1)[::-1].tolist(), [6, 3, 3])


def test_a_fourth_group_joins_the_nearest_of_three() -> None:
    codes = groups(1, 1, 1, 1)
    codes[3, 1] = 40
    queries, _ = ask(codes, [4.0, 3.0, 2.0, 1.5])
    assert len(queries) == 3 and queries[0][1] > queries[0][3] > 0 and queries[1:] == codes[[0, 2]].tolist()


def test_patterns_exactly_as_near_as_one_interest_allows_belong_to_it() -> None:
    codes = np.array([[64, 0, 0, 0], [32, 32, 32, 32]], np.int8)
    assert len(ask(codes, [1.0, 1.0])[0]) == 1
    codes[1, 0] = 31
    assert len(ask(codes, [1.0, 1.0])[0]) == 2


def test_of_equal_weights_the_earlier_is_heavier() -> None:
    codes = groups(1, 1, 1)
    assert ask(codes, [1.0, 1.0, 1.0], k=4) == (codes.tolist(), [2, 1, 1])


def test_weightless_patterns_have_interests_alike() -> None:
    """Updates can bring a success rate down to zero."""
    assert ask(groups(2, 1), [0.0, 0.0, 0.0]) == (groups(1, 1).tolist(), [6, 6])


@pytest.mark.parametrize("k", [0, 1, 2, 3, 7, 99, 100])
def test_parts_sum_to_the_whole_and_are_near_their_share(k: int, rng: np.random.Generator) -> None:
    for count in (1, 2, 3):
        for _ in range(50):
            weights = rng.random(count) + 1e-9
            _, parts = ask(groups(*[1] * count), weights.tolist(), k)
            assert sum(parts) == k
            shares = np.sort(weights / weights.sum())[::-1]
            assert all(abs(part - share * k) < 1 for part, share in zip(parts, shares, strict=True))


def test_the_largest_remainder_gets_the_odd_result() -> None:
    assert ask(groups(1, 1, 1), [0.55, 0.28, 0.17], k=10)[1] == [5, 3, 2]
    assert ask(groups(1, 1), [1.0, 1.0], k=1)[1] == [1, 0]

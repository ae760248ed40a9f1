"""Interests: groups of near patterns, their shares, and results divided by them."""

import numpy as np
import numpy.typing as npt
import pytest

from constellation.shard.interests import SAME_INTEREST_COSINE, Interest, divide, find_interests


def groups(*sizes: int, near: float = 0.9, far: float = 0.1) -> npt.NDArray[np.float32]:
    """Cosines of patterns in groups: near within one, far between two."""
    which = np.repeat(np.arange(len(sizes)), sizes)
    cosines = np.where(which[:, None] == which[None], near, far).astype(np.float32)
    np.fill_diagonal(cosines, 1)
    return cosines


def test_one_pattern_is_one_interest() -> None:
    assert find_interests(groups(1), np.array([5.0])) == [Interest([0], 1.0)]


def test_each_group_is_an_interest_spoken_for_by_its_heaviest() -> None:
    weights = np.array([1.0, 3.0, 2.0, 5.0, 1.0, 9.0])
    interests = find_interests(groups(3, 2, 1), weights)
    assert [interest.members for interest in interests] == [[5], [3, 4], [1, 2, 0]]
    np.testing.assert_allclose([interest.share for interest in interests], [9 / 21, 6 / 21, 6 / 21])


def test_a_fourth_group_joins_the_nearest_of_three() -> None:
    cosines = groups(1, 1, 1, 1)
    cosines[3, 1] = cosines[1, 3] = 0.3
    interests = find_interests(cosines, np.array([4.0, 3.0, 2.0, 1.5]))
    assert [interest.members for interest in interests] == [[1, 3], [0], [2]]
    np.testing.assert_allclose([interest.share for interest in interests], np.array([4.5, 4.0, 2.0]) / 10.5)


def test_patterns_exactly_as_near_as_one_interest_allows_belong_to_it() -> None:
    for cosine, count in ((SAME_INTEREST_COSINE, 1), (np.nextafter(np.float32(SAME_INTEREST_COSINE), 0), 2)):
        cosines = groups(1, 1, far=float(cosine))
        assert len(find_interests(cosines, np.ones(2))) == count


def test_of_equal_weights_the_earlier_is_heavier() -> None:
    assert find_interests(groups(3), np.ones(3))[0].members == [0, 1, 2]
    assert [interest.members for interest in find_interests(groups(1, 1, 1), np.ones(3))] == [[0], [1], [2]]


def test_weightless_patterns_have_interests_alike() -> None:
    """Updates can bring a success rate down to zero."""
    assert find_interests(groups(2, 1), np.zeros(3)) == [Interest([0, 1], 0.5), Interest([2], 0.5)]


@pytest.mark.parametrize("k", [0, 1, 2, 3, 7, 99, 100])
def test_parts_sum_to_the_whole_and_are_near_their_share(k: int, rng: np.random.Generator) -> None:
    for count in (1, 2, 3):
        for _ in range(50):
            shares = rng.random(count) + 1e-9
            shares /= shares.sum()
            parts = divide(k, shares.tolist())
            assert sum(parts) == k
            assert all(abs(part - share * k) < 1 for part, share in zip(parts, shares, strict=True))


def test_the_largest_remainder_gets_the_odd_result() -> None:
    assert divide(10, [0.55, 0.28, 0.17]) == [5, 3, 2]
    assert divide(1, [0.5, 0.5]) == [1, 0]

"""The recipe gives patterns as a household would form them."""

import numpy as np
import pytest

from constellation import catalogue
from constellation.fleet import households

VECTORS = catalogue.load().vectors()
NEIGHBOURS = households.neighbour_table(VECTORS)


def test_neighbours_are_the_forty_nearest_others() -> None:
    for film in (0, 1, 1_999, 2_000, 3_199):  # both sides of a block's edge
        order = np.argsort(-(VECTORS @ VECTORS[film]), kind="stable")
        expected = set(order[order != film][:40].tolist())
        assert set(NEIGHBOURS[film].tolist()) == expected


def test_patterns_are_unit_vectors_near_their_film_and_far_from_others() -> None:
    films = np.arange(1_000, dtype=np.int32)
    patterns = households.make_patterns(VECTORS, NEIGHBOURS, films, np.random.default_rng(7))
    assert patterns.shape == (1_000, 384) and patterns.dtype == np.float32
    assert np.allclose(np.linalg.norm(patterns, axis=1), 1, atol=1e-5)
    own = (patterns * VECTORS[films]).sum(axis=1)
    other = (patterns * VECTORS[films[::-1]]).sum(axis=1)
    assert np.median(own) > 0.7 and np.median(other) < 0.4


def test_noise_alone_is_as_strong_as_the_recipe_says() -> None:
    alone = np.zeros((1, 40), np.int32)  # its only neighbour is itself: what differs is noise
    films = np.zeros(2_000, np.int32)
    patterns = households.make_patterns(VECTORS[:1], alone, films, np.random.default_rng(3))
    cosine = float((patterns @ VECTORS[0]).mean())
    assert cosine == pytest.approx(1 / np.sqrt(1 + 384 * 0.012**2), abs=0.002)


def test_same_seed_gives_the_same_patterns() -> None:
    films = np.arange(50, dtype=np.int32)
    first, second = (
        households.make_patterns(VECTORS, NEIGHBOURS, films, np.random.default_rng(seed)) for seed in (5, 5)
    )
    assert np.array_equal(first, second)


def test_interests_are_distinct_and_follow_popularity() -> None:
    rng = np.random.default_rng(11)
    popularity = np.array([0.6, 0.3, 0.1, 0.0])
    drawn = [households.draw_interests(popularity, rng) for _ in range(2_000)]
    assert {len(interests) for interests in drawn} == {1, 2, 3}
    assert all(len(set(interests.tolist())) == len(interests) for interests in drawn)
    first = [int(interests[0]) for interests in drawn if len(interests) == 1]
    shares = np.bincount(first, minlength=4) / len(first)
    assert np.allclose(shares, popularity, atol=0.06)


def test_household_watches_its_interests_and_their_neighbours_only() -> None:
    interests = np.array([3, 70], np.int32)
    watched = set(households.watch(NEIGHBOURS, interests, 5_000, np.random.default_rng(1)).tolist())
    assert watched == {3, 70} | set(NEIGHBOURS[3].tolist()) | set(NEIGHBOURS[70].tolist())

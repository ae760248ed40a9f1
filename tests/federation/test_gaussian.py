"""The discrete Gaussian, from a source that repeats: its distribution, and exactly so where it can be enumerated."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from constellation.federation import gaussian
from constellation.federation.gaussian import SIGMA_MAX, discrete_gaussian

N = 200_000


class Scripted:
    """A source of the words it was given; there are no others."""

    def __init__(self, words: tuple[int, ...]) -> None:
        self._words = list(words)

    def __call__(self, size: int) -> bytes:
        taken, self._words = self._words[: size // 8], self._words[size // 8 :]
        if len(taken) < size // 8:
            raise EOFError
        return np.array(taken, "<u8").tobytes()


@pytest.mark.parametrize("sigma", [1, 2, 7, 40])
def test_samples_follow_the_distribution(sigma: int, rng: np.random.Generator) -> None:
    """Chi-square over the values within four sigma, and all beyond."""
    drawn = discrete_gaussian(sigma, N, rng.bytes)
    values = np.arange(-4 * sigma, 4 * sigma + 1)
    densities = {x: math.exp(-x * x / (2 * sigma**2)) for x in range(-40 * sigma, 40 * sigma + 1)}
    shares = np.array([densities[x] for x in values.tolist()]) / math.fsum(densities.values())
    expected = N * np.append(shares, 1 - shares.sum())
    inside = np.abs(drawn) <= 4 * sigma
    found = np.append(np.bincount(drawn[inside] + 4 * sigma, minlength=len(values)), np.count_nonzero(~inside))
    freedom = len(expected) - 1
    assert abs(((found - expected) ** 2 / expected).sum() - freedom) < 5 * math.sqrt(2 * freedom)


def test_a_wide_one_has_the_moments_of_a_gaussian(rng: np.random.Generator) -> None:
    drawn = discrete_gaussian(SIGMA_MAX, N, rng.bytes) / SIGMA_MAX
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((drawn**power).mean() - moment) < 5 * math.sqrt(variance / N)


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 1), (1, 2), (1, 1), (3, 4), (3, 2), (2, 1)])
def test_an_event_has_exactly_the_probability(numerator: int, denominator: int) -> None:
    """Every sequence of three words of four bits: those that decide it do so within the bounds of exp's series.

    Words above a bound are drawn again, so a sequence may end undecided; what is decided must leave room for the truth.
    """
    happened = decided = 0
    for words in itertools.product(range(16), repeat=3):
        try:
            (event,) = gaussian._bernoulli_exp(np.array([numerator]), denominator, Scripted(words))
        except EOFError:
            continue
        decided += 1
        happened += int(event)
    truth = math.exp(-numerator / denominator)
    assert happened / 16**3 <= truth <= 1 - (decided - happened) / 16**3


def test_a_step_of_the_series_is_an_exact_share() -> None:
    """exp(-1/2): of all words for k = 1 and 2 it happens at once in 1 of 2, fails in 3 of 8, and 1 of 8 go on."""
    ended: list[bool | None] = []
    for words in itertools.product(range(2), range(4)):
        try:
            (event,) = gaussian._bernoulli_exp_of_rest(np.array([1]), 2, Scripted(words))
            ended.append(bool(event))
        except EOFError:
            ended.append(None)
    shares = [Fraction(ended.count(how), len(ended)) for how in (True, False, None)]
    assert shares == [Fraction(1, 2), Fraction(3, 8), Fraction(1, 8)]


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 8])
def test_every_integer_below_a_bound_is_as_probable(bound: int) -> None:
    """Each of the words of so many bits gives one of them, or is drawn again."""
    words = range(1 << (bound - 1).bit_length())
    drawn = gaussian._uniform(bound, bound, Scripted((*words, *words)))
    assert drawn.tolist() == list(range(bound))


def test_as_many_are_drawn_as_asked_and_none_twice(rng: np.random.Generator) -> None:
    for n in (0, 1, 1_000):
        drawn = discrete_gaussian(SIGMA_MAX, n, rng.bytes)
        assert len(drawn) == n and len(np.unique(drawn)) == n

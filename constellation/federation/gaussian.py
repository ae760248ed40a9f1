"""Exact samples of the discrete Gaussian, from random bits and integers alone.

Canonne, Kamath and Steinke, The Discrete Gaussian for Differential Privacy (NeurIPS 2020), algorithms 1 to 3, over
arrays: a step of a rejection sampler is taken for all samples that still need one. No floating point, whose rounding
gives the noise away (Mironov, CCS 2012). Called by `noise`.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]
RandomBytes = Callable[[int], bytes]
"""So many bytes of a cryptographic source."""

SIGMA_MAX = 1 << 24
"""Products stay in int64 unless a sample is 150 sigma away, which happens once in e^150."""


def discrete_gaussian(sigma: int, n: int, random_bytes: RandomBytes) -> Integers:
    """n samples of N_Z(0, sigma^2), sigma from 1 to SIGMA_MAX: probability proportional to exp(-x^2 / (2 sigma^2)).

    About 1.5 us a sample. Algorithm 3 with t = sigma, any t gives the same distribution: x of the discrete Laplace
    distribution is taken with probability exp(-(|x| - sigma)^2 / (2 sigma^2)).
    """
    assert 1 <= sigma <= SIGMA_MAX
    return _drawn(n, lambda m: _gaussian_tries(sigma, m, random_bytes))


def _gaussian_tries(sigma: int, n: int, random_bytes: RandomBytes) -> Integers:
    x = _drawn(n, lambda m: _laplace_tries(sigma, m, random_bytes))
    return x[_bernoulli_exp((np.abs(x) - sigma) ** 2, 2 * sigma**2, random_bytes)]


def _laplace_tries(scale: int, n: int, random_bytes: RandomBytes) -> Integers:
    """Algorithm 2: up to n samples, of probability proportional to exp(-|x| / scale)."""
    part = _uniform(scale, n, random_bytes)
    part = part[_bernoulli_exp(part, scale, random_bytes)]
    x = part + scale * _successes(len(part), random_bytes)
    negative = _uniform(2, len(x), random_bytes) == 1
    signed: Integers = np.where(negative, -x, x)
    tries: Integers = signed[~negative | (x > 0)]
    return tries


def _successes(n: int, random_bytes: RandomBytes) -> Integers:
    """(n,) how often an event of probability exp(-1) happens before it fails to."""
    counts = np.zeros(n, np.int64)
    going_on = np.arange(n)
    while len(going_on):
        going_on = going_on[_bernoulli_exp(np.ones(len(going_on), np.int64), 1, random_bytes)]
        counts[going_on] += 1
    return counts


def _bernoulli_exp(numerators: Integers, denominator: int, random_bytes: RandomBytes) -> Bits:
    """Algorithm 1: (n,) events of probability exp(-numerators / denominator), numerators (n,) >= 0.

    exp(-1) as often as the quotient is whole, then exp of the rest.
    """
    whole, rest = np.divmod(numerators, denominator)
    happened = np.ones(len(numerators), np.bool_)
    left = np.flatnonzero(whole)
    while len(left):
        happened[left] = _bernoulli_exp_of_rest(np.ones(len(left), np.int64), 1, random_bytes)
        whole[left] -= 1
        left = left[happened[left] & (whole[left] > 0)]
    left = np.flatnonzero(happened)
    happened[left] = _bernoulli_exp_of_rest(rest[left], denominator, random_bytes)
    return happened


def _bernoulli_exp_of_rest(numerators: Integers, denominator: int, random_bytes: RandomBytes) -> Bits:
    """The same for quotients up to 1: the first k for which an event of probability quotient / k fails is odd."""
    odd = np.zeros(len(numerators), np.bool_)
    going_on, k = np.arange(len(numerators)), 0
    while len(going_on):
        k += 1
        odd[going_on] = k % 2 == 1
        going_on = going_on[_uniform(denominator * k, len(going_on), random_bytes) < numerators[going_on]]
    return odd


def _uniform(bound: int, n: int, random_bytes: RandomBytes) -> Integers:
    """(n,) integers below the bound, each as probable: words of as many bits as it takes, until one is below."""
    mask = np.uint64((1 << (bound - 1).bit_length()) - 1)

    def tries(m: int) -> Integers:
        words = (np.frombuffer(random_bytes(8 * m), "<u8") & mask).astype(np.int64)
        return words[words < bound]

    return _drawn(n, tries)


def _drawn(n: int, tries: Callable[[int], Integers]) -> Integers:
    """(n,) of what so many tries give, which may be fewer."""
    parts = []
    while n:
        parts.append(tries(n))
        n -= len(parts[-1])
    return np.concatenate([np.zeros(0, np.int64), *parts])

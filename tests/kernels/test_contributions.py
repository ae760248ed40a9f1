"""What devices give to their buckets: as the twin says, capped, and taken back to the last bit."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kernels import contributions, reference
from kernels.contributions import Totals, empty_totals
from tests.kernels.material import SHORT, random_codes, same, unit

Array = npt.NDArray[Any]

BUCKETS = 4
CAP = 1_000
DEVICE_CAP = 256_000


def columns(seed: int, n: int) -> tuple[Array, Array, Array, Array, Array]:
    """Per row as `contribute` takes them, rates 0 and 1 and counts at the ends among them."""
    rng = np.random.default_rng(seed)
    codes = random_codes(seed, n)
    rates = rng.choice(np.array([0, 1, 0.7, 0.8, 1 / 3, *rng.random(5)], np.float32), n)
    counts = rng.choice(np.array([1, 2, 999, 1_000, 1_001, 1_000_000], np.uint32), n)
    return rng.integers(0, BUCKETS, n).astype(np.int32), codes, unit(codes), rates, counts


def devices(seed: int, n: int) -> tuple[Array, Array]:
    """The rows 0..n-1 in some order, cut into devices with none to many each."""
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, n + 1, 5))
    return np.array([0, *cuts, n], np.int64), rng.permutation(n).astype(np.int32)


def equal(a: Totals, b: Totals) -> None:
    for x, y in zip(a, b, strict=True):
        same(x, y)


@pytest.mark.parametrize("n", [0, 1, 40])
@pytest.mark.parametrize("device_cap", [1, 1_000, DEVICE_CAP, 1 << 40])
def test_contribute_agrees_with_twin(n: int, device_cap: int) -> None:
    got, wanted = empty_totals(BUCKETS, SHORT), empty_totals(BUCKETS, SHORT)
    for seed, sign in ((n, 1), (n + 1, 1), (n, -1)):
        starts, rows = devices(seed, n)
        given = columns(seed, n)
        contributions.contribute(got, starts, rows, *given, CAP, device_cap, sign)
        reference.contribute(wanted, starts, rows, *given, CAP, device_cap, sign)
    equal(got, wanted)


@pytest.mark.parametrize("n", [0, 1, 40])
@pytest.mark.parametrize("buckets_max", [0, 1, 2, BUCKETS, 255])
def test_heaviest_agrees_with_twin(n: int, buckets_max: int) -> None:
    for seed in range(5):
        starts, rows = devices(seed, n)
        buckets, _, _, rates, counts = columns(seed, n)
        given = starts, rows, buckets, rates, counts, CAP, buckets_max
        for got, wanted in zip(contributions.heaviest(*given), reference.heaviest(*given), strict=True):
            same(got, wanted)


def test_of_buckets_that_weigh_the_same_the_lower_numbers_are_taken() -> None:
    buckets, rates, counts = np.array([3, 1, 2, 1], np.int32), np.ones(4, np.float32), np.array([4, 2, 4, 2], np.uint32)
    rows = np.arange(4, dtype=np.int32)
    _, chosen = contributions.heaviest(np.array([0, 4]), rows, buckets, rates, counts, CAP, 2)
    assert chosen.tolist() == [1, 2, 3]


def test_what_was_given_is_taken_back_to_the_last_bit() -> None:
    totals = empty_totals(BUCKETS, SHORT)
    for sign in (1, -1):
        for seed in (1, 2, 3):
            starts, rows = devices(seed, 40)
            contributions.contribute(totals, starts, rows, *columns(seed, 40), CAP, DEVICE_CAP, sign)
    equal(totals, empty_totals(BUCKETS, SHORT))


@pytest.mark.parametrize("rate", [1, 0])
def test_a_device_gives_no_more_than_its_cap(rate: int) -> None:
    """However many patterns it has in a bucket, and whether they succeed or not; and a bucket has it once."""
    n = 30
    _, codes, inv, _, _ = columns(3, n)
    totals = empty_totals(BUCKETS, SHORT)
    rates, many = np.full(n, rate, np.float32), np.full(n, 1_000_000, np.uint32)
    rows = np.arange(n, dtype=np.int32)
    contributions.contribute(
        totals, np.array([0, n]), rows, np.ones(n, np.int32), codes, inv, rates, many, CAP, DEVICE_CAP, 1
    )
    assert DEVICE_CAP - n < totals.samples[1] <= DEVICE_CAP and totals.devices.tolist() == [0, 1, 0, 0]
    assert totals.weights[1] == rate * totals.samples[1]
    assert totals.patterns[1] == n
    assert np.abs(totals.sums[1]).max() <= totals.weights[1] << 14

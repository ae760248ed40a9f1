"""Sums per bucket: exact, order-free, invertible, within their ranges."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from constellation.federation.noise import LENGTH_MAX
from kernels import reference, sums
from tests.kernels.material import SHORT, random_codes, same, unit

Array = npt.NDArray[Any]

BUCKETS = 4
CAP = 1_000


Columns = tuple[Array, Array, Array, Array, Array]


def patterns(seed: int, n: int) -> Columns:
    """Columns of n patterns as `accumulate` takes them, rates 0 and 1 and counts at the ends among them."""
    rng = np.random.default_rng(seed)
    codes = random_codes(seed, n)
    rates = rng.choice(np.array([0, 1, 0.7, 0.8, 1 / 3, *rng.random(5)], np.float32), n)
    samples = rng.choice(np.array([1, 2, 999, 1_000, 1_001, 1_000_000], np.uint32), n)
    return rng.integers(0, BUCKETS, n).astype(np.int32), codes, unit(codes), rates, samples


def taken(columns: Columns, order: Any) -> Columns:
    buckets, codes, inv, rates, samples = (np.ascontiguousarray(column[order]) for column in columns)
    return buckets, codes, inv, rates, samples


def equal(a: sums.BucketSums, b: sums.BucketSums) -> None:
    for x, y in zip(a, b, strict=True):
        same(x, y)


@pytest.mark.parametrize("n", [0, 1, 50])
@pytest.mark.parametrize("cap", [1, CAP, sums.SAMPLES_CAP_MAX])
def test_accumulate_agrees_with_twin(n: int, cap: int) -> None:
    got, wanted = sums.empty(BUCKETS, SHORT), sums.empty(BUCKETS, SHORT)
    sums.accumulate(*got, *patterns(n, n), cap)
    reference.accumulate(*wanted, *patterns(n, n), cap)
    equal(got, wanted)


def test_any_order_and_any_split_give_the_same_bits() -> None:
    columns = patterns(1, 60)
    whole = sums.empty(BUCKETS, SHORT)
    sums.accumulate(*whole, *columns, CAP)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(60)
        parts = [sums.empty(BUCKETS, SHORT) for _ in range(3)]
        for part, rows in zip(parts, np.split(order, [7, 30]), strict=True):
            sums.accumulate(*part, *taken(columns, rows), CAP)
        for part in parts[1:]:
            sums.merge(parts[0], part)
        equal(parts[0], whole)
        same(sums.finish(parts[0].sums, parts[0].weights), sums.finish(whole.sums, whole.weights))


def test_remove_undoes_accumulate_exactly() -> None:
    columns = patterns(2, 60)
    kept, gone = taken(columns, slice(0, 25)), taken(columns, slice(25, 60))
    got, wanted = sums.empty(BUCKETS, SHORT), sums.empty(BUCKETS, SHORT)
    sums.accumulate(*got, *columns, CAP)
    sums.remove(*got, *gone, CAP)
    sums.accumulate(*wanted, *kept, CAP)
    equal(got, wanted)
    twin = sums.empty(BUCKETS, SHORT)
    reference.accumulate(*twin, *columns, CAP)
    reference.remove(*twin, *gone, CAP)
    equal(got, twin)
    sums.remove(*got, *kept, CAP)
    equal(got, sums.empty(BUCKETS, SHORT))


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.7, 0.8, 0.999, 1.0])
@pytest.mark.parametrize("count", [1, 3, 999, 1_000, 1_001, 1_000_000])
def test_weight_agrees_with_twin(rate: float, count: int) -> None:
    for value in (rate, np.float32(rate)):
        assert sums.contribution_weight(value, count, CAP) == reference.contribution_weight(value, count, CAP)
    assert sums.contribution_weight(rate, count, CAP) <= sums.WEIGHT_SCALE * CAP


@pytest.mark.parametrize("samples", [1, 2, 37, 1_000])
@pytest.mark.parametrize("rate", [0.001, 0.7, 1.0])
def test_sums_stay_within_their_weight(rate: float, samples: int) -> None:
    """|sum| <= 2^14 x weight is what the ranges rest on, and the length is what noise is measured by."""
    codes = random_codes(4, 60)
    codes[:2] = 0
    codes[0, 3], codes[1, 3] = 127, -127  # the longest component there is
    n = len(codes)
    got = sums.empty(n, SHORT)
    rates, counts = np.full(n, rate, np.float32), np.full(n, samples, np.uint32)
    sums.accumulate(*got, np.arange(n, dtype=np.int32), codes, unit(codes), rates, counts, CAP)
    length = np.linalg.norm(got.sums.astype(np.float64), axis=1)
    assert (np.abs(got.sums) <= sums.UNIT * got.weights[:, None]).all()
    assert (length <= LENGTH_MAX * got.weights).all()
    short = sums.UNIT * got.weights - length  # less than a code, but for what float32 rounds off
    assert (short <= np.linalg.norm(codes.astype(np.float64), axis=1) + 2**-23 * length).all()


def test_merge_refuses_what_could_overflow_and_changes_nothing() -> None:
    into, other = sums.empty(2, SHORT), sums.empty(2, SHORT)
    sums.accumulate(*other, np.ones(1, np.int32), *patterns(3, 1)[1:], CAP)
    into.weights[1] = sums.WEIGHT_SUM_LIMIT - 1
    other.weights[1] = max(1, int(other.weights[1]))
    before = [x.copy() for x in into]
    with pytest.raises(OverflowError, match="bucket 1"):
        sums.merge(into, other)
    equal(into, sums.BucketSums(*before))
    into.weights[1] -= other.weights[1]
    sums.merge(into, other)
    assert into.weights[1] == sums.WEIGHT_SUM_LIMIT - 1


def test_merge_agrees_with_twin() -> None:
    parts = [sums.empty(BUCKETS, SHORT) for _ in range(3)]
    for seed, part in enumerate(parts):
        sums.accumulate(*part, *patterns(seed, 20), CAP)
    wanted = sums.BucketSums(*(x.copy() for x in parts[0]))
    reference.merge(wanted, parts[1])
    sums.merge(parts[0], parts[1])
    equal(parts[0], wanted)


def test_finish_agrees_with_twin_and_gives_unit_vectors() -> None:
    some = sums.empty(BUCKETS + 2, SHORT)
    sums.accumulate(*some, *patterns(5, 40), CAP)
    some.sums[5, :] = 0
    some.weights[5] = 9
    some.sums[4, 1] = 7
    got = sums.finish(some.sums, some.weights)
    np.testing.assert_allclose(got, reference.finish(some.sums, some.weights), atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(got[:BUCKETS], axis=1), 1, atol=1e-6)
    assert not got[BUCKETS:].any() and got.dtype == np.float32


def test_finish_holds_at_the_largest_sums() -> None:
    some = np.full((1, SHORT), 2**62, np.int64)
    some[0, 0] = -(2**62)
    got = sums.finish(some, np.ones(1, np.int64))
    np.testing.assert_allclose(np.abs(got), 1 / np.sqrt(SHORT), rtol=1e-6)

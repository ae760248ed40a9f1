"""Partials and rounds as bytes: there and back, and nothing else."""

import msgspec
import numpy as np
import pytest

from constellation.model import DIM, Context
from constellation.records import TrendCells
from constellation.rounds import (
    BucketSums,
    ContextCounts,
    FederationResult,
    Partial,
    Prototypes,
    RegionTrends,
    WrongRound,
    decode_partial,
    decode_result,
    encode,
)


def cells(n: int) -> TrendCells:
    return TrendCells([f"film:{i}" for i in range(n)], np.arange(n, dtype=np.uint32), np.ones(n, np.uint32))


def partial(n: int, rng: np.random.Generator) -> Partial:
    column = rng.integers(0, 1 << 40, n)
    sums = rng.integers(-(1 << 60), 1 << 60, (n, DIM))
    buckets = BucketSums(np.arange(n, dtype=np.int32), sums, column, column, column, column)
    places = np.zeros(n, np.uint8)
    contexts = ContextCounts(buckets.numbers, places, [f"evening {i}" for i in range(n)], column)
    return Partial("shard-1", "eu", 7, 1, 1, 489_000, buckets, contexts, cells(n), n)


def made(n: int, rng: np.random.Generator) -> FederationResult:
    ones = np.ones(n, np.float32)
    prototypes = Prototypes(
        np.arange(n, dtype=np.int32),
        rng.integers(0, 256, (n, 16)).astype(np.uint8),
        rng.integers(-127, 128, (n, DIM)).astype(np.int8),
        ones,
        np.ones(n, np.uint32),
        [Context("evening", "", "movie", ("drama",))] * n,
        ones,
        np.ones(n, np.int64),
        np.ones(n, np.int64),
    )
    return FederationResult(7, 1_760_000_000, 489_000, 1, 1, 3, 2, 10, 5, prototypes, [RegionTrends("eu", cells(n))])


def same(one: object, other: object) -> None:
    """Structs of columns, all the way down."""
    assert type(one) is type(other)
    if isinstance(one, msgspec.Struct):
        for name in one.__struct_fields__:
            same(getattr(one, name), getattr(other, name))
    elif isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray) and one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        for left, right in zip(one, other, strict=True):
            same(left, right)
    else:
        assert one == other


@pytest.mark.parametrize("n", [0, 1, 40])
def test_there_and_back(n: int, rng: np.random.Generator) -> None:
    gives, round_ = partial(n, rng), made(n, rng)
    same(decode_partial(encode(gives)), gives)
    same(decode_result(encode(round_)), round_)


def test_columns_of_different_lengths_are_refused(rng: np.random.Generator) -> None:
    for name in ("numbers", "sums", "weights", "samples", "patterns", "devices"):
        wrong = partial(3, rng)
        setattr(wrong.buckets, name, getattr(wrong.buckets, name)[:2])
        with pytest.raises(WrongRound):
            decode_partial(encode(wrong))
    for name in Prototypes.__struct_fields__:
        broken = made(3, rng)
        setattr(broken.prototypes, name, getattr(broken.prototypes, name)[:2])
        with pytest.raises(WrongRound):
            decode_result(encode(broken))


def test_other_bytes_are_refused(rng: np.random.Generator) -> None:
    whole = encode(partial(2, rng))
    for content in (b"", b"\x02" + whole[1:], whole[:-1], encode(made(2, rng)), whole[:1] + b"\xc0"):
        with pytest.raises(WrongRound):
            decode_partial(content)

"""Partials and rounds as bytes: there and back, and nothing else."""

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import zstandard

from constellation.limits import ROUND_BYTES_MAX
from constellation.model import DIM, Context
from constellation.rounds import (
    BucketSums,
    ContextCounts,
    FederationResult,
    GroupMeans,
    Partial,
    Privacy,
    Prototypes,
    RegionTrends,
    TrendCounts,
    WrongRound,
    decode_partial,
    decode_result,
    encode,
)
from kernels.trends import HOURS


def week(n: int, rng: np.random.Generator) -> npt.NDArray[np.uint32]:
    return rng.integers(0, 1 << 32, (HOURS, n), dtype=np.uint32)


def titles(n: int) -> list[str]:
    return [f"film:{i}" for i in range(n)]


def partial(n: int, rng: np.random.Generator) -> Partial:
    column = rng.integers(0, 1 << 40, n)
    sums = rng.integers(-(1 << 60), 1 << 60, (n, DIM))
    buckets = BucketSums(np.arange(n, dtype=np.int32), sums, column, column, column, column)
    places = np.zeros(n, np.uint8)
    contexts = ContextCounts(["evening", ""], buckets.numbers, places, np.ones(n, np.uint32), column)
    means = rng.integers(-(1 << 14), 1 << 14, (n, DIM), dtype=np.int16)
    groups = GroupMeans(buckets.numbers, means, column, column)
    trends = TrendCounts(titles(n), np.arange(n), week(n, rng))
    return Partial("shard-1", "eu", 7, 1, 1, 489_000, buckets, contexts, trends, n, groups, "aggregates")


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
    trends = RegionTrends("eu", titles(n), ones, week(n, rng).astype(np.int64))
    return FederationResult(7, 1_760_000_000, 489_000, 1, 1, 3, 2, 10, 5, prototypes, [trends], Privacy(1.0, 1e-9))


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
    for part, names in (
        ("buckets", BucketSums.__struct_fields__),
        ("contexts", ("buckets", "places", "string_of", "counts")),
        ("trends", TrendCounts.__struct_fields__),
        ("groups", GroupMeans.__struct_fields__),
    ):
        for name in names:
            wrong = partial(3, rng)
            setattr(getattr(wrong, part), name, getattr(getattr(wrong, part), name)[:2])
            with pytest.raises(WrongRound):
                decode_partial(encode(wrong))
    for name in Prototypes.__struct_fields__:
        broken = made(3, rng)
        setattr(broken.prototypes, name, getattr(broken.prototypes, name)[:2])
        with pytest.raises(WrongRound):
            decode_result(encode(broken))
    for name in ("items", "scores", "counts"):
        broken = made(3, rng)
        setattr(broken.trends[0], name, getattr(broken.trends[0], name)[:2])
        with pytest.raises(WrongRound):
            decode_result(encode(broken))


def test_other_bytes_are_refused(rng: np.random.Generator) -> None:
    whole = encode(partial(2, rng))
    foreign = zstandard.compress(b"\xc0")
    for content in (b"", b"\x02" + whole[1:], whole[:-1], whole + b"\0", encode(made(2, rng)), whole[:1] + foreign):
        with pytest.raises(WrongRound):
            decode_partial(content)


def test_what_would_unpack_to_too_much_is_refused_before_it_is_unpacked(rng: np.random.Generator) -> None:
    many = zstandard.compress(bytes(ROUND_BYTES_MAX + 1))
    undeclared = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(8))
    for frame in (many, undeclared):
        with pytest.raises(WrongRound, match="bytes unpacked"):
            decode_partial(encode(partial(1, rng))[:1] + frame)

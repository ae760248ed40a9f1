"""Quality-weighted sums per bucket, in integers only: any order of adding, removing and merging gives the same bits.

One pattern contributes its unit vector x 2^14 x w to its bucket, w being `contribution_weight`: its code times
`multiplier`. So its direction is exact; its length is a little short, by less than one code.
Ranges: w <= 2^18 and |multiplier x code_i| <= 2^14 x w, so every |sum| <= 2^14 x the bucket's weight, and int64 holds
all sums while a bucket's weight stays below 2^48: 2^30 patterns of the heaviest kind in one bucket. `merge` refuses to
go beyond.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled, inlined

UNIT = 1 << 14
"""Length of a unit vector in fixed point."""
WEIGHT_SCALE = 1 << 8
"""A success rate of 1 with one sample weighs this much."""
SAMPLES_CAP_MAX = 1 << 10
"""Largest cap on the samples of one pattern that count."""
PATTERNS_MAX = 1 << 27
"""Most patterns on one shard (`Settings.max_patterns`): all in one bucket must stay below the limit."""
WEIGHT_SUM_LIMIT = 1 << 48

assert PATTERNS_MAX * SAMPLES_CAP_MAX * WEIGHT_SCALE < WEIGHT_SUM_LIMIT
assert 2 * WEIGHT_SUM_LIMIT * UNIT <= 1 << 63

Counts = npt.NDArray[np.int64]


class BucketSums(NamedTuple):
    """sums (K, d) int64, weights (K,) int64, counts (K,) int64 of patterns: what `accumulate` fills."""

    sums: npt.NDArray[np.int64]
    weights: Counts
    counts: Counts


def empty(buckets: int, d: int) -> BucketSums:
    """Sums of no pattern."""
    return BucketSums(np.zeros((buckets, d), np.int64), np.zeros(buckets, np.int64), np.zeros(buckets, np.int64))


@compiled
def contribution_weight(rate: float | np.float32, count: int, cap: int) -> int:
    """rint(rate x min(count, cap) x 2^8): rate 0..1, cap <= SAMPLES_CAP_MAX. Twin: `contribution_weight`.

    A float32 rate times 18 bits is exact in float64, so that only the rounding to an integer rounds.
    """
    return int(np.int64(np.rint(np.float64(rate) * np.float64(min(np.int64(count), np.int64(cap))) * WEIGHT_SCALE)))


@inlined
def multiplier(weight: int, inverse: np.float32) -> np.int64:
    """The integer part of weight x 2^14 / |code|, with inverse = 1/|code|: what a code is multiplied by.

    18 bits times float32 is exact in float64. weight >= 0. float32(1 / 127) is below 1 / 127, which bounds |multiplier
    x code_i|; what 1/|code| is too large by, 2^-24 of it, bounds the length: below (2^14 + 1) x weight.
    """
    return np.int64(np.float64(weight) * np.float64(inverse) * UNIT)


@compiled
def accumulate(
    sums: npt.NDArray[np.int64],
    weights: Counts,
    counts: Counts,
    buckets: npt.NDArray[np.int32],
    codes: npt.NDArray[np.int8],
    inv: npt.NDArray[np.float32],
    rates: npt.NDArray[np.float32],
    samples: npt.NDArray[np.uint32],
    cap: int,
) -> None:
    """Add n patterns: buckets (n,) int32, codes (n, d) int8, inv (n,) float32, rates (n,) float32, samples (n,) uint32.

    They go into sums (K, d), weights (K,) and counts (K,), all int64, in place. Twin: `accumulate`.
    """
    _add(sums, weights, counts, buckets, codes, inv, rates, samples, cap, 1)


@compiled
def remove(
    sums: npt.NDArray[np.int64],
    weights: Counts,
    counts: Counts,
    buckets: npt.NDArray[np.int32],
    codes: npt.NDArray[np.int8],
    inv: npt.NDArray[np.float32],
    rates: npt.NDArray[np.float32],
    samples: npt.NDArray[np.uint32],
    cap: int,
) -> None:
    """Take out n patterns that `accumulate` added with these very values: its exact inverse. Twin: `remove`."""
    _add(sums, weights, counts, buckets, codes, inv, rates, samples, cap, -1)


def merge(into: BucketSums, other: BucketSums) -> None:
    """Add `other` to `into`, in place. OverflowError, with nothing added, if a weight would reach WEIGHT_SUM_LIMIT.

    Twin: `merge`.
    """
    total = into.weights + other.weights
    if len(total) and int(total.max()) >= WEIGHT_SUM_LIMIT:
        raise OverflowError(f"weight of bucket {int(total.argmax())} is {int(total.max())}, over {WEIGHT_SUM_LIMIT}")
    into.weights[:] = total
    np.add(into.sums, other.sums, out=into.sums)
    np.add(into.counts, other.counts, out=into.counts)


@compiled
def finish(sums: npt.NDArray[np.int64], weights: Counts) -> npt.NDArray[np.float32]:
    """Unit prototypes (K, d) float32 of sums (K, d) int64; zeros where weights (K,) int64 is 0 or all cancelled out.

    The squares are summed in index order, so that equal sums give equal bits. Twin: `finish`.
    """
    k, d = sums.shape
    prototypes = np.zeros((k, d), np.float32)
    for b in range(k):
        square = 0.0
        for j in range(d):
            square += np.float64(sums[b, j]) * np.float64(sums[b, j])
        if weights[b] > 0 and square > 0.0:
            norm = np.sqrt(square)
            for j in range(d):
                prototypes[b, j] = np.float32(np.float64(sums[b, j]) / norm)
    return prototypes


@compiled
def _add(
    sums: npt.NDArray[np.int64],
    weights: Counts,
    counts: Counts,
    buckets: npt.NDArray[np.int32],
    codes: npt.NDArray[np.int8],
    inv: npt.NDArray[np.float32],
    rates: npt.NDArray[np.float32],
    samples: npt.NDArray[np.uint32],
    cap: int,
    sign: int,
) -> None:
    """Add each pattern's contribution times `sign`."""
    for i in range(buckets.shape[0]):
        b = buckets[i]
        weight = contribution_weight(rates[i], samples[i], cap)
        factor = sign * multiplier(weight, inv[i])
        weights[b] += sign * weight
        counts[b] += sign
        for j in range(codes.shape[1]):
            sums[b, j] += factor * np.int64(codes[i, j])

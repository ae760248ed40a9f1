"""What a household asks for: its few patterns in a few groups, the mean of each, and how many results each gets.

Leader clustering (Hartigan 1975, chapter 3), heaviest first. Why by interest: `constellation.shard.interests`, the
caller. Checked against `kernels.reference`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.chains import Links, rows_of
from kernels.codes import Codes, Norms, inverse_norms
from kernels.compiled import compiled
from kernels.dot import dot
from kernels.queries import mean_code, project

Rows = npt.NDArray[np.int32]
Counts = npt.NDArray[np.uint32]
Weights = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Bounds(NamedTuple):
    """Of interests: the cosine `same` and the number `most` of `questions`; what a sample count counts at most."""

    same: float
    most: int
    count_cap: int


class Households(NamedTuple):
    """All that can ask. first (D,) int32 by device and following (N,) int32 are chains as of `kernels.chains`; by row
    of patterns codes (N, d) int8, inverse (N,) float32, rates (N,) float32, counts (N,) uint32; axes (a, d) int8 and
    scales (a,) float32 as `queries.project` takes them."""

    first: Links
    following: Links
    codes: Codes
    inverse: Norms
    rates: Norms
    counts: Counts
    axes: Codes
    scales: Norms
    bounds: Bounds


@compiled
def ask(of: Households, device: int, k: int) -> tuple[Codes, Norms, Codes, Indices, int]:
    """`questions` of the patterns in a device's chain, which weigh rate x capped count, as a search takes them.

    Returns queries (m, d) int8, 1/|query| (m,) float32, their components (m, a) int8 along axes as `queries.project`
    makes them, parts (m,) int64, and how many patterns there are; of none, m is 0. About 10 us for 10 patterns.
    """
    own = rows_of(of.first, of.following, device)
    if own.shape[0] == 0:
        nothing = np.empty((0, of.codes.shape[1]), np.int8)
        return nothing, np.empty(0, np.float32), nothing, np.empty(0, np.int64), 0
    weights = np.empty(own.shape[0])
    for i in range(own.shape[0]):
        capped = np.float64(min(of.counts[own[i]], np.uint32(of.bounds.count_cap)))
        weights[i] = np.float64(of.rates[own[i]]) * capped
    queries, parts = questions(of.codes, of.inverse, own, weights, k, of.bounds.same, of.bounds.most)
    inverse = inverse_norms(queries)
    return queries, inverse, project(queries, inverse, of.axes, of.scales), parts, own.shape[0]


@compiled
def questions(
    codes: Codes, inverse: Norms, rows: Rows, weights: Weights, k: int, same: float, most: int
) -> tuple[Codes, Indices]:
    """The interests of rows (n,) int32, n >= 1, heaviest first: queries (m, d) int8 and parts (m,) int64 of k.

    codes (N, d) int8 and inverse (N,) float32 = 1/|code|, weights (n,) >= 0; m <= most. Heaviest first, a pattern whose
    cosine to every medoid so far is below `same` founds an interest while there are fewer than `most`, any other joins
    the nearest. Equal weights: the earlier pattern is heavier. Where nothing weighs anything, all interests are alike.
    k is divided by weight, largest remainder first. About 4 us for 10 patterns, 10 for 32. Twin: `questions`.
    """
    order = _falling(weights)
    group_of = np.empty(rows.shape[0], np.int64)
    medoids = np.empty(most, np.int64)
    sums = np.zeros(most)
    m = 0
    for i in order:
        nearest = -1
        highest = np.float32(-2)
        for g in range(m):
            cosine = _cosine(codes, inverse, rows, i, medoids[g])
            if cosine > highest:
                highest = cosine
                nearest = g
        if m == 0 or (highest < same and m < most):
            medoids[m] = i
            nearest = m
            m += 1
        group_of[i] = nearest
        sums[nearest] += weights[i]
    total = sums[:m].sum()
    shares = sums[:m] / total if total > 0 else np.full(m, 1 / m)
    heaviest = _falling(shares)
    queries = np.empty((m, codes.shape[1]), np.int8)
    members = np.empty(rows.shape[0], np.int64)
    for q in range(m):
        size = 0
        for i in order:
            if group_of[i] == heaviest[q]:
                members[size] = i
                size += 1
        queries[q] = mean_code(codes, inverse, rows[members[:size]], weights[members[:size]])
    return queries, _divide(k, shares[heaviest])


@compiled
def _falling(values: Weights) -> Indices:
    """Indices (n,) of values (n,), the largest first, of equal ones the earlier."""
    order = np.arange(values.shape[0])
    for i in range(1, order.shape[0]):
        j = i
        while j > 0 and values[order[j]] > values[order[j - 1]]:
            order[j], order[j - 1] = order[j - 1], order[j]
            j -= 1
    return order


@compiled
def _cosine(codes: Codes, inverse: Norms, rows: Rows, i: int, j: int) -> np.float32:
    """Of two of the rows, the same whichever comes first."""
    first, second = rows[min(i, j)], rows[max(i, j)]
    return np.float32(np.float32(dot(codes[first], codes[second])) * inverse[first] * inverse[second])


@compiled
def _divide(k: int, shares: Weights) -> Indices:
    """Parts (m,) of k by shares (m,) that sum to 1."""
    parts = np.empty(shares.shape[0], np.int64)
    rest = np.empty(shares.shape[0])
    left = k
    for q in range(shares.shape[0]):
        parts[q] = np.int64(shares[q] * k)
        rest[q] = shares[q] * k - parts[q]
        left -= parts[q]
    by_rest = _falling(rest)
    for q in range(left):
        parts[by_rest[q]] += 1
    return parts

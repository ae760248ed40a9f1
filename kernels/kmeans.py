"""Spherical k-means over int8 codes: k unit centroids that many unit vectors lie near (Dhillon and Modha, 2001).

Seeds by k-means++ (Arthur and Vassilvitskii, SODA 2007) with 1 - cosine as the weight, which is half the squared
distance of unit vectors; then rounds of Lloyd's. All sums run in one order and means are integers, so that the same
codes and generator give the same centroids. Called by `constellation.codebook.train`, never by a shard: not warmed.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels import sums
from kernels.centroids import coarsen, nearest_centroid
from kernels.codes import inverse_norms, quantise
from kernels.compiled import compiled
from kernels.dot import dot
from kernels.scan import Codes, Norms, Rows, Scores


class Round(NamedTuple):
    """centroids (k, d) int8; and by those before, nearest (n,) int32 and the mean cosine of the codes with theirs."""

    centroids: Codes
    nearest: Rows
    cosine: float


def plus_plus(codes: Codes, inv: Norms, k: int, rng: np.random.Generator) -> Iterator[int]:
    """k rows to begin with, one at a time: each drawn in proportion to 1 - its cosine to the nearest one before it.

    codes (n, d) int8 with n >= 1, none zero, inv (n,) float32 = 1/|code|. A row comes twice only when every code is
    that of a row drawn before. About 10 ns x n a row. Twin: `plus_plus`.
    """
    gaps = np.full(len(codes), 2.0)  # no cosine is below -1
    for _ in range(k):
        totals = np.cumsum(gaps)
        row = min(int(np.searchsorted(totals, rng.random() * totals[-1], side="right")), len(codes) - 1)
        yield row
        _narrow(gaps, codes, inv, row)


def lloyd(codes: Codes, inv: Norms, centroids: Codes) -> Round:
    """One round: each code to its nearest centroid, each centroid to the normalised mean of its codes.

    codes (n, d) int8, none zero, inv (n,) float32, centroids (k, d) int8, 1 <= k <= n. A centroid that is nearest to no
    code, or whose codes cancel out, becomes one of the codes farthest from theirs. About 10 ns x n x k. Twin: `lloyd`.
    """
    centroid_inv = inverse_norms(centroids)
    nearest = nearest_centroid(codes, centroids, centroid_inv, *coarsen(centroids, centroid_inv))
    cosines = _own_cosines(codes, inv, centroids, centroid_inv, nearest)
    total = sums.empty(len(centroids), codes.shape[1])
    alike = np.ones(len(codes), np.float32)
    sums.accumulate(*total, nearest, codes, inv, alike, alike.astype(np.uint32), 1)
    means = sums.finish(total.sums, total.weights)
    found = means.any(axis=1)
    moved = np.empty_like(centroids)
    moved[found] = quantise(means[found])
    moved[~found] = codes[np.argsort(cosines, kind="stable")[: len(centroids) - int(found.sum())]]
    return Round(moved, nearest, float(cosines.mean(dtype=np.float64)))


@compiled
def _narrow(gaps: npt.NDArray[np.float64], codes: Codes, inv: Norms, row: int) -> None:
    """Lower gaps (n,) to 1 - cosine with the code of `row`, where that is less; 0 for the row and what equals it."""
    for i in range(codes.shape[0]):
        cosine = np.float32(dot(codes[row], codes[i])) * inv[i] * inv[row]
        gaps[i] = min(gaps[i], max(0.0, 1.0 - np.float64(cosine)))
    gaps[row] = 0.0


@compiled
def _own_cosines(codes: Codes, inv: Norms, centroids: Codes, centroid_inv: Norms, nearest: Rows) -> Scores:
    """Cosine (n,) float32 of each code with the centroid nearest[i]."""
    cosines = np.empty(codes.shape[0], np.float32)
    for i in range(codes.shape[0]):
        c = nearest[i]
        cosines[i] = np.float32(dot(codes[i], centroids[c])) * inv[i] * centroid_inv[c]
    return cosines

"""The nearest of many centroids: all of them looked at coarsely, in half the memory, and few exactly.

A component c is 16 x u - 120 + r with u in 0..15. What r (the rest, -8..7) can add to the inner product with a query is
at most |query| x |rest| (Cauchy-Schwarz). So a centroid whose coarse score plus this bound stays below an exact score
is not the nearest, and the answer is the one that comparing all exactly gives, to the last bit. Called for the buckets
of a codebook and by `kernels.kmeans`.
"""

from typing import NamedTuple

import numpy as np

from kernels.coarse import BLOCK, Dots, Packed, coarse_dots, pack
from kernels.compiled import compiled, inlined
from kernels.dot import dot
from kernels.scan import Code, Codes, Norms, Rows, Scores

_STEP = 16
_LOWEST = -120
"""What u = 0 stands for: in the middle of -128..-113, but for a half."""

_OCTET = 8
"""Bounds that are looked at together: most eights have none that is high enough."""


class Coarse(NamedTuple):
    """Of k centroids: packed as `kernels.coarse.pack` does, slack (k,) float32 = (|rest| + 1) / |centroid|.

    One more than the rest is at least 1 / (127 x sqrt(d)) of a score, hundreds of times what float32 rounds off.
    """

    packed: Packed
    slack: Norms


def coarsen(centroids: Codes, inv: Norms) -> Coarse:
    """Of centroids (k, d) int8 and inv (k,) float32 = 1/|centroid|."""
    k, d = centroids.shape
    steps = (centroids.astype(np.int16) - np.int16(-128)) // _STEP
    rest = (centroids - (_STEP * steps + _LOWEST)).astype(np.float64)
    padded = np.zeros((-(-k // BLOCK) * BLOCK, -(-d // BLOCK) * BLOCK), np.uint8)
    padded[:k, :d] = steps
    return Coarse(pack(padded), ((np.linalg.norm(rest, axis=1) + 1) * inv).astype(np.float32))


@compiled
def nearest_centroid(codes: Codes, centroids: Codes, inv: Norms, packed: Packed, slack: Norms) -> Rows:
    """Index (n,) int32 of the centroid most similar to each code; of equal ones the lower. Twin: `nearest_centroid`.

    codes (n, d) int8, centroids (k, d) int8 with k >= 1, neither with -128, inv (k,) float32 = 1/|centroid|; packed and
    slack are what `coarsen` makes of both. About 4 ns a centroid, and 20 more for each that has to be compared exactly:
    of 1,024 mostly 20 (`python -m bench sync_shard`). A zero code gets 0.
    """
    nearest = np.empty(codes.shape[0], np.int32)
    query, dots, bounds = _room(packed)
    for i in range(codes.shape[0]):
        nearest[i] = _nearest(codes[i], centroids, inv, packed, slack, query, dots, bounds)
    return nearest


@compiled
def place(at: Rows, rows: Rows, codes: Codes, centroids: Codes, inv: Norms, packed: Packed, slack: Norms) -> None:
    """at[row] = 1 + the centroid nearest to codes[row] for those of rows (m,) int32 where at (N,) int32 is 0.

    codes (N, d) int8, the rest as of `nearest_centroid`. Twin: `place`.
    """
    query, dots, bounds = _room(packed)
    for i in range(rows.shape[0]):
        if at[rows[i]] == 0:
            at[rows[i]] = 1 + _nearest(codes[rows[i]], centroids, inv, packed, slack, query, dots, bounds)


@inlined
def _room(packed: Packed) -> tuple[Code, Dots, Scores]:
    """For what `_nearest` has in between: a code, and dots and bounds of each coarse centroid."""
    k = BLOCK * packed.shape[0]
    return np.zeros(8 * packed.shape[1], np.int8), np.empty(k, np.int32), np.full(k, -np.inf, np.float32)


@compiled
def _nearest(
    code: Code,
    centroids: Codes,
    inv: Norms,
    packed: Packed,
    slack: Norms,
    query: Code,
    dots: Dots,
    bounds: Scores,
) -> int:
    total, square = np.int32(0), np.int32(0)
    for j in range(code.shape[0]):
        query[j] = code[j]
        total = np.int32(total + np.int32(code[j]))
        square = np.int32(square + np.int32(np.int16(code[j]) * np.int16(code[j])))
    coarse_dots(packed, query, dots)
    found = _likely(dots, np.int32(_LOWEST * total), np.sqrt(np.float32(square)), inv, slack, bounds)
    best = np.float32(dot(code, centroids[found])) * inv[found]
    for start in range(0, bounds.shape[0], _OCTET):
        some = np.int32(0)
        for c in range(_OCTET):
            some += np.int32(bounds[start + c] >= best)
        if some == 0:
            continue
        for c in range(start, start + _OCTET):
            if bounds[c] >= best:
                score = np.float32(dot(code, centroids[c])) * inv[c]
                if score > best or (score == best and c < found):
                    best, found = score, c
    return found


@inlined
def _likely(dots: Dots, lowest: np.int32, length: np.float32, inv: Norms, slack: Norms, bounds: Scores) -> int:
    """Fill bounds (k',) with the highest that each score can be; the number of the centroid with the best coarse one.

    What is in dots (k',) is lost. That best one is found among integers: eight of them fill a register, and floats are
    compared one by one because their order matters to NaN.
    """
    for c in range(inv.shape[0]):
        score = np.float32(np.int32(_STEP * dots[c] + lowest)) * inv[c]
        bounds[c] = score + length * slack[c]
        dots[c] = np.int32(score * np.float32(_STEP))
    top = dots[0]
    for c in range(inv.shape[0]):
        top = max(top, dots[c])
    likely = 0
    while dots[likely] != top:
        likely += 1
    return likely

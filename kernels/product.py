"""Product quantisation of what a centroid leaves of a code (Jegou, Douze and Schmid, PAMI 2011).

What is left is projected on a axes, and each of m runs of s axes becomes the number of its nearest entry in a table of
256. Axes and entries are int8, so that what the numbers mean is exact integers wherever they are decoded. Called by
`constellation.residuals`; training is not warmed.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt

from kernels import compiled as mode
from kernels.codes import CODE_MAX
from kernels.compiled import compiled, inlined
from kernels.dot import dot
from kernels.scan import Codes, Norms, Rows

ENTRIES = 256
"""Of a table: what a byte can name."""

Points = npt.NDArray[np.float32]
Tables = npt.NDArray[np.float32]
"""(m, s, ENTRIES): entry k of table i is tables[i, :, k]."""
Numbers = npt.NDArray[np.uint8]
Sums = npt.NDArray[np.int32]
Coordinates = npt.NDArray[np.int16]
Paired = npt.NDArray[np.int16]
"""(d / 8, a / 2, 8, 2): axes two by two, and eight components of both at a time (`pair`)."""

GROUP = 8
"""Components of an axis that are multiplied at once."""
POINTS_AT_ONCE, GROUPS_AT_ONCE = 4, 2


@inlined
def _combine(points: Coordinates, axes: Paired, sums: Sums) -> None:
    for i in range(points.shape[0]):
        sums[i] = np.int32(0)
        for g in range(axes.shape[0]):
            row = sums[i, g * GROUP : (g + 1) * GROUP]
            for p in range(axes.shape[1]):
                one, other, both = np.int32(points[i, 2 * p]), np.int32(points[i, 2 * p + 1]), axes[g, p]
                for j in range(GROUP):
                    row[j] += np.int32(one * np.int32(both[j, 0]) + other * np.int32(both[j, 1]))


combine: Callable[[Coordinates, Paired, Sums], None] = _combine
"""combine(points, axes, sums): sums (n, d) int32 = points (n, a) int16 x axes, `pair`ed; n is a multiple of
POINTS_AT_ONCE."""

if mode.JIT and mode.has_feature("avx2"):
    from kernels import avx2

    combine = cast(Callable[[Coordinates, Paired, Sums], None], avx2.combine)


@compiled
def encode(
    codes: Codes,
    scale: Norms,
    numbers: Rows,
    centroids: Codes,
    weights: Norms,
    axes: Codes,
    axis_inv: Norms,
    tables: Tables,
) -> Numbers:
    """Numbers (n, m) uint8 of what centroids leave of codes (n, d) int8.

    With x = codes[i] x scale[i] and c = centroids[numbers[i]] x weights[numbers[i]] the residual's coordinate on axis
    j is dot(axes[j], x - c) x axis_inv[j]. scale (n,), weights (k,) and axis_inv (a,) float32, numbers (n,) int32 below
    k, centroids (k, d) and axes (a, d) int8 with a = m x s.
    About 10 us a code for d = 384, a = 180. Twin: `encode_residuals`.
    """
    n, a = codes.shape[0], axes.shape[0]
    point = np.empty((1, a), np.float32)
    found = np.empty((n, tables.shape[0]), np.uint8)
    for i in range(n):
        centroid, weight = centroids[numbers[i]], weights[numbers[i]]
        for j in range(a):
            of_code = np.float32(dot(axes[j], codes[i])) * scale[i]
            of_centroid = np.float32(dot(axes[j], centroid)) * weight
            point[0, j] = (of_code - of_centroid) * axis_inv[j]
        _assign(point, tables, found[i : i + 1])
    return found


@compiled
def decode(
    residuals: Numbers, numbers: Rows, centroids: Codes, weights: Sums, axes: Paired, tables: npt.NDArray[np.int8]
) -> Codes:
    """Codes (n, d) int8 of residuals (n, m) uint8 and centroids numbers (n,) int32 below k; 0 where all cancels out.

    A code is that of the vector weights[c] x centroids[c] + the sum over axes of entry x axis. weights (k,) int32,
    centroids (k, d), tables (m, 256, s) int8 as in a codebook, d a multiple of 16, m x s of 2; no component is -128,
    and no sum exceeds 2^31. 0.1 ms for 100. Twin: `decode_residuals`.
    """
    n, m = residuals.shape
    d, s = centroids.shape[1], tables.shape[2]
    points = np.zeros((n + -n % POINTS_AT_ONCE, m * s), np.int16)
    for i in range(n):
        for t in range(m):
            for j in range(s):
                points[i, t * s + j] = tables[t, residuals[i, t], j]
    sums, codes = np.empty((points.shape[0], d), np.int32), np.empty((n, d), np.int8)
    combine(points, axes, sums)
    for i in range(n):
        weight, centroid, row = weights[numbers[i]], centroids[numbers[i]], sums[i]
        peak = np.int32(0)
        for j in range(d):
            row[j] += np.int32(weight * np.int32(centroid[j]))
            peak = max(peak, np.int32(abs(row[j])))
        scale = CODE_MAX / np.float64(max(peak, np.int32(1)))
        for j in range(d):
            codes[i, j] = np.int8(np.rint(np.float64(row[j]) * scale))
    return codes


def pair(axes: Codes) -> Paired:
    """Axes (a, d) int8 as `decode` takes them."""
    a, d = axes.shape
    assert a % 2 == 0 and d % (GROUP * GROUPS_AT_ONCE) == 0
    return np.ascontiguousarray(axes.reshape(a // 2, 2, d // GROUP, GROUP).transpose(2, 0, 3, 1)).astype(np.int16)


@compiled
def assign(points: Points, tables: Tables) -> Numbers:
    """Numbers (n, m) uint8 of the entries nearest to points (n, m x s) float32; of equal ones the lower.

    Twin: `assign`.
    """
    found = np.empty((points.shape[0], tables.shape[0]), np.uint8)
    _assign(points, tables, found)
    return found


@compiled
def improve(points: Points, numbers: Numbers, tables: Tables) -> Tables:
    """Tables in which an entry is the mean of the points that have its number; one that none has stays.

    Twin: `improve`.
    """
    m, s, entries = tables.shape
    sums, counts = np.zeros(tables.shape), np.zeros((m, entries))
    for i in range(points.shape[0]):
        for t in range(m):
            k = numbers[i, t]
            counts[t, k] += 1
            for j in range(s):
                sums[t, j, k] += points[i, t * s + j]
    made = tables.copy()
    for t in range(m):
        for k in range(entries):
            if counts[t, k] > 0:
                for j in range(s):
                    made[t, j, k] = np.float32(sums[t, j, k] / counts[t, k])
    return made


@inlined
def _assign(points: Points, tables: Tables, found: Numbers) -> None:
    m, s, entries = tables.shape
    gaps = np.empty(entries, np.float32)
    for i in range(points.shape[0]):
        for t in range(m):
            gaps[:] = np.float32(0)
            for j in range(s):
                at, column = points[i, t * s + j], tables[t, j]
                for k in range(entries):
                    gap = at - column[k]
                    gaps[k] += gap * gap
            best, least = 0, gaps[0]
            for k in range(1, entries):
                if gaps[k] < least:
                    best, least = k, gaps[k]
            found[i, t] = best

"""Product quantisation of what a centroid leaves of a code (Jegou, Douze and Schmid, PAMI 2011).

What is left is projected on a axes, and each of m runs of s axes becomes the number of its nearest entry in a table of
256. Axes and entries are int8, so that what the numbers mean is exact integers wherever they are decoded. Called by
`constellation.residuals`; training is not warmed.
"""

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled, inlined
from kernels.dot import dot
from kernels.scan import Codes, Norms, Rows

ENTRIES = 256
"""Of a table: what a byte can name."""

Points = npt.NDArray[np.float32]
Tables = npt.NDArray[np.float32]
"""(m, s, ENTRIES): entry k of table i is tables[i, :, k]."""
Numbers = npt.NDArray[np.uint8]


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

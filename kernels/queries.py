"""What a query is made of: the mean of some codes, and the projection of a code onto axes."""

import numpy as np
import numpy.typing as npt

from kernels.codes import CODE_MAX, Codes, Norms, quantise
from kernels.compiled import compiled
from kernels.dot import dot

Code = npt.NDArray[np.int8]
Rows = npt.NDArray[np.int32]


@compiled
def mean_code(codes: Codes, inverse: Norms, rows: Rows, weights: npt.NDArray[np.float64]) -> Code:
    """Code (d,) int8 of the weighted mean direction of rows (m,), m >= 1, of codes (N, d) int8. Twin: `mean_code`.

    inverse (N,) float32 = 1/|code|, weights (m,) >= 0. The first row's code where they cancel out or weigh nothing.
    """
    d = codes.shape[1]
    mean = np.zeros((1, d), np.float32)
    for i in range(rows.shape[0]):
        row = rows[i]
        scale = np.float32(weights[i] * inverse[row])
        for j in range(d):
            mean[0, j] += scale * np.float32(codes[row, j])
    made: Code = quantise(mean)[0] if mean.any() else codes[rows[0]].copy()
    return made


@compiled
def project(codes: Codes, inverse: Norms, axes: Codes, scales: Norms) -> Codes:
    """Components (n, a) int8 of unit vectors along axes: rint(code . axis x 1/|code| x scale), held to -127..127.

    codes (n, d) int8 and inverse (n,) float32 = 1/|code|; axes (a, d) int8 without -128, scales (a,) float32. About
    9 ns a component. Twin: `project`.
    """
    n = codes.shape[0]
    components = np.empty((n, axes.shape[0]), np.int8)
    for i in range(n):
        code = codes[i]
        for a in range(axes.shape[0]):
            component = np.rint(np.float32(dot(code, axes[a])) * inverse[i] * scales[a])
            components[i, a] = np.int8(min(max(component, np.float32(-CODE_MAX)), np.float32(CODE_MAX)))
    return components

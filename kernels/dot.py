"""The inner product of two codes: what every exact comparison comes down to."""

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt

from kernels import compiled as mode
from kernels.compiled import inlined

Code = npt.NDArray[np.int8]


@inlined
def _dot(a: Code, b: Code) -> np.int32:
    """The casts make LLVM emit vpmaddwd (17-20 ns for 384); without them numba sums in int64, ten times slower."""
    total = np.int32(0)
    for j in range(a.shape[0]):
        total = np.int32(total + np.int32(np.int16(a[j]) * np.int16(b[j])))
    return total


dot: Callable[[Code, Code], np.int32] = _dot
"""dot(a, b): inner product of two vectors (d,) int8 without -128; d < 2^17, so that int32 holds it."""

if mode.JIT and mode.has_feature("avx2"):
    from kernels import avx2

    dot_blocks = cast(Callable[[Code, Code, int], np.int32], avx2.dot_blocks)

    @inlined
    def _dot_avx2(a: Code, b: Code) -> np.int32:
        blocks = a.shape[0] // avx2.LANES
        total = dot_blocks(a, b, blocks)
        for j in range(blocks * avx2.LANES, a.shape[0]):
            total = np.int32(total + np.int32(np.int16(a[j]) * np.int16(b[j])))
        return total

    dot = _dot_avx2

"""Inner products of a code with 32 coarse ones at a time: 4 bits a component, none summed across a register.

The layout is made for 32-byte registers. A block is 32 coarse codes; it is cut into slices of 8 components, of which
code c has 4 bytes at 4c: components 4s..4s + 3 in their low halves, 4s..4s + 3 after the middle in their high ones.
Called by `kernels.centroids`.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt

from kernels import compiled as mode
from kernels.compiled import inlined

BLOCK = 32
"""Codes, and what the number of components is a multiple of."""

Packed = npt.NDArray[np.uint8]
Code = npt.NDArray[np.int8]
Dots = npt.NDArray[np.int32]


def pack(steps: npt.NDArray[np.uint8]) -> Packed:
    """Blocks (n / 32, d / 8, 32, 4) of coarse codes (n, d) of 0..15, n and d multiples of 32."""
    n, d = steps.shape
    halves = steps.reshape(n // BLOCK, BLOCK, 2, d // 8, 4).transpose(2, 0, 3, 1, 4)
    return np.ascontiguousarray(halves[0] | (halves[1] << 4))


@inlined
def _coarse_dots(packed: Packed, code: Code, dots: Dots) -> None:
    half = code.shape[0] // 2
    dots[:] = 0
    for block in range(packed.shape[0]):
        for s in range(packed.shape[1]):
            for c in range(BLOCK):
                for j in range(4):
                    both = packed[block, s, c, j]
                    low, high = np.int16(code[4 * s + j]), np.int16(code[half + 4 * s + j])
                    dots[block * BLOCK + c] += np.int32(np.int16(both & 15) * low) + np.int32(
                        np.int16(both >> 4) * high
                    )


coarse_dots: Callable[[Packed, Code, Dots], None] = _coarse_dots
"""coarse_dots(packed, code, dots): fill dots (n,) int32 with the inner products of what `pack` gave and a code (d,)."""

if mode.JIT and mode.has_feature("avx2"):
    from kernels import avx2

    coarse_dots = cast(Callable[[Packed, Code, Dots], None], avx2.coarse_dots)

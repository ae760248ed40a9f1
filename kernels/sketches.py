"""Sketches: a short stand-in for a code, 192 components that are packed into 4 bits each, and their inner products.

The slope of every search: `packed_dot` is called some twenty thousand times a query. Unpacked sketches have one common
scale, so their integer inner product orders as the cosine does. Used by `kernels.lists` and `kernels.partition`.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kernels import compiled as mode
from kernels.compiled import inlined

AXES = 192
"""Components of a sketch: the embedding turned onto its main axes."""
HALF = AXES // 2
"""Bytes of a packed sketch: component j in the low half of byte j, component j + HALF in the high half."""
SKETCH_NORM = 127 / 0.42
"""Length of an unpacked sketch of a unit vector that the projection keeps whole."""
STEP = 7
"""Width of a packed step in units of an unpacked component: a packed n stands for (n - 7.5) * STEP."""

Sketch = npt.NDArray[np.int8]
Packed = npt.NDArray[np.uint8]


@inlined
def sketch_dot(a: Any, b: Any) -> np.int32:
    """Inner product of two unpacked int8 vectors of AXES components, as int32."""
    s = np.int32(0)
    for j in range(AXES):
        s = np.int32(s + np.int32(np.int16(a[j]) * np.int16(b[j])))
    return s


@inlined
def unpack(packed: Packed, out: Sketch) -> None:
    """Twice the components of a packed sketch in steps, -15..15, into out (AXES,) int8."""
    for j in range(HALF):
        out[j] = np.int8(2 * np.int8(packed[j] & 15) - 15)
        out[HALF + j] = np.int8(2 * np.int8(packed[j] >> 4) - 15)


@inlined
def pack(sketch: Sketch, out: Packed) -> None:
    """Pack an int8 sketch (AXES,) into out (HALF,) uint8."""
    for j in range(HALF):
        low = min(15, max(0, (int(sketch[j]) + 8 * STEP) // STEP))
        high = min(15, max(0, (int(sketch[HALF + j]) + 8 * STEP) // STEP))
        out[j] = np.uint8(low | (high << 4))


@inlined
def _packed_dot(packed: Packed, at: int, sketch: Sketch) -> np.int32:
    s = np.int32(0)
    for j in range(HALF):
        byte = packed[at + j]
        s = np.int32(s + np.int32(np.int16(byte & 15) * np.int16(sketch[j])))
        s = np.int32(s + np.int32(np.int16(byte >> 4) * np.int16(sketch[HALF + j])))
    return s


packed_dot: Callable[[Packed, int, Sketch], np.int32] = _packed_dot
"""packed_dot(packed, at, sketch): inner product of the packed components, 0..15, from byte `at` of a flat array with a
sketch (AXES,) int8. It orders as the unpacked one does: it is larger by 7.5 times the sum of the sketch."""

if mode.JIT and mode.has_feature("avx2"):
    from kernels import avx2

    packed_dot = cast(Callable[[Packed, int, Sketch], np.int32], avx2.packed_dot)

"""Rows as a database sends them: where they begin in a stream, and codes as half floats with the high byte first.

A row is `fixed` bytes, then values whose width varies, each behind its length (PostgreSQL, COPY's binary format).
"""

import numpy as np
import numpy.typing as npt

from kernels.codes import CODE_MAX
from kernels.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.uint16]
"""(n, d) uint16: bits of half floats, their two bytes swapped."""
Bounds = npt.NDArray[np.int64]

HALF_SHIFT = 13
"""Bits of a float32's fraction that a half does not have."""
HALF_BIAS = 112 << 10
"""What a float32's exponent is larger by, as a half's bits."""


@compiled
def split_rows(stream: Bytes, fixed: int, varying: int) -> tuple[Bytes, Bounds, int]:
    """The whole rows at the start of a stream (s,) uint8, up to the two bytes 255 that end it. Twin: `split_rows`.

    Returns (records (n, fixed) uint8, bounds (n, 2 * varying) int64, the byte after the last row): value v of row i is
    stream[bounds[i, 2 * v] : bounds[i, 2 * v + 1]]. A row that is cut off anywhere is not one of them. Lengths must
    not be negative (no NULL).
    """
    n_max = stream.shape[0] // (fixed + 4 * varying)
    starts = np.empty(n_max, np.int64)
    bounds = np.empty((n_max, 2 * varying), np.int64)
    n = 0
    at = 0
    end = stream.shape[0]
    while n < n_max and end - at >= fixed and not (stream[at] == 255 and stream[at + 1] == 255):
        stop = at + fixed
        for v in range(varying):
            if stop + 4 > end:
                stop = end + 1
                break
            length = 0
            for b in range(4):
                length = length * 256 + int(stream[stop + b])
            bounds[n, 2 * v] = stop + 4
            stop += 4 + length
            bounds[n, 2 * v + 1] = stop
        if stop > end:
            break
        starts[n] = at
        at = stop
        n += 1
    records = np.empty((n, fixed), np.uint8)
    for i in range(n):
        records[i] = stream[starts[i] : starts[i] + fixed]
    return records, bounds[:n], at


@compiled
def unit_halves(codes: npt.NDArray[np.int8], inv: npt.NDArray[np.float32]) -> Halves:
    """Unit vectors (n, d) of codes (n, d) int8 and inv (n,) float32 = 1/|code|, as half floats. Twin: `unit_halves`.

    Rounded to nearest, ties to even. Codes of less than 16,000 dimensions: no component is below 2^-14, where halves
    get fewer digits, unless it is zero.
    """
    n, d = codes.shape
    halves = np.empty((n, d), np.uint16)
    unit = np.empty(d, np.float32)
    bits = unit.view(np.uint32)
    for i in range(n):
        for j in range(d):
            unit[j] = np.float32(codes[i, j]) * inv[i]
        for j in range(d):
            magnitude = int(bits[j] & np.uint32(0x7FFFFFFF))
            rounded = (magnitude + 4095 + ((magnitude >> HALF_SHIFT) & 1)) >> HALF_SHIFT
            half = max(rounded - HALF_BIAS, 0) | int(bits[j] >> np.uint32(31)) << 15
            halves[i, j] = np.uint16((half & 255) << 8 | half >> 8)
    return halves


@compiled
def codes_of_halves(halves: Halves) -> npt.NDArray[np.int8]:
    """Codes (n, d) int8 of finite half floats (n, d) of any length, none a zero vector. Twin: `codes_of_halves`.

    What `unit_halves` made of a code with its largest component at +-127 gives that code. A half's bits in a float32's
    places are the same number times 2^-112: the direction is all that counts.
    """
    n, d = halves.shape
    codes = np.empty((n, d), np.int8)
    vector = np.empty(d, np.float32)
    bits = vector.view(np.uint32)
    peak_bits = np.empty(1, np.uint32)
    for i in range(n):
        peak = np.uint32(0)
        for j in range(d):
            swapped = np.uint32(halves[i, j])
            half = swapped >> np.uint32(8) | (swapped & np.uint32(255)) << np.uint32(8)
            magnitude = (half & np.uint32(0x7FFF)) << np.uint32(HALF_SHIFT)
            bits[j] = magnitude | (half >> np.uint32(15)) << np.uint32(31)
            peak = max(peak, magnitude)
        peak_bits[0] = peak
        scale = CODE_MAX / np.float64(peak_bits.view(np.float32)[0])
        for j in range(d):
            codes[i, j] = np.int8(np.rint(np.float64(vector[j]) * scale))
    return codes

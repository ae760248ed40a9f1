"""Embeddings as int8 codes: how they are made, and how they are given back.

A code is rint(v x 127 / max|v|): its largest component is always 127 or -127, so that a code decoded to floats (also
to half floats) and encoded again is the same code. Only its direction means anything; 1/|code| is kept beside it.
Vectors must have been checked (`check_vectors`, `check_codes`) before they are encoded.
"""

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled

Vectors = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]
Norms = npt.NDArray[np.float32]

CODE_MAX = 127
INFINITY_BITS = np.uint32(0x7F800000)
MAGNITUDE_BITS = np.uint32(0x7FFFFFFF)
DECIMALS_SCALE = 1_000_000
NUMBER_BYTES = 8
"""Bytes of one unsigned number in `format_json`: a digit, the point, six decimals."""


@compiled
def check_vectors(vectors: Vectors) -> int:
    """The first row of vectors (n, d) float32 that is all zero or not finite, else -1. Twin: `check_vectors`.

    The bits of |x| order as |x| does, with infinity and NaN above all else: one integer maximum a row tells.
    """
    bits = vectors.view(np.uint32)
    for i in range(bits.shape[0]):
        peak = _peak_bits(bits[i])
        if peak == np.uint32(0) or peak >= INFINITY_BITS:
            return i
    return -1


@compiled
def check_codes(codes: Codes) -> int:
    """The first row of codes (n, d) int8 that is all zero, else -1. Twin: `check_codes`."""
    for i in range(codes.shape[0]):
        if _peak(codes[i]) == 0:
            return i
    return -1


@compiled
def quantise(vectors: Vectors) -> Codes:
    """Codes (n, d) int8 of checked vectors (n, d) float32 of any length. Twin: `quantise`.

    In float64, so that denormal vectors do not overflow the scale. A zero row would give arbitrary codes.
    """
    n, d = vectors.shape
    bits = vectors.view(np.uint32)
    peak_bits = np.empty(1, np.uint32)
    peak = peak_bits.view(np.float32)
    codes = np.empty((n, d), np.int8)
    for i in range(n):
        peak_bits[0] = _peak_bits(bits[i])
        scale = CODE_MAX / np.float64(peak[0])
        for j in range(d):
            codes[i, j] = np.int8(np.rint(np.float64(vectors[i, j]) * scale))
    return codes


@compiled
def requantise(codes: Codes) -> Codes:
    """Codes (n, d) int8 of the same directions, with the largest component at +-127; -128 may come in.

    For codes made by devices. Codes of ours stay as they are; a zero row stays zero. Twin: `requantise`.
    """
    n, d = codes.shape
    out = np.empty((n, d), np.int8)
    for i in range(n):
        peak = _peak(codes[i])
        scale = CODE_MAX / np.float64(max(peak, 1))
        for j in range(d):
            out[i, j] = np.int8(np.rint(np.float64(codes[i, j]) * scale))
    return out


@compiled
def inverse_norms(codes: Codes) -> Norms:
    """1/|code| (n,) float32 of codes (n, d) int8, 0 for a zero code. Twin: `inverse_norms`."""
    n, d = codes.shape
    inverse = np.zeros(n, np.float32)
    for i in range(n):
        square = np.int32(0)
        for j in range(d):
            square = np.int32(square + np.int32(np.int16(codes[i, j]) * np.int16(codes[i, j])))
        if square > 0:
            inverse[i] = np.float32(1.0 / np.sqrt(np.float64(square)))
    return inverse


@compiled
def dequantise(codes: Codes, inv: Norms) -> Vectors:
    """Unit vectors (n, d) float32 of codes (n, d) int8 and inv (n,) float32 = 1/|code|. Twin: `dequantise`."""
    n, d = codes.shape
    vectors = np.empty((n, d), np.float32)
    for i in range(n):
        for j in range(d):
            vectors[i, j] = np.float32(codes[i, j]) * inv[i]
    return vectors


@compiled
def format_json(codes: Codes, inv: Norms) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Unit vectors as JSON arrays with six decimals: `[-0.012345,0.100000]`. Twin: `format_json`.

    codes (n, d) int8 with d >= 1, inv (n,) float32. Returns (text uint8, offsets (n + 1,) int64): array i is
    text[offsets[i]:offsets[i + 1]]. A number read back is within 5e-7 of what `dequantise` gives.
    A row has at most 129 magnitudes: their digits are written once a row, then copied.
    """
    n, d = codes.shape
    text = np.empty(n * (d * (NUMBER_BYTES + 2) + 1), np.uint8)
    offsets = np.zeros(n + 1, np.int64)
    digits = np.empty((129, NUMBER_BYTES), np.uint8)
    at = 0
    for i in range(n):
        for magnitude in range(_peak(codes[i]) + 1):
            _write_number(digits[magnitude], np.float32(magnitude) * inv[i])
        text[at] = np.uint8(91)  # [
        at += 1
        for j in range(d):
            code = np.int64(codes[i, j])
            text[at] = np.uint8(45)  # - which the number overwrites unless it is negative
            at += int(code < 0)
            number = digits[abs(code)]
            for b in range(NUMBER_BYTES):
                text[at + b] = number[b]
            text[at + NUMBER_BYTES] = np.uint8(44)  # ,
            at += NUMBER_BYTES + 1
        text[at - 1] = np.uint8(93)  # ] over the last comma
        offsets[i + 1] = at
    return text[:at], offsets


@compiled
def _peak_bits(bits: npt.NDArray[np.uint32]) -> np.uint32:
    """Bits of the largest |x| of one row of float32 given as its bits."""
    peak = np.uint32(0)
    for j in range(bits.shape[0]):
        peak = max(peak, np.uint32(bits[j] & MAGNITUDE_BITS))
    return peak


@compiled
def _peak(code: Codes) -> int:
    """Largest magnitude 0..128 of one code."""
    peak = np.int16(0)
    for j in range(code.shape[0]):
        peak = max(peak, np.int16(abs(np.int16(code[j]))))
    return int(peak)


@compiled
def _write_number(digits: npt.NDArray[np.uint8], value: np.float32) -> None:
    """Write 0 <= value < 10 into eight bytes with six decimals."""
    scaled = np.int64(np.rint(np.float64(value) * DECIMALS_SCALE))
    for b in range(NUMBER_BYTES - 1, 1, -1):
        digits[b] = np.uint8(48 + scaled % 10)
        scaled //= 10
    digits[1] = np.uint8(46)  # .
    digits[0] = np.uint8(48 + scaled)

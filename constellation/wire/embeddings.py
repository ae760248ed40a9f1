"""Embeddings between their forms on the wire and int8 codes.

In: an array of floats, or bytes told apart by length (f32, f16, int8; little-endian), which JSON carries as base64.
Out: unit vectors in f32 or f16, or the codes themselves. Only the direction of what comes in counts, so every form
of one vector gives the same code up to that form's rounding. All embeddings of a body are encoded in one go.
"""

import binascii
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from constellation.errors import Problem
from constellation.model import DIM, Codes, EmbeddingFormat
from constellation.wire.media import Media
from constellation.wire.reading import Refusal
from kernels.codes import check_codes, check_vectors, dequantise, format_json, inverse_norms, quantise, requantise

Vector = npt.NDArray[np.float32]

_DTYPE_BY_LEN: dict[int, np.dtype[Any]] = {4 * DIM: np.dtype("<f4"), 2 * DIM: np.dtype("<f2"), DIM: np.dtype("i1")}
_FLOATS = struct.Struct(f"={DIM}d")
_BASE64_LENS = {len_bytes * 4 // 3 for len_bytes in _DTYPE_BY_LEN}

assert all(len_bytes % 3 == 0 for len_bytes in _DTYPE_BY_LEN)  # so that no base64 of an embedding has padding


def read_embeddings(values: Sequence[bytes | str | list[float]], path: str, refuse: Refusal) -> Codes:
    """Codes (n, 384) of n embeddings as decoded from JSON or msgpack.

    `path` names one of them, with `{}` for its place. Refuses wrong lengths, broken base64, what is NaN or infinite
    as float32, and zero vectors.
    """
    if all(isinstance(value, bytes) and len(value) == DIM for value in values):
        return _read_int8(values, path, refuse)
    vectors = np.empty((len(values), DIM), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows float32 turns infinite, and is refused below
        for row, value in enumerate(values):
            try:
                vectors[row] = _parse(value)
            except _Wrong as wrong:
                raise refuse(path.format(row), *wrong.args) from None
    bad = check_vectors(vectors)
    if bad >= 0:
        raise _refuse_vector(vectors[bad], path.format(bad), refuse)
    return quantise(vectors)


def write_embeddings(codes: Codes, media: Media, form: EmbeddingFormat) -> Sequence[bytes | msgspec.Raw]:
    """What msgspec encodes as the n embeddings: `bytes` become base64 in JSON and bin in msgpack."""
    if form == "i8":
        return _rows(codes)
    inverse = inverse_norms(codes)
    if form == "f32" and media is Media.JSON:
        text, offsets = format_json(codes, inverse)
        whole, ends = text.tobytes(), offsets.tolist()
        return [msgspec.Raw(whole[start:end]) for start, end in pairwise(ends)]
    return _rows(dequantise(codes, inverse).astype("<f2" if form == "f16" else "<f4", copy=False))


def _read_int8(values: Sequence[Any], path: str, refuse: Refusal) -> Codes:
    """The same for n times 384 bytes, which is what TVs send: a third of the time, and no detour by floats."""
    codes = np.frombuffer(bytearray().join(values), np.int8).reshape(-1, DIM)
    bad = check_codes(codes)
    if bad >= 0:
        raise refuse(path.format(bad), "a direction", "a zero vector")
    return requantise(codes)


class _Wrong(Exception):
    """An embedding of the wrong form: what was expected, what came."""


def _parse(value: bytes | str | list[float]) -> npt.NDArray[Any]:
    if isinstance(value, list):
        if len(value) != DIM:
            raise _Wrong(f"{DIM} floats", f"{len(value)} floats")
        return np.frombuffer(_FLOATS.pack(*value))  # NumPy takes longer for a list than for its bytes
    data = _decode_base64(value) if isinstance(value, str) else value
    dtype = _DTYPE_BY_LEN.get(len(data))
    if dtype is None:
        raise _Wrong(f"{4 * DIM} (f32), {2 * DIM} (f16) or {DIM} (int8) bytes", f"{len(data)} bytes")
    return np.frombuffer(data, dtype)


def _decode_base64(text: str) -> bytes:
    if len(text) not in _BASE64_LENS:
        lens = " or ".join(str(length) for length in sorted(_BASE64_LENS))
        raise _Wrong(f"an array of {DIM} floats or base64 of {lens} characters", f"a string of {len(text)} characters")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise _Wrong("base64 (RFC 4648, section 4)", f"a string that is not: {error}") from None


def _refuse_vector(vector: Vector, path: str, refuse: Refusal) -> Problem:
    wrong = np.flatnonzero(~np.isfinite(vector))
    if len(wrong) == 0:
        return refuse(path, "a direction", "a zero vector")
    place = int(wrong[0])
    return refuse(path, "finite float32 numbers", f"{vector[place]} at index {place}")


def _rows(array: npt.NDArray[np.generic]) -> list[bytes]:
    whole = array.tobytes()
    row_bytes = array.itemsize * DIM
    return [whole[start : start + row_bytes] for start in range(0, len(whole), row_bytes)]

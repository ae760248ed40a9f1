"""Rows of a stream and half floats, against plain twins."""

import itertools
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kernels import rows
from kernels.codes import inverse_norms, quantise
from kernels.compiled import JIT

Array = npt.NDArray[Any]


def split_rows(stream: bytes, fixed: int, varying: int) -> tuple[list[bytes], list[list[bytes]], int]:
    """Twin: records, each row's values, and where the last whole row ends."""
    records: list[bytes] = []
    values: list[list[bytes]] = []
    at = 0
    while len(stream) - at >= max(2, fixed) and stream[at : at + 2] != b"\xff\xff":
        stop, row = at + fixed, []
        try:
            for _ in range(varying):
                (length,) = struct.unpack_from(">i", stream, stop)
                row.append(stream[stop + 4 : stop + 4 + length])
                stop += 4 + length
        except struct.error:
            break
        if stop > len(stream):
            break
        records.append(stream[at : at + fixed])
        values.append(row)
        at = stop
    return records, values, at


def unit_halves(codes: Array, inv: Array) -> Array:
    """Twin: NumPy's own rounding to half floats."""
    unit: Array = codes.astype(np.float32) * inv[:, None]
    return unit.astype(">f2").view(np.uint16)


def codes_of_halves(halves: Array) -> Array:
    """Twin: rint(v x 127 / max|v|)."""
    exact = halves.view(">f2").astype(np.float64)
    codes: Array = np.rint(exact * (127 / np.abs(exact).max(axis=1, keepdims=True))).astype(np.int8)
    return codes


def check_split(stream: bytes, fixed: int, varying: int) -> None:
    records, bounds, at = rows.split_rows(np.frombuffer(stream, np.uint8), fixed, varying)
    values = [[stream[b[2 * v] : b[2 * v + 1]] for v in range(varying)] for b in bounds.tolist()]
    assert ([record.tobytes() for record in records], values, at) == split_rows(stream, fixed, varying)


@pytest.mark.parametrize("varying", [0, 1, 2])
def test_rows_are_split_wherever_the_stream_is_cut(varying: int) -> None:
    lengths = itertools.product((0, 1, 3), repeat=varying)
    values = [b"".join(struct.pack(">i", n) + b"\xff" * n for n in some) for some in lengths]
    stream = b"".join(b"\0" + bytes((n,)) + b"\xff\xff" + value for n, value in enumerate(values)) + b"\xff\xff"
    for end in range(len(stream) + 1):
        check_split(stream[:end], 4, varying)


def test_length_that_takes_all_four_bytes_is_read(rng: np.random.Generator) -> None:
    value = rng.bytes(70_000)
    check_split(b"\0\1" + struct.pack(">i", len(value)) + value, 2, 1)
    check_split(b"\0\1\x7f\xff\xff\xff", 2, 1)


def some_codes(n: int, d: int, rng: np.random.Generator) -> Array:
    return quantise((rng.standard_normal((n, d)) * rng.uniform(0.1, 9, (n, d)) ** 3).astype(np.float32))


@pytest.mark.parametrize("d", [1, 2, 3, 65, 384])
def test_halves_are_those_of_numpy_and_give_the_codes_back(d: int, rng: np.random.Generator) -> None:
    codes = some_codes(30, d, rng)
    halves = rows.unit_halves(codes, inverse_norms(codes))
    np.testing.assert_array_equal(halves, unit_halves(codes, inverse_norms(codes)))
    np.testing.assert_array_equal(rows.codes_of_halves(halves), codes)


def test_every_pair_of_components_gives_the_code_back() -> None:
    codes = np.array([(peak, other) for peak in (127, -127) for other in range(-127, 128)], np.int8)
    halves = rows.unit_halves(codes, inverse_norms(codes))
    np.testing.assert_array_equal(halves, unit_halves(codes, inverse_norms(codes)))
    np.testing.assert_array_equal(rows.codes_of_halves(halves), codes)


def test_the_longest_code_gives_itself_back() -> None:
    """All its components are as small as they get, and so is the share of one of them."""
    for others in (127, 126, 1):
        code = np.full((1, 384), others, np.int8)
        code[0, :] = 127
        code[0, 1] = others - 127 or 1
        halves = rows.unit_halves(code, inverse_norms(code))
        np.testing.assert_array_equal(halves, unit_halves(code, inverse_norms(code)))
        np.testing.assert_array_equal(rows.codes_of_halves(halves), code)


def test_codes_of_any_halves_are_those_of_their_direction(rng: np.random.Generator) -> None:
    finite = np.arange(1 << 16, dtype=np.uint16)
    finite = finite[np.isfinite(finite.view(">f2"))]
    halves = np.stack([finite, rng.permutation(finite)], axis=1)
    halves = halves[(halves.view(">f2") != 0).any(axis=1)][:: 1 if JIT else 50]
    np.testing.assert_array_equal(rows.codes_of_halves(halves), codes_of_halves(halves))


def test_no_rows_are_no_rows() -> None:
    empty = np.empty((0, 384), np.int8)
    assert rows.unit_halves(empty, inverse_norms(empty)).shape == (0, 384)
    assert rows.codes_of_halves(np.empty((0, 384), np.uint16)).shape == (0, 384)
    check_split(b"", 4, 1)


def test_read_only_and_strided_input_is_taken(rng: np.random.Generator) -> None:
    wide = some_codes(8, 6, rng)
    codes = wide[::2]
    halves = rows.unit_halves(codes, inverse_norms(np.ascontiguousarray(codes)))
    halves.flags.writeable = False
    np.testing.assert_array_equal(rows.codes_of_halves(halves), codes)

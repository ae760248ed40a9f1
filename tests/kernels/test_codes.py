"""Codes: encoding, decoding, refusal of what has no direction, and JSON text."""

import json
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kernels import codes, reference
from tests.kernels.material import DIM, random_codes, same

Vectors = npt.NDArray[np.float32]

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors_of = hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 9)), elements=finite)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -np.nan])
@pytest.mark.parametrize("column", [0, 7, 12])
def test_check_finds_first_row_that_is_not_finite(value: float, column: int) -> None:
    vectors = np.ones((4, 13), np.float32)
    vectors[2, column] = value
    vectors[3, column] = value
    assert codes.check_vectors(vectors) == reference.check_vectors(vectors) == 2


def test_check_finds_zero_row() -> None:
    vectors = np.ones((3, 13), np.float32)
    vectors[1] = 0
    vectors[1, 4] = -0.0
    assert codes.check_vectors(vectors) == reference.check_vectors(vectors) == 1


def test_check_accepts_extremes() -> None:
    vectors = np.zeros((3, 13), np.float32)
    vectors[0, 1] = np.finfo(np.float32).max
    vectors[1, 2] = -np.finfo(np.float32).smallest_subnormal
    vectors[2, 12] = -np.finfo(np.float32).max
    assert codes.check_vectors(vectors) == reference.check_vectors(vectors) == -1


def test_check_of_nothing_finds_nothing() -> None:
    assert codes.check_vectors(np.zeros((0, DIM), np.float32)) == -1
    assert codes.check_codes(np.zeros((0, DIM), np.int8)) == -1


def test_check_codes_finds_zero_row() -> None:
    some = random_codes(1, 5)
    some[3] = 0
    assert codes.check_codes(some) == reference.check_codes(some) == 3
    some[3, 11] = -128
    assert codes.check_codes(some) == reference.check_codes(some) == -1


@given(vectors_of)
def test_quantise_agrees_with_twin(vectors: Vectors) -> None:
    vectors[(vectors == 0).all(axis=1), 0] = 1
    got = codes.quantise(vectors)
    same(got, reference.quantise(vectors))
    assert (np.abs(got.astype(np.int16)).max(axis=1) == 127).all()


@pytest.mark.parametrize("scale", [1.0, 1e-42, 1e38, 0.01])
def test_quantise_keeps_direction_at_any_length(scale: float) -> None:
    vectors = np.random.default_rng(3).standard_normal((3, DIM))
    vectors /= np.abs(vectors).max()
    some = codes.quantise((vectors * scale).astype(np.float32))
    cosine = (some * vectors).sum(axis=1) / np.linalg.norm(some.astype(float), axis=1) / np.linalg.norm(vectors, axis=1)
    assert cosine.min() > (0.9999 if scale > 1e-40 else 0.99)


def test_encoding_what_was_decoded_gives_the_same_codes() -> None:
    some = random_codes(5, 8, DIM)
    vectors = codes.dequantise(some, codes.inverse_norms(some))
    same(codes.quantise(vectors), some)
    same(codes.quantise(vectors.astype(np.float16).astype(np.float32)), some)
    same(codes.requantise(some), some)


@given(hnp.arrays(np.int8, st.tuples(st.integers(0, 3), st.integers(1, 9))))
def test_requantise_agrees_with_twin(some: npt.NDArray[np.int8]) -> None:
    got = codes.requantise(some)
    same(got, reference.requantise(some))
    assert set(np.abs(got.astype(np.int16)).max(axis=1)) <= {0, 127}


def test_every_code_value_survives_requantise_of_extremes() -> None:
    some = np.array([[-128, 127, 1, 0], [1, 0, 0, -1], [-128, -128, 64, -64], [0, 0, 0, 0]], np.int8)
    assert codes.requantise(some).tolist() == [[-127, 126, 1, 0], [127, 0, 0, -127], [-127, -127, 64, -64], [0] * 4]


@given(hnp.arrays(np.int8, st.tuples(st.integers(0, 3), st.integers(1, 9))))
def test_norms_and_vectors_agree_with_twin(some: npt.NDArray[np.int8]) -> None:
    inv = codes.inverse_norms(some)
    same(inv, reference.inverse_norms(some))
    same(codes.dequantise(some, inv), reference.dequantise(some, inv))


def test_decoded_vectors_have_length_one() -> None:
    some = random_codes(6, 5, DIM)
    lengths = np.linalg.norm(codes.dequantise(some, codes.inverse_norms(some)), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(0, DIM), (1, 1), (1, DIM), (4, DIM), (3, 2)])
def test_json_reads_back_to_the_vectors(n: int, d: int) -> None:
    some = random_codes(7, n, d)
    inv = codes.inverse_norms(some)
    text, offsets = codes.format_json(some, inv)
    assert offsets.shape == (n + 1,) and offsets[0] == 0 and offsets[-1] == len(text)
    parts = [text[a:b].tobytes() for a, b in pairwise(offsets.tolist())]
    twins = reference.format_json(some, inv)
    for part, twin, vector in zip(parts, twins, codes.dequantise(some, inv), strict=True):
        got = json.loads(part)
        assert len(got) == d and all(type(x) is float for x in got)
        np.testing.assert_allclose(got, json.loads(twin), rtol=0, atol=1e-9)
        np.testing.assert_allclose(got, vector.astype(np.float64), rtol=0, atol=5.000001e-7)


def test_json_of_extreme_numbers() -> None:
    some = np.array([[127, 0], [-128, 0], [1, -1], [0, -127]], np.int8)
    text, _ = codes.format_json(some, codes.inverse_norms(some))
    assert text.tobytes() == b"[1.000000,0.000000][-1.000000,0.000000][0.707107,-0.707107][0.000000,-1.000000]"


def test_read_only_and_strided_input_gives_the_same() -> None:
    """Allowed, though each layout costs a compile of its own: the service copies instead."""
    vectors = np.random.default_rng(8).standard_normal((6, 26)).astype(np.float32)
    wanted = reference.quantise(vectors[::2, ::2])
    same(codes.quantise(np.ascontiguousarray(vectors[::2, ::2])), wanted)
    frozen = np.ascontiguousarray(vectors[::2, ::2])
    frozen.flags.writeable = False
    same(codes.quantise(frozen), wanted)
    frozen_codes = codes.quantise(frozen)
    frozen_codes.flags.writeable = False
    same(codes.inverse_norms(frozen_codes), reference.inverse_norms(wanted))
    spread = np.zeros((3, 26), np.int8)
    spread[:, ::2] = frozen_codes
    same(codes.inverse_norms(spread[:, ::2]), reference.inverse_norms(wanted))

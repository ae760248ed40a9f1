"""Inputs for kernel tests: seeded, small, and with the awkward cases in them."""

from typing import Any

import numpy as np
import numpy.typing as npt

DIM = 384
SHORT = 12
"""Dimensions where a test runs many pairs: without the JIT a component costs a microsecond."""


def random_codes(seed: int, n: int, d: int = SHORT) -> npt.NDArray[np.int8]:
    """Random codes, each with the magnitude 127 somewhere, none zero; every third repeats an earlier one (ties)."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (n, d)).astype(np.int8)
    if n:
        codes[np.arange(n), rng.integers(0, d, n)] = 127
        codes[2::3] = codes[: len(codes[2::3])]
    return codes


def unit(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """1/|code| by NumPy."""
    lengths: npt.NDArray[np.float64] = np.linalg.norm(codes.astype(np.float64), axis=1)
    return (1 / lengths).astype(np.float32)


def same(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
    """Equal shape, dtype and values."""
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)

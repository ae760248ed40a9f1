"""Product quantisation against its twins; of equal entries the first; what nobody chose stays."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kernels import product, reference
from tests.kernels.material import random_codes, same, unit

M, S, D = 4, 3, 32
Floats = npt.NDArray[np.float32]


def whole_numbers(seed: int, *shape: int) -> Floats:
    """Small ones, so that every distance is exact and many are equal."""
    return np.random.default_rng(seed).integers(-6, 7, shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [0, 1, 30])
def test_nearest_entries_agree_with_twin(seed: int, n: int) -> None:
    points, tables = whole_numbers(seed, n, M * S), whole_numbers(seed + 9, M, S, product.ENTRIES)
    same(product.assign(points, tables), reference.assign(points, tables))


def test_of_equal_entries_the_first_is_taken() -> None:
    tables = np.zeros((M, S, product.ENTRIES), np.float32)
    tables[:, :, 7:] = 1
    assert (product.assign(np.full((2, M * S), 0.9, np.float32), tables) == 7).all()
    assert (product.assign(np.zeros((2, M * S), np.float32), tables) == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_encoding_agrees_with_twin(seed: int) -> None:
    codes, centroids, axes = random_codes(seed, 20), random_codes(seed + 50, 5), random_codes(seed + 90, M * S)
    numbers = np.random.default_rng(seed).integers(0, 5, 20).astype(np.int32)
    scale, weights = unit(codes) * np.float32(1_000), np.linspace(1, 3, 5, dtype=np.float32)
    tables = np.random.default_rng(seed).normal(0, 3, (M, S, product.ENTRIES)).astype(np.float32)
    args = codes, scale, numbers, centroids, weights, axes, unit(axes), tables
    same(product.encode(*args), reference.encode_residuals(*args))
    assert len(np.unique(product.encode(*args))) > 10


@pytest.mark.parametrize("seed", range(3))
def test_improved_entries_agree_with_twin_and_lie_nearer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((400, M * S)).astype(np.float32)
    tables = np.ascontiguousarray(points[:256].reshape(256, M, S).transpose(1, 2, 0)) + np.float32(0.3)
    numbers = product.assign(points, tables)
    made = product.improve(points, numbers, tables)
    np.testing.assert_allclose(made, reference.improve(points, numbers, tables), rtol=1e-6)
    unused = np.array([[k not in set(numbers[:, t].tolist()) for k in range(256)] for t in range(M)])
    assert unused.any()
    same(made.transpose(0, 2, 1)[unused], tables.transpose(0, 2, 1)[unused])
    assert _gap(points, made) < _gap(points, tables)


def _gap(points: Floats, tables: Floats) -> float:
    numbers = product.assign(points, tables)
    entries = np.stack([tables[t, :, numbers[:, t]] for t in range(M)], axis=1).reshape(points.shape)
    return float(((points - entries) ** 2).sum())


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 9])
@pytest.mark.parametrize("seed", range(3))
def test_decoding_agrees_with_twin(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    args = coded(rng, n)
    same(decoded(*args), reference.decode_residuals(*args))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_fit(sign: int) -> None:
    residuals, numbers, centroids, weights, axes, tables = coded(np.random.default_rng(1), 5)
    args = residuals, numbers, np.full_like(centroids, 127), np.full_like(weights, 65_535), *(axes, tables)
    axes[:], tables[:] = sign * 127, 127
    axes[:, 0] = 0
    same(decoded(*args), reference.decode_residuals(*args))


def test_what_cancels_out_is_zero() -> None:
    residuals, numbers, centroids, weights, axes, tables = coded(np.random.default_rng(1), 5)
    centroids[:], tables[:] = 0, 0
    assert not decoded(residuals, numbers, centroids, weights, axes, tables).any()


def coded(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    """Residuals, numbers, centroids, weights, axes, tables."""
    return (
        rng.integers(0, 256, (n, M), dtype=np.uint8),
        rng.integers(0, 5, n, dtype=np.int32),
        random_codes(int(rng.integers(99)), 5, D),
        rng.integers(1, 65_536, 5, dtype=np.int32),
        rng.integers(-127, 128, (M * S, D), dtype=np.int8),
        rng.integers(-127, 128, (M, product.ENTRIES, S), dtype=np.int8),
    )


def decoded(residuals: Any, numbers: Any, centroids: Any, weights: Any, axes: Any, tables: Any) -> Any:
    return product.decode(residuals, numbers, centroids, weights, product.pair(axes), tables)

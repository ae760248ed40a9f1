"""Lazy memory: zero, aligned, and given back in pieces."""

import numpy as np
import pytest

from kernels.pages import RELEASED_BYTES_MAX, Leaving, lazy_zeros


@pytest.mark.parametrize("shape", [0, 1, 7, (3, 5), (0, 4), (1_000, 384)])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.float64])
def test_lazy_zeros_are_like_zeros(shape: int | tuple[int, ...], dtype: type[np.generic]) -> None:
    array = lazy_zeros(shape, dtype)
    wanted = np.zeros(shape, dtype)
    assert array.shape == wanted.shape and array.dtype == wanted.dtype and array.flags.carray
    np.testing.assert_array_equal(array, wanted)
    array[...] = 1
    assert array.sum() == array.size


@pytest.mark.parametrize("count", [1, RELEASED_BYTES_MAX - 1, RELEASED_BYTES_MAX, 3 * RELEASED_BYTES_MAX + 5])
def test_leaving_gives_all_back_in_bounded_steps(count: int) -> None:
    array = lazy_zeros(count, np.uint8)
    array[:] = 1
    leaving = Leaving(array)
    steps = 1
    while leaving.step():
        steps += 1
    assert steps == -(-count // RELEASED_BYTES_MAX)
    assert not leaving.step()


def test_an_array_of_other_memory_leaves_at_once() -> None:
    array = np.ones(10, np.uint8)
    assert not Leaving(array).step()
    assert array.sum() == 10

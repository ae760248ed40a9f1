"""Zeroed memory whose pages cost nothing until touched, and then 4 KiB at a time.

`np.zeros` asks for huge pages: the first touch of each clears 2 MiB, which took 3.5 ms on a virtual machine, and an
event loop must not wait that long. For the same reason a large array is given back in pieces: 1 us a page.
Used by the key table, and by whoever maps columns at their maximum.
"""

import math
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

RELEASED_BYTES_MAX = 64 * mmap.PAGESIZE
"""How much one `Leaving.step` gives back."""


def lazy_zeros(shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """As `np.zeros`, on small pages; C-contiguous, aligned and writable. The memory goes when the last view does."""
    dims = (shape,) if isinstance(shape, int) else shape
    count = math.prod(dims)
    if count == 0:
        return np.zeros(dims, dtype)
    # Python shares mappings unless told otherwise, and the first touch of a shared page takes a third longer.
    memory = mmap.mmap(-1, count * np.dtype(dtype).itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype, count).reshape(dims)


class Leaving:
    """An array of `lazy_zeros` on its way out: nobody reads it any more, its pages go a few at a time."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        memory: Any = array
        while isinstance(memory, np.ndarray):
            memory = memory.base
        if isinstance(memory, memoryview):
            memory = memory.obj
        self._memory: mmap.mmap | None = memory if isinstance(memory, mmap.mmap) else None
        self._released_bytes = 0

    def step(self) -> bool:
        """Give back up to RELEASED_BYTES_MAX; True if more is left."""
        length = min(RELEASED_BYTES_MAX, self._array.nbytes - self._released_bytes)
        if self._memory is None or length <= 0:
            return False
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED, self._released_bytes, length)
        self._released_bytes += length
        return self._released_bytes < self._array.nbytes

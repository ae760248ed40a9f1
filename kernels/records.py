"""Records of patterns in the order of their bytes: what a digest is made of. Called by `constellation.digest`."""

import numpy as np
import numpy.typing as npt

from kernels.compiled import wrapping

RECORD_BYTES = 32

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]


@wrapping
def sort_records(records: Bytes) -> Bytes:
    """Records (n, RECORD_BYTES) uint8 sorted as byte strings, each as often as it is there. About 5 us for 100.

    Sorted by eight bytes that tell most of them apart: the first ones, or, where those of all are the same, the next.
    Twin: `sorted`.
    """
    n = records.shape[0]
    keys = _big_endian(records, 0)
    if n and (keys == keys[0]).all():
        keys = _big_endian(records, 8)
    order = np.argsort(keys, kind="mergesort")
    for i in range(1, n):
        j = i
        while j > 0 and _before(records, order[j], order[j - 1]):
            order[j], order[j - 1] = order[j - 1], order[j]
            j -= 1
    ordered = np.empty_like(records)
    for i in range(n):
        ordered[i] = records[order[i]]
    return ordered


@wrapping
def _big_endian(records: Bytes, start: int) -> Words:
    """Eight bytes of each as a number that orders as they do."""
    keys = np.zeros(records.shape[0], np.uint64)
    for i in range(records.shape[0]):
        for j in range(start, start + 8):
            keys[i] = keys[i] << np.uint64(8) | np.uint64(records[i, j])
    return keys


@wrapping
def _before(records: Bytes, i: int, j: int) -> bool:
    for byte in range(RECORD_BYTES):
        if records[i, byte] != records[j, byte]:
            return bool(records[i, byte] < records[j, byte])
    return False

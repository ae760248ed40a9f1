"""Chains: the patterns of one device, linked through a column, newest first.

first (D,) int32 holds each device's first row or -1, following (N,) int32 the next row or -1. A chain has at most
PATTERNS_PER_DEVICE_MAX rows, so walking it is cheap. Owned by the shard; twins: `reference`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled

Links = npt.NDArray[np.int32]


@compiled
def rows_of(first: Links, following: Links, device: int) -> Any:
    """Rows (m,) int32 of the device, newest first."""
    n = 0
    row = first[device]
    while row >= 0:
        n += 1
        row = following[row]
    rows = np.empty(n, np.int32)
    row = first[device]
    for i in range(n):
        rows[i] = row
        row = following[row]
    return rows


@compiled
def rows_of_many(first: Links, following: Links, devices: Links) -> Any:
    """Rows of each of devices (m,) int32: starts (m + 1,) int64, rows (n,) int32, newest first."""
    starts = np.zeros(devices.shape[0] + 1, np.int64)
    for i in range(devices.shape[0]):
        starts[i + 1] = starts[i]
        row = first[devices[i]]
        while row >= 0:
            starts[i + 1] += 1
            row = following[row]
    rows = np.empty(starts[-1], np.int32)
    for i in range(devices.shape[0]):
        row = first[devices[i]]
        for at in range(starts[i], starts[i + 1]):
            rows[at] = row
            row = following[row]
    return starts, rows


@compiled
def link(first: Links, following: Links, device: int, row: int) -> None:
    """Put a row, which is in no chain, at the head of the device's."""
    following[row] = first[device]
    first[device] = row


@compiled
def link_all(first: Links, following: Links, devices: Links, rows: Links) -> None:
    """Put rows (n,), which are in no chain, at the heads of their devices' chains, the last one foremost."""
    for i in range(rows.shape[0]):
        device = devices[rows[i]]
        following[rows[i]] = first[device]
        first[device] = rows[i]


@compiled
def unlink(first: Links, following: Links, device: int, row: int) -> None:
    """Take a row, which must be in the device's chain, out of it."""
    if first[device] == row:
        first[device] = following[row]
    else:
        before = first[device]
        while following[before] != row:
            before = following[before]
        following[before] = following[row]
    following[row] = -1

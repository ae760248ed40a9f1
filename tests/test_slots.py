"""A device's slot is the one that any other implementation of Redis Cluster's hash finds."""

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from constellation.slots import SLOTS, mask_of, ranges_of, slot_of, slots_of


def crc16_xmodem(message: bytes) -> int:
    """Bit by bit: polynomial 0x1021, from 0, nothing reflected."""
    crc = 0
    for byte in message:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def test_slot_is_crc_16_xmodem() -> None:
    assert crc16_xmodem(b"123456789") == 0x31C3
    assert slot_of(b"123456789") == 0x31C3 == 12_739  # as Redis Cluster's documentation says of this key


def test_every_slot_has_its_share_of_devices(rng: np.random.Generator) -> None:
    ids = [row.tobytes() for row in rng.integers(0, 256, (4 * SLOTS, 16), dtype=np.uint8)]
    assert all(slot_of(one) == crc16_xmodem(one) % SLOTS for one in ids[:1_000])
    quarters = Counter(slot_of(one) * 4 // SLOTS for one in ids)
    assert sorted(quarters) == [0, 1, 2, 3]
    assert all(abs(n - SLOTS) < 6 * SLOTS**0.5 for n in quarters.values())


def test_many_at_once_have_the_same_slots(rng: np.random.Generator) -> None:
    ids = rng.integers(0, 256, (1_000, 16), dtype=np.uint8)
    assert slots_of(ids).tolist() == [slot_of(one.tobytes()) for one in ids]
    assert slots_of(ids[:0]).tolist() == []


@given(st.sets(st.integers(0, SLOTS - 1)))
def test_ranges_and_masks_hold_the_same_slots(slots: set[int]) -> None:
    ranges = ranges_of(slots)
    assert [slot for first, last in ranges for slot in range(first, last + 1)] == sorted(slots)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))
    assert set(np.flatnonzero(mask_of(slots)).tolist()) == slots

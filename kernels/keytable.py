"""Key table: (owner int32, 16-byte id) -> row, for patterns (owner = device row) and devices (one owner for all).

Open addressing with linear probing; a slot is 4 bytes, 0 = empty, else row + 1. The keys themselves stay in the
caller's columns `owners` and `ids`: a row's key must be there before `insert` and until after `delete`.
Deleting shifts the followers back, so there are no tombstones to clean up. Growing takes no long turn: the doubled
array is untouched zero pages, and every insert or delete moves at most 64 slots of the old array into it. Moved and
deleted slots of the old array become -1 there, which keeps its probe sequences whole until it is dropped.
Ids are chosen by strangers: the hash is SipHash-1-3 (Aumasson and Bernstein 2012) keyed with a secret seed.
Owned by the shard; not for threads. Twin: `reference.KeyTable`, a dict.
"""

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled, wrapping
from kernels.pages import Leaving, lazy_zeros

Slots = npt.NDArray[np.int32]
Owners = npt.NDArray[np.int32]
Ids = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
State = npt.NDArray[np.int64]

MOVED_PER_CHANGE_MAX = 64
CAPACITY_MIN = 8
LOAD_NUMERATOR, LOAD_DENOMINATOR = 5, 8
"""Fill at which the table doubles: 4 probes for a miss on average, 6 to 13 bytes a key."""
ROWS_MAX = 2**31 - 1
COUNT, MOVED = 0, 1
"""Positions in the state array: keys held; slots of the old array already moved."""

# The old array must be empty before the new one is full: it has twice the room, and each insert moves 64 slots.
assert MOVED_PER_CHANGE_MAX * LOAD_NUMERATOR >= 2 * LOAD_DENOMINATOR

_NO_SLOTS: Slots = np.zeros(0, np.int32)


class KeyTable:
    """Table over the caller's columns owners (n,) int32 and ids (n, 16) uint8, both C-contiguous and writable.

    `seed` is secret, 0 <= seed < 2^128. A look-up takes about 1.5 us, of which the hash is 30 ns.
    """

    def __init__(self, owners: Owners, ids: Ids, seed: int, capacity: int = 1024) -> None:
        assert owners.dtype == np.int32 and ids.dtype == np.uint8 and ids.shape == (len(owners), 16)
        assert owners.flags.carray and ids.flags.carray and len(owners) <= ROWS_MAX
        assert 0 <= seed < 1 << 128
        self._owners = owners
        self._words: Words = ids.view(np.uint64)
        assert self._words.flags.aligned
        self._key = np.array([seed & (1 << 64) - 1, seed >> 64], np.uint64)
        self._state = np.zeros(2, np.int64)
        self._slots: Slots = lazy_zeros(1 << (max(capacity, CAPACITY_MIN) - 1).bit_length(), np.int32)
        self._old = _NO_SLOTS
        self._leaving: Leaving | None = None
        self._one_owner = np.zeros(1, np.int32)
        self._one_id = np.zeros((1, 2), np.uint64)
        self._one_id_bytes = memoryview(cast(Any, self._one_id.view(np.uint8).reshape(-1)))
        self._one_row = np.zeros(1, np.int32)

    def __len__(self) -> int:
        return int(self._state[COUNT])

    @property
    def slot_bytes(self) -> int:
        """Memory of the slots, for the metrics."""
        return int(self._slots.nbytes + self._old.nbytes)

    @property
    def growing(self) -> bool:
        """Are there slots of the old array still to be moved?"""
        return len(self._old) > 0

    def find(self, owner: int, key: bytes | Ids) -> int:
        """Row of (owner, 16 bytes), or -1."""
        self._one_owner[0] = owner
        self._one_id_bytes[:] = cast(bytes, key)
        _find(
            self._slots, self._old, self._owners, self._words, self._key, self._one_owner, self._one_id, self._one_row
        )
        return int(self._one_row[0])

    def find_many(self, owners: Owners, ids: Ids) -> Slots:
        """Rows (m,) int32, -1 where absent, of owners (m,) int32 and ids (m, 16) uint8, of any layout."""
        words = np.array(ids, np.uint8, order="C").view(np.uint64)
        rows = np.empty(len(words), np.int32)
        wanted = np.array(owners, np.int32, order="C")
        assert len(wanted) == len(words)
        _find(self._slots, self._old, self._owners, self._words, self._key, wanted, words, rows)
        return rows

    def insert(self, row: int) -> None:
        """Enter the key that stands in the columns at `row`; it must not be in the table."""
        self._one_row[0] = row
        self._insert_some(self._one_row)

    def insert_many(self, rows: Slots) -> None:
        """Enter the keys of rows (m,) int32. On a key that is there already: AssertionError, those before it stay."""
        rows = np.array(rows, np.int32, order="C")
        done = self._insert_some(rows)
        while done < len(rows):
            rows = rows[done:]
            done = self._insert_some(rows)

    def delete(self, row: int) -> None:
        """Take out the key of `row`, which still stands in the columns; it must be in the table with this row."""
        self._one_row[0] = row
        self._delete_all(self._one_row)

    def delete_many(self, rows: Slots) -> None:
        """Take out the keys of rows (m,) int32. On one that is not there: AssertionError, those before it are gone."""
        self._delete_all(np.array(rows, np.int32, order="C"))

    def _insert_some(self, rows: Slots) -> int:
        """Enter the first rows, up to where the table must grow again; how many."""
        if self._is_full():
            self._grow()
        done = int(_insert(self._state, self._slots, self._old, self._owners, self._words, self._key, rows))
        self._retire_old()
        assert done == len(rows) or self._is_full(), f"the key of row {rows[done]} is in the table already"
        return done

    def _delete_all(self, rows: Slots) -> None:
        done = _delete(self._state, self._slots, self._old, self._owners, self._words, self._key, rows)
        self._retire_old()
        assert done == len(rows), f"the key of row {rows[done]} is not in the table"

    def _is_full(self) -> bool:
        return (len(self) + 1) * LOAD_DENOMINATOR > len(self._slots) * LOAD_NUMERATOR

    def _grow(self) -> None:
        assert not self.growing
        self._old = self._slots
        self._slots = lazy_zeros(2 * len(self._old), np.int32)
        self._state[MOVED] = 0

    def _retire_old(self) -> None:
        if len(self._old) and self._state[MOVED] == len(self._old):
            self._leaving, self._old = Leaving(self._old), _NO_SLOTS
        if self._leaving is not None and not self._leaving.step():
            self._leaving = None


_U13, _U16, _U17, _U21, _U32 = np.uint64(13), np.uint64(16), np.uint64(17), np.uint64(21), np.uint64(32)
_U64 = np.uint64(64)
_WORD_1, _WORD_2 = np.uint64(0x736F6D6570736575), np.uint64(0x646F72616E646F6D)
_WORD_3, _WORD_4 = np.uint64(0x6C7967656E657261), np.uint64(0x7465646279746573)
_MESSAGE_BYTES = np.uint64(20 << 56)
_LAST_ROUNDS = np.uint64(0xFF)


@wrapping
def sip_hash(low: np.uint64, high: np.uint64, owner: np.uint64, k0: np.uint64, k1: np.uint64) -> np.uint64:
    """SipHash-1-3 of the 20 bytes id (16) + owner (4, little-endian; given as 0..2^32-1) under the key (k0, k1)."""
    a, b, c, d = k0 ^ _WORD_1, k1 ^ _WORD_2, k0 ^ _WORD_3, k1 ^ _WORD_4
    for turn in range(3):
        word = low if turn == 0 else (high if turn == 1 else _MESSAGE_BYTES | owner)
        d ^= word
        a, b, c, d = _sip_round(a, b, c, d)
        a ^= word
    c ^= _LAST_ROUNDS
    for _ in range(3):
        a, b, c, d = _sip_round(a, b, c, d)
    return np.uint64(a ^ b ^ c ^ d)


@wrapping
def _sip_round(a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64) -> tuple[np.uint64, ...]:
    a = np.uint64(a + b)
    b = np.uint64(_rotate(b, _U13) ^ a)
    a = _rotate(a, _U32)
    c = np.uint64(c + d)
    d = np.uint64(_rotate(d, _U16) ^ c)
    a = np.uint64(a + d)
    d = np.uint64(_rotate(d, _U21) ^ a)
    c = np.uint64(c + b)
    b = np.uint64(_rotate(b, _U17) ^ c)
    c = _rotate(c, _U32)
    return a, b, c, d


@wrapping
def _rotate(x: np.uint64, bits: np.uint64) -> np.uint64:
    return np.uint64((x << bits) | (x >> np.uint64(_U64 - bits)))


@compiled
def _hash_row(owners: Owners, words: Words, key: Words, row: int) -> np.uint64:
    return sip_hash(words[row, 0], words[row, 1], np.uint64(np.uint32(owners[row])), key[0], key[1])


@compiled
def _probe(
    slots: Slots, owners: Owners, words: Words, owner: np.int32, low: np.uint64, high: np.uint64, start: np.uint64
) -> int:
    """Row of the key in one array, or -1. Ends: an array is never full."""
    mask = slots.shape[0] - 1
    i = np.int64(start & np.uint64(mask))
    while slots[i] != 0:
        row = slots[i] - 1
        if row >= 0 and words[row, 0] == low and words[row, 1] == high and owners[row] == owner:
            return int(row)
        i = (i + 1) & mask
    return -1


@compiled
def _find(
    slots: Slots,
    old: Slots,
    owners: Owners,
    words: Words,
    key: Words,
    wanted_owners: Owners,
    wanted_words: Words,
    rows: Slots,
) -> None:
    """Fill rows (m,) for the wanted keys (m,) and (m, 2)."""
    for w in range(rows.shape[0]):
        owner, low, high = wanted_owners[w], wanted_words[w, 0], wanted_words[w, 1]
        start = sip_hash(low, high, np.uint64(np.uint32(owner)), key[0], key[1])
        row = _probe(slots, owners, words, owner, low, high, start)
        if row < 0 and old.shape[0] > 0:
            row = _probe(old, owners, words, owner, low, high, start)
        rows[w] = row


@compiled
def _insert(state: State, slots: Slots, old: Slots, owners: Owners, words: Words, key: Words, rows: Slots) -> int:
    """Enter rows in order; stops before the table is over its load, or at a key that is there. How many are in."""
    for w in range(rows.shape[0]):
        if (state[COUNT] + 1) * LOAD_DENOMINATOR > slots.shape[0] * LOAD_NUMERATOR:
            return w
        _move(state, slots, old, owners, words, key)
        row = rows[w]
        start = _hash_row(owners, words, key, row)
        if _probe(slots, owners, words, owners[row], words[row, 0], words[row, 1], start) >= 0:
            return w
        if old.shape[0] and _probe(old, owners, words, owners[row], words[row, 0], words[row, 1], start) >= 0:
            return w
        _place(slots, start, row)
        state[COUNT] += 1
    return int(rows.shape[0])


@compiled
def _delete(state: State, slots: Slots, old: Slots, owners: Owners, words: Words, key: Words, rows: Slots) -> int:
    """Take out rows in order; stops at one that is not there. How many are out."""
    for w in range(rows.shape[0]):
        _move(state, slots, old, owners, words, key)
        row = rows[w]
        start = _hash_row(owners, words, key, row)
        i = _slot_of(slots, start, row)
        if i >= 0:
            _close(slots, owners, words, key, i)
        else:
            i = _slot_of(old, start, row) if old.shape[0] > 0 else -1
            if i < 0:
                return w
            old[i] = -1
        state[COUNT] -= 1
    return int(rows.shape[0])


@compiled
def _slot_of(slots: Slots, start: np.uint64, row: int) -> int:
    """Index of the slot that holds `row`, or -1; looks at no key."""
    mask = slots.shape[0] - 1
    i = np.int64(start & np.uint64(mask))
    while slots[i] != 0:
        if slots[i] == row + 1:
            return int(i)
        i = (i + 1) & mask
    return -1


@compiled
def _place(slots: Slots, start: np.uint64, row: int) -> None:
    """Put `row` into the first empty slot of its probe sequence."""
    mask = slots.shape[0] - 1
    i = np.int64(start & np.uint64(mask))
    while slots[i] != 0:
        i = (i + 1) & mask
    slots[i] = row + 1


@compiled
def _close(slots: Slots, owners: Owners, words: Words, key: Words, hole: int) -> None:
    """Empty the slot `hole` by shifting back whatever follows and may stand there (Knuth 6.4, algorithm R)."""
    mask = slots.shape[0] - 1
    i = (hole + 1) & mask
    while slots[i] != 0:
        home = np.int64(_hash_row(owners, words, key, slots[i] - 1) & np.uint64(mask))
        if ((i - home) & mask) >= ((i - hole) & mask):
            slots[hole] = slots[i]
            hole = i
        i = (i + 1) & mask
    slots[hole] = 0


@compiled
def _move(state: State, slots: Slots, old: Slots, owners: Owners, words: Words, key: Words) -> None:
    """Move the next 64 slots of the old array, if there is one, into the new."""
    stop = min(state[MOVED] + MOVED_PER_CHANGE_MAX, old.shape[0])
    for i in range(state[MOVED], stop):
        if old[i] > 0:
            row = old[i] - 1
            _place(slots, _hash_row(owners, words, key, row), row)
            old[i] = -1
    if old.shape[0] > 0:
        state[MOVED] = stop

"""The columns of a block of similar patterns as bytes, and back: what docs/compact.md says of them, in one pass each.

n patterns, of which w come whole; all n are below 256. Times are unix seconds, days on the wire; base is the day of the
latest update. What is read is not believed: every number is within its bounds, or `wrong` names the first that is not.
Called by `constellation.wire.compact`, `constellation.wire.contexts` and `constellation.rounding`. Twins are in
`block_reference`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled, inlined

DAY_S = 86_400
DAY_MAX = 0xFFFF
RATE_MAX = 255
COUNT_CODE_MAX = 143
"""That of 983,040."""
SINCE_MAX = 2 * DAY_MAX + 1
"""The largest number that days from creation to update are folded to."""
VARINT_BYTES_MAX = 3
CONTEXT_COLUMNS = 14
"""Of a context: numbers of its occasion and of its list of hints; the occasion's three strings; how many hints, and
up to eight strings of theirs."""

CUT_OFF, HANDLE_TWICE, WRONG_CENTROID, WRONG_COUNT, WRONG_AGE, WRONG_SINCE, WRONG_CREATED = range(1, 8)

_EXACT = 8
"""Counts below this one are their own code; from here on four significant bits are kept."""
COUNTS = np.array(
    [c if c < _EXACT else (_EXACT + c % _EXACT) << (c // _EXACT - 1) for c in range(COUNT_CODE_MAX + 1)], np.uint32
)
"""By code; 0 is no count's."""
_OCCASION, _HINTS, _FIRST_STRING, _HINTS_LEN, _FIRST_HINT = 0, 1, 2, 5, 6
_FEW, _MANY = 256, 4_096

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]
Rates = npt.NDArray[np.float32]
Counts = npt.NDArray[np.uint32]
Times = npt.NDArray[np.int64]


class Unpacked(NamedTuple):
    """Columns (n,), centroids' numbers (w,), where they ended in the block, and what was wrong (or 0) and came."""

    handles: Bytes
    numbers: Rows
    rates: Rates
    counts: Counts
    prototypes: Flags
    created_at: Times
    updated_at: Times
    end: int
    wrong: int
    got: int


@compiled
def round_rates(rates: Rates) -> Bytes:
    """Success rates (n,) 0..1 in 255ths, uint8. Twin: `round_rates`."""
    rounded = np.empty(rates.shape[0], np.uint8)
    for i in range(rates.shape[0]):
        rounded[i] = _rate_byte(rates[i])
    return rounded


@compiled
def round_counts(counts: Counts) -> Bytes:
    """Codes (n,) uint8 of sample counts (n,) 1..1,000,000: the nearest, of two the higher. Twin: `round_counts`."""
    rounded = np.empty(counts.shape[0], np.uint8)
    for i in range(counts.shape[0]):
        rounded[i] = _count_byte(int(counts[i]))
    return rounded


@compiled
def pack_columns(
    handles: Bytes,
    whole: Flags,
    prototypes: Times,
    numbers: Rows,
    residuals: Bytes,
    rates: Rates,
    counts: Counts,
    created_at: Times,
    updated_at: Times,
) -> tuple[Bytes, int, Times]:
    """What of a block is before its contexts, from n on, and behind them, together (p,) uint8; and where it is parted.

    Also order (n,) int64: the places of the patterns as the block has them, whole ones first. prototypes (k,) int64:
    places; numbers (n,) int32 below 4,096, residuals (n, m) uint8; rates float32, counts uint32, times int64.
    About 1 us for 100. Twin: `pack_columns`.
    """
    n, m = handles.shape[0], residuals.shape[1]
    order, w = _whole_first(whole)
    base = 0
    for i in range(n):
        base = max(base, _day(updated_at[i]))
    packed = np.zeros(4 + (5 + 2 * VARINT_BYTES_MAX) * n + 2 + (2 + m) * w, np.uint8)
    packed[0], packed[1], packed[2], packed[3] = n, w, base & 255, base >> 8
    at, before = 4, 0
    for i in order:
        packed[at] = (int(handles[i]) - before) & 255
        before = int(handles[i])
        at += 1
    for k in range(w):
        packed[at + k] = numbers[order[k]] & 255
        packed[at + w + k // 2] |= numbers[order[k]] >> 8 << 4 * (k % 2)
    at += w + (w + 1) // 2
    for k in range(n):
        packed[at + k] = _rate_byte(rates[order[k]])
        packed[at + n + k] = _count_byte(int(counts[order[k]]))
    at += 2 * n
    are_prototypes = np.zeros(n, np.uint8)
    for place in prototypes:
        are_prototypes[place] = 1
    for k in range(n):
        packed[at + k // 8] |= are_prototypes[order[k]] << k % 8
    at += (n + 7) // 8
    for i in order:
        at = _put_varint(packed, at, base - _day(updated_at[i]))
    for i in order:
        since = _day(updated_at[i]) - _day(created_at[i])
        at = _put_varint(packed, at, 2 * since if since >= 0 else -2 * since - 1)
    parted = at
    for k in range(w):
        packed[at : at + m] = residuals[order[k]]
        at += m
    return packed[:at], parted, order


@compiled
def unpack_columns(block: Bytes, start: int, n: int, w: int, base: int, size: int) -> Unpacked:
    """The columns that begin at start of a block (b,) uint8, read-only, up to the ages and times since creation.

    size: the number of centroids. Nothing is read outside of the block; if anything is wrong the rest may be anything.
    Twin: `unpack_columns`.
    """
    handles, numbers = np.zeros(n, np.uint8), np.zeros(w, np.int32)
    rates, counts = np.zeros(n, np.float32), np.zeros(n, np.uint32)
    prototypes, created, updated = np.zeros(n, np.bool_), np.zeros(n, np.int64), np.zeros(n, np.int64)
    lows, highs = start + n, start + n + w
    of_rates = highs + (w + 1) // 2
    of_counts, kinds = of_rates + n, of_rates + 2 * n
    at, wrong, got = kinds + (n + 7) // 8, 0, 0
    if at > block.shape[0]:
        return Unpacked(handles, numbers, rates, counts, prototypes, created, updated, at, CUT_OFF, block.shape[0])
    seen = np.zeros(256, np.bool_)
    handle = 0
    for i in range(n):
        handle = (handle + int(block[start + i])) & 255
        if seen[handle]:
            wrong, got = HANDLE_TWICE, handle
        seen[handle] = True
        handles[i] = handle
        rates[i] = np.float32(block[of_rates + i]) / np.float32(RATE_MAX)
        code = int(block[of_counts + i])
        if not 1 <= code <= COUNT_CODE_MAX:
            wrong, got, code = WRONG_COUNT, code, 1
        counts[i] = COUNTS[code]
        prototypes[i] = int(block[kinds + i // 8]) >> i % 8 & 1
    for k in range(w):
        number = int(block[lows + k]) | (int(block[highs + k // 2]) >> 4 * (k % 2) & 15) << 8
        if number >= size:
            wrong, got = WRONG_CENTROID, number
        numbers[k] = number
    for i in range(n):
        age, at = _varint(block, at)
        if not 0 <= age <= base:
            return Unpacked(handles, numbers, rates, counts, prototypes, created, updated, at, WRONG_AGE, age)
        updated[i] = base - age
    for i in range(n):
        since, at = _varint(block, at)
        if not 0 <= since <= SINCE_MAX:
            return Unpacked(handles, numbers, rates, counts, prototypes, created, updated, at, WRONG_SINCE, since)
        day = updated[i] + (since + 1) // 2 if since % 2 else updated[i] - since // 2
        if not 0 <= day <= DAY_MAX:
            wrong, got = WRONG_CREATED, day
        created[i] = day * DAY_S
        updated[i] *= DAY_S
    return Unpacked(handles, numbers, rates, counts, prototypes, created, updated, at, wrong, got)


@compiled
def number_contexts(known: Rows, rows: Rows) -> tuple[Rows, Bytes]:
    """What a block says of the contexts in rows (n,) int32 of known (c, CONTEXT_COLUMNS) int32: strings (s,) int32, in
    the order in which it lists them, and the bytes that follow theirs, (t,) uint8.

    Strings, occasions and lists of hints get the numbers of their first places. About 2 us for 100. Twin:
    `number_contexts`.
    """
    n = rows.shape[0]
    occasions, hints = np.empty(n, np.int32), np.empty(n, np.int32)
    of_occasion, of_hints = np.full(_FEW, -1, np.int32), np.full(_FEW, -1, np.int32)
    firsts = np.empty((2, n), np.int32)
    told_of = np.empty((2, n), np.uint8)
    o = h = 0
    for i in range(n):
        place = _entered(of_occasion, occasions, o, known[rows[i], _OCCASION])
        if place == o:
            firsts[0, o] = rows[i]
            o += 1
        told_of[0, i] = place
        place = _entered(of_hints, hints, h, known[rows[i], _HINTS])
        if place == h:
            firsts[1, h] = rows[i]
            h += 1
        told_of[1, i] = place
    strings, of_string = np.empty(3 * o + 8 * h, np.int32), np.full(_MANY, -1, np.int32)
    told = np.empty(2 + 6 * o + 17 * h + 2 * n, np.uint8)
    told[0], told[1] = o, h
    s, at = 0, 2
    for k in range(o):
        s, at = _tell_strings(known[firsts[0, k], _FIRST_STRING:_HINTS_LEN], of_string, strings, s, told, at)
    for k in range(h):
        told[at] = known[firsts[1, k], _HINTS_LEN]
        at += 1
    for k in range(h):
        line = known[firsts[1, k]]
        s, at = _tell_strings(line[_FIRST_HINT : _FIRST_HINT + line[_HINTS_LEN]], of_string, strings, s, told, at)
    told[at : at + n] = told_of[0]
    told[at + n : at + 2 * n] = told_of[1]
    return strings[:s], told[: at + 2 * n]


@compiled
def _tell_strings(listed: Rows, of_string: Rows, strings: Rows, s: int, told: Bytes, at: int) -> tuple[int, int]:
    """Number those that are new among s strings, and write the numbers of all; the new s and end."""
    for string in listed:
        place = _entered(of_string, strings, s, string)
        s = max(s, place + 1)
        at = _put_varint(told, at, place)
    return s, at


@compiled
def _entered(slots: Rows, keys: Rows, count: int, key: int) -> int:
    """The place of a key among keys[:count]; of a new one count, where it is put. slots: a hash table of places."""
    slot = key & (slots.shape[0] - 1)
    while slots[slot] >= 0:
        if keys[slots[slot]] == key:
            return int(slots[slot])
        slot = (slot + 1) & (slots.shape[0] - 1)
    slots[slot] = count
    keys[count] = key
    return count


@compiled
def _whole_first(whole: Flags) -> tuple[Times, int]:
    n, w = whole.shape[0], 0
    order = np.empty(n, np.int64)
    for i in range(n):
        if whole[i]:
            order[w] = i
            w += 1
    k = w
    for i in range(n):
        if not whole[i]:
            order[k] = i
            k += 1
    return order, w


@inlined
def _rate_byte(rate: np.float32) -> np.uint8:
    return np.uint8(np.rint(rate * np.float32(RATE_MAX)))


@compiled
def _count_byte(count: int) -> int:
    """A count with exponent e is q x 2^e with q = 8..15; of 16 the exponent is one more, as its code says by itself."""
    e = 0
    while count >> e >= 2 * _EXACT:
        e += 1
    if e == 0:
        return count
    return _EXACT * e + ((count >> (e - 1)) + 1 >> 1)


@inlined
def _day(time: np.int64) -> int:
    """Since 1970; the last has no end."""
    return min(int(time) // DAY_S, DAY_MAX)


@compiled
def _put_varint(into: Bytes, at: int, value: int) -> int:
    """Write LEB128; the place behind it."""
    while value >= 128:
        into[at] = value & 127 | 128
        value >>= 7
        at += 1
    into[at] = value
    return at + 1


@compiled
def _varint(block: Bytes, at: int) -> tuple[int, int]:
    """LEB128 of at most VARINT_BYTES_MAX bytes, and the place behind it; -1 if it does not end by then."""
    value = 0
    for k in range(VARINT_BYTES_MAX):
        if at + k >= block.shape[0]:
            return -1, at
        byte = int(block[at + k])
        value |= (byte & 127) << 7 * k
        if byte < 128:
            return value, at + k + 1
    return -1, at

"""What a list says that a device does not know yet: the delta of two replies.

A device's SLOTS remember two lists of rows: the acknowledged one, which it is known to hold, and the pending one, which
it was sent last. The number of a slot is the handle of its entry. It is given out again only when neither list has the
entry, so a handle means the same whichever of the two lists the device turns out to hold.

What happened to a row is told by three counts modulo 2^16: its changes so far, and how many they were when it was last
written whole, and when its pattern was born. Fewer than 65,536 changes between two answers are told apart.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.compiled import wrapping

SLOTS = 200
"""Two lists of 100 that have nothing in common."""
ROW_BITS = 28
CHANGED, WRITTEN, BORN = 0, 1, 2
"""Columns of revisions."""
SAME, REVISED, WHOLE = 0, 1, 2
"""What there is to tell of an entry: nothing; rate, count and time; all of it."""
NOTHING, ACKNOWLEDGED, PENDING = 0, 1, 2
"""What a list is compared with; the last two are the bits of a slot that is in those lists, too."""

_ROW = (1 << ROW_BITS) - 1
_BOTH = ACKNOWLEDGED | PENDING
_LACKING = ROW_BITS + 2
"""From this bit on: what of the entry the device lacks if it holds the acknowledged list."""
_COUNTS = (1 << 16) - 1
_NO_HANDLE = 255
_ROW_PLACES, _ID_PLACES = 512, 256
"""Of the tables in which rows and ids are found; they are at most half full."""

assert _ROW_PLACES >= 2 * SLOTS and _ID_PLACES >= SLOTS and SLOTS <= _NO_HANDLE

Words = npt.NDArray[np.uint32]
"""(SLOTS,): 28 bits of a row, 2 of the lists it is in, 2 of what the acknowledged one lacks. 0 is a free slot."""
Sent = npt.NDArray[np.uint16]
"""(SLOTS,): CHANGED of the row when it was sent."""
Revisions = npt.NDArray[np.uint16]
"""(N, 3) by row: CHANGED, WRITTEN, BORN."""
Ids = npt.NDArray[np.uint64]
"""(N, 2) by row: the halves of 16 bytes."""
Rows = npt.NDArray[np.int32]
Small = npt.NDArray[np.uint8]


@wrapping
def unchanged(words: Words, sent: Sent, rows: Rows, patterns: Revisions, prototypes: Revisions) -> bool:
    """Is the pending list these rows (n,), in any order, and has nothing happened to them since?

    Then it is the acknowledged list, too, as after `tell` against PENDING, which had nothing to tell. Else nothing is
    done. Arguments as of `tell`. Costs 3 us for 100 rows, most of that to call it.
    """
    slot_at = np.full(_ROW_PLACES, -1, np.int16)
    pending = 0
    for slot in range(SLOTS):
        word = _plain(words[slot])
        if word >> ROW_BITS & PENDING:
            slot_at[_place_of_row(slot_at, words, word)] = slot
            pending += 1
    if pending != len(rows):
        return False
    for i in range(pending):
        row = _plain(rows[i])
        slot = _plain(slot_at[_place_of_row(slot_at, words, row)])
        if slot < 0 or (patterns[row] if row >= 0 else prototypes[-1 - row])[CHANGED] != sent[slot]:
            return False
    for slot in range(SLOTS):
        word = _plain(words[slot])
        words[slot] = _word(word, _BOTH, SAME) if word >> ROW_BITS & PENDING else 0
    return True


@wrapping
def tell(
    words: Words,
    sent: Sent,
    against: int,
    rows: Rows,
    patterns: Revisions,
    prototypes: Revisions,
    pattern_ids: Ids,
    prototype_ids: Ids,
) -> tuple[Small, Small, Small, Ids, int]:
    """Compare rows (n,) int32, each once and n <= SLOTS / 2, with a list that the slots remember.

    words (SLOTS,) and sent (SLOTS,) are a device's slots. What rows are compared with, NOTHING, ACKNOWLEDGED or
    PENDING, becomes the acknowledged list, rows the pending one. Row -1 - i is that of prototype i.

    Returns (handles (n,) uint8, kinds (n,) uint8 of SAME, REVISED and WHOLE, gone (m,) uint8, removed (k, 2) uint64,
    nameless). gone are handles of what the device shall drop; removed their ids, without those that are in the list;
    nameless how many have no id any more, as another pattern has their row. Of entries with one id, in either list, all
    are WHOLE if there is anything to tell of one: the id does not say which is meant.
    Costs 8 us for 100 rows, what it takes to call it included (`bench.cursor`). Twin: `tell`.
    """
    n = len(rows)
    handles, kinds = np.full(n, _NO_HANDLE, np.uint8), np.full(n, WHOLE, np.uint8)
    slot_at = _begin(words, against)
    for i in range(n):
        row = _plain(rows[i])
        slot = _plain(slot_at[_place_of_row(slot_at, words, row)])
        now = patterns[row] if row >= 0 else prototypes[-1 - row]
        if slot < 0 or _later(now, BORN, _plain(sent[slot])):
            continue
        kind = SAME if now[CHANGED] == sent[slot] else REVISED
        if _later(now, WRITTEN, _plain(sent[slot])):
            kind = WHOLE
        kinds[i] = max(kind, _plain(words[slot]) >> _LACKING)
        handles[i] = slot
        words[slot] = _word(row, _BOTH, _plain(kinds[i]))
        sent[slot] = now[CHANGED]
    gone, gone_ids, nameless = _leave(words, sent, patterns, prototypes, pattern_ids, prototype_ids)
    if len(gone) == 0 and not kinds.any():
        return handles, kinds, gone, gone_ids, 0  # most answers end here, and no id was looked at
    _enter(words, sent, handles, rows, patterns, prototypes)
    removed = _settle_ids(kinds, rows, gone_ids, pattern_ids, prototype_ids)
    return handles, kinds, gone, removed, nameless


@wrapping
def _begin(words: Words, against: int) -> npt.NDArray[np.int16]:
    """Make the list to compare with the acknowledged one, free the other slots; a table to find its rows in."""
    slot_at = np.full(_ROW_PLACES, -1, np.int16)
    for slot in range(SLOTS):
        word = _plain(words[slot])
        if not word >> ROW_BITS & _BOTH & against:
            words[slot] = 0
            continue
        lacking = word >> _LACKING if against == ACKNOWLEDGED else SAME
        words[slot] = _word(word, ACKNOWLEDGED, lacking)
        slot_at[_place_of_row(slot_at, words, word)] = slot
    return slot_at


@wrapping
def _leave(
    words: Words, sent: Sent, patterns: Revisions, prototypes: Revisions, pattern_ids: Ids, prototype_ids: Ids
) -> tuple[Small, Ids, int]:
    """Handles of what is in the acknowledged list alone, the ids that are known of them, and how many are not."""
    handles, ids = np.empty(SLOTS, np.uint8), np.empty((SLOTS, 2), np.uint64)
    gone, named = 0, 0
    for slot in range(SLOTS):
        word = _plain(words[slot])
        if word >> ROW_BITS & _BOTH != ACKNOWLEDGED:
            continue
        handles[gone] = slot
        gone += 1
        row = _row(word)
        if not _later(patterns[row] if row >= 0 else prototypes[-1 - row], BORN, _plain(sent[slot])):
            ids[named] = pattern_ids[row] if row >= 0 else prototype_ids[-1 - row]
            named += 1
    return handles[:gone], ids[:named], gone - named


@wrapping
def _enter(words: Words, sent: Sent, handles: Small, rows: Rows, patterns: Revisions, prototypes: Revisions) -> None:
    """Give those without a handle free slots."""
    slot = 0
    for i in range(len(rows)):
        if handles[i] != _NO_HANDLE:
            continue
        while words[slot]:
            slot += 1
        row = _plain(rows[i])
        handles[i] = slot
        words[slot] = _word(row, PENDING, SAME)
        sent[slot] = patterns[row, CHANGED] if row >= 0 else prototypes[-1 - row, CHANGED]


@wrapping
def _settle_ids(kinds: Small, rows: Rows, gone: Ids, pattern_ids: Ids, prototype_ids: Ids) -> Ids:
    """Make kinds WHOLE where an id is not enough; of ids (m, 2) that are gone those that no row has."""
    n = len(rows)
    ids = np.empty((n, 2), np.uint64)
    first = np.empty(n, np.int64)  # the first entry of the same id, which speaks for all of them
    many, told = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    entry_at = np.full(_ID_PLACES, -1, np.int16)
    for i in range(n):
        ids[i] = pattern_ids[rows[i]] if rows[i] >= 0 else prototype_ids[-1 - rows[i]]
        place = _place_of_id(entry_at, ids, ids[i])
        if entry_at[place] < 0:
            entry_at[place] = i
        first[i] = entry_at[place]
        many[first[i]] |= first[i] != i
        told[first[i]] |= kinds[i] != SAME
    removed = np.empty((len(gone), 2), np.uint64)
    k = 0
    for j in range(len(gone)):
        entry = entry_at[_place_of_id(entry_at, ids, gone[j])]
        if entry >= 0:
            many[entry] = told[entry] = True
        else:
            removed[k] = gone[j]
            k += 1
    for i in range(n):
        if many[first[i]] and told[first[i]]:
            kinds[i] = WHOLE
    return removed[:k]


@wrapping
def _later(revision: Sent, what: int, sent: int) -> bool:
    """Did it happen (`what`: WRITTEN or BORN) to a row after it was sent?"""
    return _since(revision, _plain(revision[what])) < _since(revision, sent)


@wrapping
def _since(revision: Sent, count: int) -> int:
    return (_plain(revision[CHANGED]) - count) & _COUNTS


@wrapping
def _plain(number: Any) -> int:
    """As a signed number: an unsigned one and a signed one make a float."""
    plain: int = np.int64(number)  # type: ignore[assignment]
    return plain


@wrapping
def _word(row: int, lists: int, lacking: int) -> int:
    return row & _ROW | lists << ROW_BITS | lacking << _LACKING


@wrapping
def _row(word: int) -> int:
    """The row of a word, below zero for a prototype."""
    row = word & _ROW
    return row - (1 << ROW_BITS) if row >> (ROW_BITS - 1) else row


@wrapping
def _place_of_row(slot_at: npt.NDArray[np.int16], words: Words, row: int) -> int:
    """Where the slot of a row is, or would be."""
    place = (row & _ROW) * 0x9E3779B1 >> 16 & (_ROW_PLACES - 1)
    while slot_at[place] >= 0 and (_plain(words[slot_at[place]]) ^ row) & _ROW:
        place = (place + 1) & (_ROW_PLACES - 1)
    return place


@wrapping
def _place_of_id(entry_at: npt.NDArray[np.int16], ids: Ids, wanted: Ids) -> int:
    """Where the first entry of an id (2,) is, or would be."""
    place = _plain((wanted[0] ^ wanted[1]) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(56)) & (_ID_PLACES - 1)
    while entry_at[place] >= 0:
        known = ids[entry_at[place]]
        if known[0] == wanted[0] and known[1] == wanted[1]:
            break
        place = (place + 1) & (_ID_PLACES - 1)
    return place

"""What came into an index lately: sketches in a ring, in the order of arrival, chained by the nearest of some points.

So what is new since a moment is looked at without what is not: all of it while that is little, else what is nearest to
the query. Arrivals are numbered from 1 on; of a row that came several times the last number counts.
Belongs to `constellation.shard.similarity`, read by `kernels.rankings`. Checked against `kernels.reference`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled, inlined
from kernels.lists import border
from kernels.pages import lazy_zeros
from kernels.prefetch import LINE_BYTES, prefetch
from kernels.sketches import HALF, Sketch, pack, packed_dot, sketch_dot

RECORD_BYTES = 2 * LINE_BYTES
"""Of an arrival: its sketch, and two words."""
BEFORE, ROW = HALF // 8, HALF // 8 + 1
"""Words of a record: the number of the arrival before it in its chain, or 0, and the row."""
LOW_BITS = 0xFFFFFFFF
_LANES = 16
"""Chains walked side by side: while one waits for memory the others go on."""

assert HALF % 8 == 0 and 8 * (ROW + 1) <= RECORD_BYTES

Slots = npt.NDArray[np.int64]


class Arrivals(NamedTuple):
    """A ring of C arrivals; number n is in slot n % C.

    records (C, RECORD_BYTES) uint8, beginning with the packed sketch, and words (C, RECORD_BYTES / 8) int64, the same
    memory; points (B, AXES) int8 and heads (B,) int64, the last number in the chain of each; arrived (N,) uint32: the
    low bits of the number under which a row came last; counts (1,) int64: the number of the next arrival.
    """

    records: npt.NDArray[np.uint8]
    words: Slots
    points: npt.NDArray[np.int8]
    heads: Slots
    arrived: npt.NDArray[np.uint32]
    counts: Slots


def empty_arrivals(capacity: int, rows: int, points: npt.NDArray[np.int8]) -> Arrivals:
    """Of rows below `rows`, none of which came yet; the capacity is a power of two."""
    assert capacity & (capacity - 1) == 0
    records = lazy_zeros((capacity, RECORD_BYTES), np.uint8)
    return Arrivals(
        records=records,
        words=records.view(np.int64),
        points=points,
        heads=np.zeros(len(points), np.int64),
        arrived=lazy_zeros(rows, np.uint32),
        counts=np.ones(1, np.int64),
    )


@compiled
def note(arrivals: Arrivals, row: int, sketch: Sketch) -> None:
    """The row came, with this sketch (AXES,) int8. About 7 ns a point."""
    number = arrivals.counts[0]
    slot = number % arrivals.records.shape[0]
    nearest = 0
    highest = sketch_dot(arrivals.points[0], sketch)
    for b in range(1, arrivals.points.shape[0]):
        score = sketch_dot(arrivals.points[b], sketch)
        if score > highest:
            highest = score
            nearest = b
    pack(sketch, arrivals.records[slot])
    arrivals.words[slot, BEFORE] = arrivals.heads[nearest]
    arrivals.words[slot, ROW] = row
    arrivals.heads[nearest] = number
    arrivals.arrived[row] = number & LOW_BITS
    arrivals.counts[0] = number + 1


@inlined
def came_since(arrivals: Arrivals, row: int, since: int) -> bool:
    """Did the row come under this number, which is still in the ring, or a later one?

    Whose low bits say so by chance, 2^32 arrivals later, is not the row of its record.
    """
    low = np.int64(arrivals.arrived[row])
    age = (arrivals.counts[0] - low) & LOW_BITS
    lately = 0 < age <= arrivals.counts[0] - since
    return bool(lately and arrivals.words[low % arrivals.records.shape[0], ROW] == row)


@compiled
def likely(arrivals: Arrivals, sketch: Sketch, since: int, seen: int, want: int) -> Slots:
    """Slots of the `want` arrivals most similar to a sketch (AXES,) int8, by sketch, from number `since` on.

    In no order; fewer if there are fewer. Looks at all of them or, if they are more than `seen`, at those of the
    nearest points, until it has looked at so many. since >= 1, and not more than the ring holds behind the next
    number. Costs 7 ns an arrival that is looked at and, for more than `seen`, 10 us for 1,024 points. Twin: `likely`.
    """
    count = arrivals.counts[0] - since
    scores = np.empty(count, np.int32)
    slots = np.empty(count, np.int64)
    flat = arrivals.records.reshape(-1)
    capacity = arrivals.records.shape[0]
    if count <= seen:
        for i in range(count):
            slots[i] = (since + i) % capacity
            scores[i] = packed_dot(flat, slots[i] * RECORD_BYTES, sketch)
        n = count
    else:
        n = _walk(arrivals, sketch, since, seen, scores, slots)
    if n <= want:
        return slots[:n]
    sure, possible, room = border(scores[:n], want)
    chosen = np.empty(want, np.int64)
    size = 0
    for i in range(n):
        if scores[i] >= sure or (scores[i] >= possible and room > 0):
            room -= scores[i] < sure
            chosen[size] = slots[i]
            size += 1
    return chosen[:size]


@compiled
def _walk(
    arrivals: Arrivals, sketch: Sketch, since: int, seen: int, scores: npt.NDArray[np.int32], slots: Slots
) -> int:
    """Fill scores and slots with the arrivals of the chains nearest to the sketch; how many these are."""
    points = arrivals.points.shape[0]
    nearness = np.empty(points, np.int64)
    for b in range(points):
        nearness[b] = (np.int64(-sketch_dot(arrivals.points[b], sketch)) << 32) | b
    nearness.sort()
    flat = arrivals.records.reshape(-1)
    capacity = arrivals.records.shape[0]
    lanes = np.empty(_LANES, np.int64)
    n = 0
    for start in range(0, points, _LANES):
        if n >= seen:
            break
        live = 0
        for i in range(start, min(start + _LANES, points)):
            number = arrivals.heads[nearness[i] & 0xFFFFFFFF]
            if number >= since:
                lanes[live] = number
                live += 1
                _fetch(flat, number % capacity)
        while live > 0:
            i = 0
            while i < live:
                slot = lanes[i] % capacity
                scores[n] = packed_dot(flat, slot * RECORD_BYTES, sketch)
                slots[n] = slot
                n += 1
                before = arrivals.words[slot, BEFORE]
                if before >= since:
                    lanes[i] = before
                    _fetch(flat, before % capacity)
                    i += 1
                else:
                    live -= 1
                    lanes[i] = lanes[live]
    return n


@compiled
def _fetch(flat: npt.NDArray[np.uint8], slot: int) -> None:
    prefetch(flat, slot * RECORD_BYTES)
    prefetch(flat, slot * RECORD_BYTES + LINE_BYTES)

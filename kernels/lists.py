"""Inverted lists of sketches: the part of similarity search that touches every candidate.

A *list* holds up to CAPACITY rows that lie near one another, side by side in memory: for each its row number and its
*sketch* (`kernels.sketches`). The lists themselves are the rows of a second, coarser level: a *group* holds lists,
with their centroids as sketches. A query goes from the groups to the nearest lists to their rows; the best by sketch
are scored exactly by their codes. How lists come to be and change: `kernels.partition`.

All arrays belong to `constellation.shard.similarity`, the only caller. Checked against `kernels.reference`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled
from kernels.dot import dot
from kernels.pages import lazy_zeros
from kernels.prefetch import LINE_BYTES, prefetch
from kernels.sketches import AXES, HALF, Sketch, packed_dot, sketch_dot

CAPACITY = 128
"""Rows of a list at most, lists of a group at most."""

Codes = npt.NDArray[np.int8]
Rows = npt.NDArray[np.int32]
Scores = npt.NDArray[np.int32]
Keys = npt.NDArray[np.int64]
"""score << 32 | row: they order by score, then by row."""

LOW = 0xFFFFFFFF
"""Takes the row out of a key."""
_ROUTE_SHARE = 2
_AHEAD = 4
_COSINE_ONE = 1 << 30
_BINS = 1024


class Level(NamedTuple):
    """One level of lists, mapped once at its maximum; only touched pages cost memory.

    sketches (L, CAPACITY, HALF) uint8, packed; rows (L, CAPACITY) int32; sizes (L,) int32; centroids (L, AXES) int8;
    home (N,) int32: where a row is, 1 + list * CAPACITY + slot, or 0; free (L,) int32: a stack of list numbers that are
    not in use; counts (3,) int64: lists ever used, length of the stack, rows held.
    """

    sketches: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    centroids: npt.NDArray[np.int8]
    home: npt.NDArray[np.int32]
    free: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int64]


USED, FREE, HELD = 0, 1, 2
"""Positions in `counts`."""


def empty_level(lists: int, rows: int) -> Level:
    """A level without rows, with room for so many lists and row numbers below `rows`."""
    return Level(
        sketches=lazy_zeros((lists, CAPACITY, HALF), np.uint8),
        rows=lazy_zeros((lists, CAPACITY), np.int32),
        sizes=lazy_zeros(lists, np.int32),
        centroids=lazy_zeros((lists, AXES), np.int8),
        home=lazy_zeros(rows, np.int32),
        free=lazy_zeros(lists, np.int32),
        counts=np.zeros(3, np.int64),
    )


@compiled
def search(
    lists: Level,
    groups: Level,
    codes: Codes,
    inverse: npt.NDArray[np.float32],
    query: npt.NDArray[np.int8],
    sketch: Sketch,
    k: int,
    row_budget: int,
    rescore: int,
) -> tuple[Rows, npt.NDArray[np.float32]]:
    """The k rows most similar to a query, by exact int8 cosine among the best by sketch.

    codes (N, 384) int8, inverse (N,) float32 1/|code|; query (384,) int8, its sketch (AXES,) int8. Scans the
    nearest lists until `row_budget` rows were seen (all rows, if there are fewer) and scores the best `rescore`
    exactly; both are at least k. Returns min(k, rows held) rows int32 and cosines float32, best first, equals by
    larger row. Cost: about 11 ns a row scanned, 150 ns a row scored (`bench.similarity`). Twin: `search`.
    """
    k = min(k, lists.counts[HELD])
    if k < 1:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    keys = scan(lists, _route(lists, groups, sketch, max(row_budget, k)), sketch, max(rescore, k))
    score(keys, codes, inverse, query)
    keys.sort()
    rows = np.empty(k, np.int32)
    cosines = np.empty(k, np.float32)
    for i in range(k):
        key = keys[keys.shape[0] - 1 - i]
        rows[i] = np.int32(key & LOW)
        cosines[i] = cosine_of(key)
    return rows, cosines


@compiled
def score(keys: Keys, codes: Codes, inverse: npt.NDArray[np.float32], query: npt.NDArray[np.int8]) -> None:
    """Put exact cosines into keys (n,), in steps of 2^-30, whatever they were scored by. About 150 ns a row, 40 of one
    that is in the cache."""
    flat = codes.reshape(-1)
    width = codes.shape[1]
    unit = unit_of(query)
    for i in range(keys.shape[0]):
        ahead = (keys[min(i + _AHEAD, keys.shape[0] - 1)] & LOW) * width
        for line in range(0, width, LINE_BYTES):
            prefetch(flat, ahead + line)
        keys[i] = key_of(codes, inverse, query, unit, keys[i] & LOW)


@compiled
def unit_of(query: npt.NDArray[np.int8]) -> np.float32:
    """What makes a cosine, in steps of 2^-30, of an inner product with a query (384,) and 1/|code|."""
    return np.float32(_COSINE_ONE / np.sqrt(np.float64(dot(query, query))))


@compiled
def key_of(
    codes: Codes, inverse: npt.NDArray[np.float32], query: npt.NDArray[np.int8], unit: np.float32, row: int
) -> np.int64:
    """The exact key of one row."""
    return np.int64(np.int64(np.float32(dot(query, codes[row])) * inverse[row] * unit) << 32 | row)


@compiled
def cosine_of(key: int | np.int64) -> np.float32:
    """The cosine of an exact key."""
    return np.float32(np.float32(key >> 32) / np.float32(_COSINE_ONE))


@compiled
def _route(lists: Level, groups: Level, sketch: Sketch, row_budget: int) -> Rows:
    """Numbers of the lists nearest to the sketch, nearest first, that hold `row_budget` rows together (or all)."""
    want = 16 + 2 * row_budget // CAPACITY
    among = max(4 * want, groups.counts[HELD] // _ROUTE_SHARE)
    while True:
        keys = np.sort(scan(groups, nearest_groups(groups, sketch, among), sketch, want))
        probes = np.empty(keys.shape[0], np.int32)
        n = 0
        seen = 0
        while n < keys.shape[0] and seen < row_budget:
            probes[n] = np.int32(keys[keys.shape[0] - 1 - n] & LOW)
            seen += lists.sizes[probes[n]]
            n += 1
        if seen >= row_budget or n >= groups.counts[HELD]:
            return probes[:n]
        want *= 4
        among = max(among, 4 * want)


@compiled
def nearest_groups(groups: Level, sketch: Sketch, among: int) -> Rows:
    """Numbers of the groups nearest to the sketch, nearest first, that hold `among` lists together (or all)."""
    keys = np.empty(groups.counts[USED], np.int64)
    used = 0
    for g in range(keys.shape[0]):
        if groups.sizes[g] > 0:
            keys[used] = (np.int64(sketch_dot(groups.centroids[g], sketch)) << 32) | g
            used += 1
    ordered = np.sort(keys[:used])
    probes = np.empty(used, np.int32)
    n = 0
    seen = 0
    while n < used and seen < among:
        probes[n] = np.int32(ordered[used - 1 - n] & LOW)
        seen += groups.sizes[probes[n]]
        n += 1
    return probes[:n]


@compiled
def scan(level: Level, probes: Rows, sketch: Sketch, want: int) -> Keys:
    """Keys (score << 32 | row) int64 of the `want` rows of the probed lists with the largest inner product.

    In no order; which of nearly equal ones are in at the border is left open. Fewer if the lists hold fewer.
    """
    scores = scores_of(level, probes, sketch)
    want = min(want, scores.shape[0])
    keys = np.empty(want, np.int64)
    if want == 0:
        return keys
    sure, possible, room = border(scores, want)
    n = 0
    i = 0
    for p in range(probes.shape[0]):
        k = probes[p]
        for slot in range(level.sizes[k]):
            score = scores[i]
            i += 1
            if score < possible or (score < sure and room == 0):
                continue
            if score < sure:
                room -= 1
            keys[n] = (np.int64(score) << 32) | np.int64(level.rows[k, slot])
            n += 1
    return keys


@compiled
def scores_of(level: Level, probes: Rows, sketch: Sketch) -> Scores:
    """The inner products int32 of all rows of the probed lists, in their order; the next list is fetched meanwhile."""
    n = 0
    for p in range(probes.shape[0]):
        n += level.sizes[probes[p]]
    scores = np.empty(n, np.int32)
    flat = level.sketches.reshape(-1)
    n = 0
    for p in range(probes.shape[0]):
        first = int(probes[p]) * CAPACITY * HALF
        size = level.sizes[probes[p]]
        ahead = int(probes[min(p + 1, probes.shape[0] - 1)]) * CAPACITY * HALF
        for i in range(size):
            prefetch(flat, ahead + i * HALF)
            prefetch(flat, ahead + i * HALF + LINE_BYTES)
            scores[n + i] = packed_dot(flat, first + i * HALF, sketch)
        n += size
    return scores


@compiled
def border(scores: Scores, want: int) -> tuple[int, int, int]:
    """Where the best `want` >= 1 of the scores end: all from the first number on are in, and so many of those from the
    second number to the first.

    A histogram of equal bins: two passes, whatever the order of the scores. A heap took as long as the scoring.
    """
    lowest = int(scores.min())
    width = (int(scores.max()) - lowest) // _BINS + 1
    shift = 0
    while (1 << shift) < width:
        shift += 1
    bins = np.zeros(_BINS + 1, np.int32)
    for i in range(scores.shape[0]):
        bins[(scores[i] - lowest) >> shift] += 1
    room = want
    b = _BINS
    while bins[b] < room:
        room -= int(bins[b])
        b -= 1
    return lowest + ((b + 1) << shift), lowest + (b << shift), room

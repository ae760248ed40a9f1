"""Inverted lists of sketches: the part of similarity search that touches every candidate.

A *list* holds up to CAPACITY rows that lie near one another, side by side in memory: for each its row number and its
*sketch*, 192 components of 4 bits that stand for the 384 of its code. Lists split in two when full, settle when idle
and dissolve when sparse: the partition follows the data and is never rebuilt (after SPFresh: Xu et al., SOSP 2023).
The lists themselves are the rows of a second, coarser level: a *group* holds lists, with their centroids as sketches.
A query goes from the groups to the nearest lists to their rows; the best by sketch are scored exactly by their codes.

Sketches and centroids have one common scale, so their integer inner product orders as the cosine does.
All arrays belong to `constellation.shard.similarity`, the only caller. Checked against `kernels.reference`.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled, inlined
from kernels.pages import lazy_zeros
from kernels.prefetch import LINE_BYTES, prefetch

CAPACITY = 128
"""Rows of a list at most, lists of a group at most."""
AXES = 192
"""Components of a sketch: the embedding turned onto its main axes."""
HALF = AXES // 2
"""Bytes of a packed sketch: component j in the low half of byte j, component j + HALF in the high half."""
SKETCH_NORM = 127 / 0.42
"""Length of an unpacked sketch of a unit vector that the projection keeps whole."""
STEP = 7
"""Width of a packed step in units of an unpacked component: a packed n stands for (n - 7.5) * STEP."""
SPARSE = CAPACITY // 4
"""A list with fewer rows is dissolved, and no split leaves fewer: so N rows need at most N / SPARSE lists."""
NEAR_LISTS = 48
"""Lists around a list that its rows may move to, and from."""

Codes = npt.NDArray[np.int8]
Sketch = npt.NDArray[np.int8]
Query = npt.NDArray[np.int16]
"""A sketch, or a code, widened to int16 for the inner loops."""
Packed = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int32]
Scores = npt.NDArray[np.int32]
Keys = npt.NDArray[np.int64]
"""score << 32 | row: they order by score, then by row."""

_MEANS_ROUNDS = 4
_SMALLEST_SHARE = CAPACITY // SPARSE
_ROUTE_SHARE = 2
_AHEAD = 4
_COSINE_ONE = 1 << 30
_BINS = 1024
_LOW = 0xFFFFFFFF


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


@inlined
def _dot(a: Any, b: Any) -> np.int32:
    """Inner product of two unpacked vectors of AXES components, int8 or int16, as int32."""
    s = np.int32(0)
    for j in range(AXES):
        s = np.int32(s + np.int32(np.int16(a[j]) * np.int16(b[j])))
    return s


@inlined
def _packed_dot(packed: Packed, whole: Query, low: Query) -> np.int32:
    """16 x the inner product of a packed sketch with a query as `_mix` gives it, less a constant of the query.

    It orders, no more. A byte is low + 16 x high, so byte x q + low x (16 x p - q) = 16 x (low x p + high x q):
    one shift less a byte than taking the halves apart.
    """
    s = np.int32(0)
    for j in range(HALF):
        byte = np.int16(packed[j])
        s = np.int32(s + np.int32(np.int32(byte) * np.int32(whole[j])))
        s = np.int32(s + np.int32(np.int32(byte & 15) * np.int32(low[j])))
    return s


@compiled
def _mix(sketch: Query) -> tuple[Query, Query]:
    """What `_packed_dot` multiplies whole bytes and their low halves by: both (HALF,) int16."""
    whole = sketch[HALF:].copy()
    low = np.empty(HALF, np.int16)
    for j in range(HALF):
        low[j] = np.int16(16 * sketch[j] - whole[j])
    return whole, low


@inlined
def _unpack(packed: Packed, out: Sketch) -> None:
    """Twice the components of a packed sketch in steps, -15..15, into out (AXES,) int8."""
    for j in range(HALF):
        out[j] = np.int8(2 * np.int8(packed[j] & 15) - 15)
        out[HALF + j] = np.int8(2 * np.int8(packed[j] >> 4) - 15)


@inlined
def _pack(sketch: Sketch, out: Packed) -> None:
    """Pack an int8 sketch (AXES,) into out (HALF,) uint8."""
    for j in range(HALF):
        low = min(15, max(0, (int(sketch[j]) + 8 * STEP) // STEP))
        high = min(15, max(0, (int(sketch[HALF + j]) + 8 * STEP) // STEP))
        out[j] = np.uint8(low | (high << 4))


# -- searching ---------------------------------------------------------------------------------------------------------


@compiled
def search(
    lists: Level,
    groups: Level,
    codes: Codes,
    inverse: npt.NDArray[np.float32],
    query: Query,
    sketch: Query,
    k: int,
    row_budget: int,
    rescore: int,
) -> tuple[Rows, npt.NDArray[np.float32]]:
    """The k rows most similar to a query, by exact int8 cosine among the best by sketch.

    codes (N, 384) int8, inverse (N,) float32 1/|code|; query (384,) int16, its sketch (AXES,) int16. Scans the
    nearest lists until `row_budget` rows were seen (all rows, if there are fewer) and scores the best `rescore`
    exactly; both are at least k. Returns min(k, rows held) rows int32 and cosines float32, best first, equals by
    larger row. Cost: about 11 ns a row scanned, 150 ns a row scored (`bench.similarity`). Twin: `search`.
    """
    k = min(k, lists.counts[HELD])
    if k < 1:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    keys = _scan(lists, _route(lists, groups, sketch, max(row_budget, k)), sketch, max(rescore, k))
    flat = codes.reshape(-1)
    width = codes.shape[1]
    norm = 0.0
    for j in range(width):
        norm += np.float64(query[j]) * np.float64(query[j])
    unit = np.float32(_COSINE_ONE / np.sqrt(norm))
    for i in range(keys.shape[0]):
        ahead = (keys[min(i + _AHEAD, keys.shape[0] - 1)] & _LOW) * width
        for line in range(0, width, LINE_BYTES):
            prefetch(flat, ahead + line)
        row = keys[i] & _LOW
        code = codes[row]
        s = np.int32(0)
        for j in range(width):
            s = np.int32(s + np.int32(np.int16(code[j]) * query[j]))
        keys[i] = (np.int64(np.float32(s) * inverse[row] * unit) << 32) | row
    keys.sort()
    rows = np.empty(k, np.int32)
    cosines = np.empty(k, np.float32)
    for i in range(k):
        key = keys[keys.shape[0] - 1 - i]
        rows[i] = np.int32(key & _LOW)
        cosines[i] = np.float32(key >> 32) / np.float32(_COSINE_ONE)
    return rows, cosines


@compiled
def _route(lists: Level, groups: Level, sketch: Query, row_budget: int) -> Rows:
    """Numbers of the lists nearest to the sketch, nearest first, that hold `row_budget` rows together (or all)."""
    want = 16 + 2 * row_budget // CAPACITY
    among = max(4 * want, groups.counts[HELD] // _ROUTE_SHARE)
    while True:
        keys = np.sort(_scan(groups, _nearest_groups(groups, sketch, among), sketch, want))
        probes = np.empty(keys.shape[0], np.int32)
        n = 0
        seen = 0
        while n < keys.shape[0] and seen < row_budget:
            probes[n] = np.int32(keys[keys.shape[0] - 1 - n] & _LOW)
            seen += lists.sizes[probes[n]]
            n += 1
        if seen >= row_budget or n >= groups.counts[HELD]:
            return probes[:n]
        want *= 4
        among = max(among, 4 * want)


@compiled
def _nearest_groups(groups: Level, sketch: Query, among: int) -> Rows:
    """Numbers of the groups nearest to the sketch, nearest first, that hold `among` lists together (or all)."""
    keys = np.empty(groups.counts[USED], np.int64)
    used = 0
    for g in range(keys.shape[0]):
        if groups.sizes[g] > 0:
            keys[used] = (np.int64(_dot(groups.centroids[g], sketch)) << 32) | g
            used += 1
    ordered = np.sort(keys[:used])
    probes = np.empty(used, np.int32)
    n = 0
    seen = 0
    while n < used and seen < among:
        probes[n] = np.int32(ordered[used - 1 - n] & _LOW)
        seen += groups.sizes[probes[n]]
        n += 1
    return probes[:n]


@compiled
def _scan(level: Level, probes: Rows, sketch: Query, want: int) -> Keys:
    """Keys (score << 32 | row) int64 of the `want` rows of the probed lists with the largest inner product.

    In no order; which of nearly equal ones are in at the border is left open. Fewer if the lists hold fewer.
    """
    scores = _score(level, probes, sketch)
    want = min(want, scores.shape[0])
    keys = np.empty(want, np.int64)
    if want == 0:
        return keys
    sure, possible, room = _border(scores, want)
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
def _score(level: Level, probes: Rows, sketch: Query) -> Scores:
    """The inner products int32 of all rows of the probed lists, in their order; the next list is fetched meanwhile."""
    n = 0
    for p in range(probes.shape[0]):
        n += level.sizes[probes[p]]
    scores = np.empty(n, np.int32)
    whole, low = _mix(sketch)
    flat = level.sketches.reshape(-1)
    n = 0
    for p in range(probes.shape[0]):
        sketches = level.sketches[probes[p]]
        size = level.sizes[probes[p]]
        ahead = int(probes[min(p + 1, probes.shape[0] - 1)]) * CAPACITY * HALF
        for i in range(size):
            prefetch(flat, ahead + i * HALF)
            prefetch(flat, ahead + i * HALF + LINE_BYTES)
            scores[n + i] = _packed_dot(sketches[i], whole, low)
        n += size
    return scores


@compiled
def _border(scores: Scores, want: int) -> tuple[int, int, int]:
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


# -- changing ----------------------------------------------------------------------------------------------------------


@compiled
def insert(lists: Level, groups: Level, row: int, sketch: Sketch) -> None:
    """Put a row, which must be in no list, into the nearest list; split that when it is full. sketch (AXES,) int8."""
    packed = np.empty(HALF, np.uint8)
    _pack(sketch, packed)
    if groups.counts[HELD] == 0:
        first = _new_list(lists)
        lists.centroids[first] = sketch
        _attach(lists, groups, first)
    k = _nearest_list(groups, sketch.astype(np.int16))
    _put(lists, k, row, packed)
    if lists.sizes[k] == CAPACITY:
        _split_list(lists, groups, k)


@compiled
def remove(lists: Level, groups: Level, row: int) -> None:
    """Take a row, which must be in a list, out of it; dissolve the list when few are left."""
    k = _take(lists, row)
    if lists.sizes[k] < SPARSE and groups.counts[HELD] > 1:
        _dissolve(lists, groups, k)


@compiled
def settle(lists: Level, groups: Level, k: int) -> None:
    """Re-centre list k and move each of its rows that has a nearer list close by to that one.

    Called for every list in turn while the shard is idle: one pass of k-means over the lists, a list at a time.
    An unused list is left alone. About 0.1 ms.
    """
    if k >= lists.counts[USED] or lists.sizes[k] == 0:
        return
    _centre(lists, k, k, np.zeros(CAPACITY, np.int8), 0)
    _detach(groups, k)
    _attach(lists, groups, k)
    near = _near(lists, groups, k)
    sketch = np.empty(AXES, np.int8)
    for i in range(lists.sizes[k] - 1, -1, -1):
        if lists.sizes[k] <= SPARSE:
            return
        _unpack(lists.sketches[k, i], sketch)
        best = _best_of(lists, near, sketch, k)
        if best != k and lists.sizes[best] < CAPACITY - 1:
            _move(lists, lists.rows[k, i], best)


@compiled
def _split_list(lists: Level, groups: Level, k: int) -> None:
    """Split a full list, tell the groups, and let the rows around find their nearest list again."""
    new = _new_list(lists)
    _split(lists, k, new)
    _detach(groups, k)
    _attach(lists, groups, k)
    _attach(lists, groups, new)
    for half in (k, new):
        near = _near(lists, groups, half)
        for p in range(near.shape[0]):
            if near[p] != k and near[p] != new:
                _attract(lists, half, near[p])
        settle(lists, groups, half)


@compiled
def _attract(lists: Level, target: int, k: int) -> None:
    """Move the rows of list k that are nearer to list `target` there, until one place is left in it."""
    lean = np.empty(AXES, np.int16)
    total = 0
    for j in range(AXES):
        lean[j] = np.int16(lists.centroids[target, j]) - np.int16(lists.centroids[k, j])
        total += int(lean[j])
    whole, low = _mix(lean)
    # A component n stands for n - 7.5: a row leans to the target if (sum of n x lean) - 7.5 x total is above 0.
    border = 120 * total
    for i in range(lists.sizes[k] - 1, -1, -1):
        if lists.sizes[target] >= CAPACITY - 1 or lists.sizes[k] <= SPARSE:
            return
        if _packed_dot(lists.sketches[k, i], whole, low) > border:
            _move(lists, lists.rows[k, i], target)


@compiled
def _dissolve(lists: Level, groups: Level, k: int) -> None:
    """Hand the rows of list k to the lists nearest to them and put k on the stack of free lists."""
    _detach(groups, k)
    sketch = np.empty(AXES, np.int8)
    for i in range(lists.sizes[k] - 1, -1, -1):
        _unpack(lists.sketches[k, i], sketch)
        target = _nearest_list(groups, sketch.astype(np.int16))
        _move(lists, lists.rows[k, i], target)
        if lists.sizes[target] == CAPACITY:
            _split_list(lists, groups, target)
    _free_list(lists, k)


@compiled
def _nearest_list(groups: Level, sketch: Query) -> int:
    probes = _nearest_groups(groups, sketch, 4 * CAPACITY)
    best = int(np.argmax(_score(groups, probes, sketch)))
    p = 0
    while best >= groups.sizes[probes[p]]:
        best -= groups.sizes[probes[p]]
        p += 1
    return int(np.int64(groups.rows[probes[p], best]))


@compiled
def _near(lists: Level, groups: Level, k: int) -> Keys:
    """The NEAR_LISTS lists nearest to list k, itself among them."""
    sketch = lists.centroids[k].astype(np.int16)
    return _scan(groups, _nearest_groups(groups, sketch, 4 * CAPACITY), sketch, NEAR_LISTS) & _LOW


@compiled
def _best_of(lists: Level, candidates: Keys, sketch: Sketch, k: int) -> int:
    """The list, k or one of the candidates, whose centroid has the largest inner product; k in case of doubt."""
    best = k
    highest = _dot(lists.centroids[k], sketch)
    for i in range(candidates.shape[0]):
        score = _dot(lists.centroids[candidates[i]], sketch)
        if score > highest:
            highest = score
            best = int(candidates[i])
    return best


@compiled
def _attach(lists: Level, groups: Level, k: int) -> None:
    """Put list k, which must be in no group, into the group nearest to its centroid; split that when it is full."""
    packed = np.empty(HALF, np.uint8)
    _pack(lists.centroids[k], packed)
    g = -1
    highest = np.int32(-(2**31))
    for i in range(groups.counts[USED]):
        if groups.sizes[i] > 0:
            score = _dot(groups.centroids[i], lists.centroids[k])
            if score > highest:
                highest = score
                g = i
    if g < 0:
        g = _new_list(groups)
        groups.centroids[g] = lists.centroids[k]
    _put(groups, g, k, packed)
    if groups.sizes[g] == CAPACITY:
        _split(groups, g, _new_list(groups))


@compiled
def _detach(groups: Level, k: int) -> None:
    """Take list k out of its group; an empty group can be used again."""
    g = _take(groups, k)
    if groups.sizes[g] == 0:
        _free_list(groups, g)


# -- one level ---------------------------------------------------------------------------------------------------------


@compiled
def _new_list(level: Level) -> int:
    if level.counts[FREE] > 0:
        level.counts[FREE] -= 1
        return int(level.free[level.counts[FREE]])
    level.counts[USED] += 1
    return int(level.counts[USED] - 1)


@compiled
def _free_list(level: Level, k: int) -> None:
    level.free[level.counts[FREE]] = k
    level.counts[FREE] += 1


@compiled
def _put(level: Level, k: int, row: int, packed: Packed) -> None:
    """Append a row to list k, which must have room."""
    slot = level.sizes[k]
    for j in range(HALF):
        level.sketches[k, slot, j] = packed[j]
    level.rows[k, slot] = row
    level.sizes[k] = slot + 1
    level.home[row] = 1 + k * CAPACITY + slot
    level.counts[HELD] += 1


@compiled
def _take(level: Level, row: int) -> int:
    """Take a row out of its list; the last of the list moves into its place. Returns the list."""
    place = np.int64(level.home[row]) - 1
    k = int(place // CAPACITY)
    slot = place % CAPACITY
    last = level.sizes[k] - 1
    if slot != last:
        for j in range(HALF):
            level.sketches[k, slot, j] = level.sketches[k, last, j]
        moved = level.rows[k, last]
        level.rows[k, slot] = moved
        level.home[moved] = 1 + place
    level.sizes[k] = last
    level.home[row] = 0
    level.counts[HELD] -= 1
    return k


@compiled
def _move(level: Level, row: int, target: int) -> None:
    place = np.int64(level.home[row]) - 1
    packed = level.sketches[place // CAPACITY, place % CAPACITY].copy()
    _take(level, row)
    _put(level, target, row, packed)


@compiled
def _split(level: Level, k: int, new: int) -> None:
    """Split list k by spherical 2-means, seeded with two far rows; the second half goes to the empty list `new`.

    A split that would leave one half under a quarter is cut at the median lean instead.
    """
    n = level.sizes[k]
    sketches = np.empty((n, AXES), np.int8)
    for i in range(n):
        _unpack(level.sketches[k, i], sketches[i])
    a = _farthest(sketches, level.centroids[k])
    b = _farthest(sketches, sketches[a])
    level.centroids[k] = sketches[a]
    level.centroids[new] = sketches[b]
    side = np.zeros(CAPACITY, np.int8)
    lean = np.zeros(n, np.int32)
    for _ in range(_MEANS_ROUNDS):
        n_new = 0
        for i in range(n):
            lean[i] = _dot(level.centroids[new], sketches[i]) - _dot(level.centroids[k], sketches[i])
            side[i] = 1 if lean[i] > 0 else 0
            n_new += side[i]
        uneven = min(n_new, n - n_new) * _SMALLEST_SHARE < n
        if uneven:
            order = np.argsort(lean, kind="mergesort")
            for i in range(n):
                side[order[i]] = 1 if 2 * i >= n else 0
        _centre(level, k, k, side, 0)
        _centre(level, new, k, side, 1)
        if uneven:
            break
    for i in range(n - 1, -1, -1):
        if side[i] == 1:
            _move(level, level.rows[k, i], new)


@compiled
def _farthest(sketches: npt.NDArray[np.int8], sketch: Sketch) -> int:
    """The index of the row of sketches (n, AXES) with the smallest inner product with the sketch."""
    farthest = 0
    lowest = _dot(sketches[0], sketch)
    for i in range(1, sketches.shape[0]):
        score = _dot(sketches[i], sketch)
        if score < lowest:
            lowest = score
            farthest = i
    return farthest


@compiled
def _centre(level: Level, target: int, k: int, side: npt.NDArray[np.int8], which: int) -> None:
    """Make the mean direction of the rows of list k with side == which the centroid of list `target`."""
    total = np.zeros(AXES, np.int32)
    sketch = np.empty(AXES, np.int8)
    for i in range(level.sizes[k]):
        if side[i] == which:
            _unpack(level.sketches[k, i], sketch)
            for j in range(AXES):
                total[j] += sketch[j]
    square = 0.0
    for j in range(AXES):
        square += np.float64(total[j]) * np.float64(total[j])
    scale = SKETCH_NORM / np.sqrt(max(square, 1.0))
    for j in range(AXES):
        level.centroids[target, j] = np.int8(min(127.0, max(-127.0, np.rint(total[j] * scale))))

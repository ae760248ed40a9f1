"""How inverted lists change: rows come and go, lists split when full, settle when idle and dissolve when sparse.

The partition follows the data and is never rebuilt (after SPFresh: Xu et al., SOSP 2023). Only a restart begins with
lists that are still empty: `seed`. The lists and how they are searched: `kernels.lists`. Called by
`constellation.shard.similarity`.
"""

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled
from kernels.lists import CAPACITY, FREE, HELD, LOW, USED, Keys, Level, Rows, Scores, nearest_groups, scan
from kernels.sketches import AXES, HALF, SKETCH_NORM, STEP, Packed, Sketch, pack, packed_dot, sketch_dot, unpack

SPARSE = CAPACITY // 4
"""A list with fewer rows is dissolved, and no split leaves fewer: so N rows need at most N / SPARSE lists."""
NEAR_LISTS = 48
"""Lists around a list that its rows may move to, and from."""

Seeds = npt.NDArray[np.int64]
"""(2,): lists from number NEXT on and below SOWN may be sparse or empty: `seed` made them, `weed` was not there yet."""
NEXT, SOWN = 0, 1
"""Positions in Seeds."""

_MEANS_ROUNDS = 4
_NEVER = -(2**31)
_WEED_WORK = 128
"""Lists looked at and rows moved by one call of `weed`, about."""
_SMALLEST_SHARE = CAPACITY // SPARSE


@compiled
def insert(lists: Level, groups: Level, row: int, sketch: Sketch) -> None:
    """Put a row, which must be in no list, into the nearest list; split that when it is full. sketch (AXES,) int8."""
    packed = np.empty(HALF, np.uint8)
    pack(sketch, packed)
    _insert(lists, groups, row, sketch, packed)


@compiled
def _insert(lists: Level, groups: Level, row: int, sketch: Sketch, packed: Packed) -> None:
    if groups.counts[HELD] == 0:
        first = _new_list(lists)
        lists.centroids[first] = sketch
        _attach(lists, groups, first)
    k = _nearest_list(groups, sketch)
    _put(lists, k, row, packed)
    if lists.sizes[k] == CAPACITY:
        _split_list(lists, groups, k)


@compiled
def insert_many(lists: Level, groups: Level, seeds: Seeds, rows: Rows, sketches: npt.NDArray[np.int8]) -> None:
    """`insert` rows (n,) int32, which differ and are in no list; their sketches (n, AXES) int8. About 5 us a row."""
    for i in range(rows.shape[0]):
        make_room(lists, groups, seeds)
        insert(lists, groups, rows[i], sketches[i])


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
        unpack(lists.sketches[k, i], sketch)
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
    there, here = lists.centroids[target], lists.centroids[k]
    shift = 0
    for j in range(AXES):
        shift += int(there[j]) - int(here[j])
    flat = lists.sketches.reshape(-1)
    for i in range(lists.sizes[k] - 1, -1, -1):
        if lists.sizes[target] >= CAPACITY - 1 or lists.sizes[k] <= SPARSE:
            return
        at = (k * CAPACITY + i) * HALF
        # A packed n stands for n - 7.5.
        if 2 * (packed_dot(flat, at, there) - packed_dot(flat, at, here)) > 15 * shift:
            _move(lists, lists.rows[k, i], target)


@compiled
def _dissolve(lists: Level, groups: Level, k: int) -> None:
    """Hand the rows of list k to the lists nearest to them and put k on the stack of free lists."""
    _detach(groups, k)
    sketch = np.empty(AXES, np.int8)
    for i in range(lists.sizes[k] - 1, -1, -1):
        unpack(lists.sketches[k, i], sketch)
        target = _nearest_list(groups, sketch)
        _move(lists, lists.rows[k, i], target)
        if lists.sizes[target] == CAPACITY:
            _split_list(lists, groups, target)
    _free_list(lists, k)


@compiled
def _nearest_list(groups: Level, sketch: Sketch) -> int:
    """The list with the largest inner product in the nearest groups, those that hold 4 * CAPACITY lists (or all)."""
    count = groups.counts[USED]
    scores = np.empty(count, np.int32)
    for g in range(count):
        scores[g] = sketch_dot(groups.centroids[g], sketch) if groups.sizes[g] > 0 else _NEVER
    flat = groups.sketches.reshape(-1)
    highest = np.int32(_NEVER)
    best = np.int32(-1)
    seen = 0
    while seen < min(4 * CAPACITY, groups.counts[HELD]):
        g = _highest(scores)
        scores[g] = _NEVER
        for i in range(groups.sizes[g]):
            score = packed_dot(flat, (g * CAPACITY + i) * HALF, sketch)
            if score > highest:
                highest = score
                best = groups.rows[g, i]
        seen += groups.sizes[g]
    return int(np.int64(best))


@compiled
def _highest(scores: Scores) -> int:
    """The index of the first of the highest scores. `np.argmax` takes six times as long on int32."""
    best = 0
    highest = scores[0]
    for i in range(1, scores.shape[0]):
        if scores[i] > highest:
            highest = scores[i]
            best = i
    return best


@compiled
def _near(lists: Level, groups: Level, k: int) -> Keys:
    """The NEAR_LISTS lists nearest to list k, itself among them."""
    sketch = lists.centroids[k]
    return scan(groups, nearest_groups(groups, sketch, 4 * CAPACITY), sketch, NEAR_LISTS) & LOW


@compiled
def _best_of(lists: Level, candidates: Keys, sketch: Sketch, k: int) -> int:
    """The list, k or one of the candidates, whose centroid has the largest inner product; k in case of doubt."""
    best = k
    highest = sketch_dot(lists.centroids[k], sketch)
    for i in range(candidates.shape[0]):
        score = sketch_dot(lists.centroids[candidates[i]], sketch)
        if score > highest:
            highest = score
            best = int(candidates[i])
    return best


@compiled
def _attach(lists: Level, groups: Level, k: int) -> None:
    """Put list k, which must be in no group, into the group nearest to its centroid; split that when it is full."""
    packed = np.empty(HALF, np.uint8)
    pack(lists.centroids[k], packed)
    g = -1
    highest = np.int32(-(2**31))
    for i in range(groups.counts[USED]):
        if groups.sizes[i] > 0:
            score = sketch_dot(groups.centroids[i], lists.centroids[k])
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


# -- seeding --------------------------------------------------------------------------------------------------------


@compiled
def seed(lists: Level, groups: Level, seeds: Seeds, centroids: npt.NDArray[np.int8]) -> None:
    """Make centroids (n, AXES) int8 empty lists of levels without rows: as many of the first as surely leave room.

    Rows inserted then meet hardly any split. `make_room` must come before every change until `weed` has seen all lists.
    Any centroids will do: with useless ones it takes longer. About 2 us each.
    """
    room = lists.home.shape[0] // SPARSE - SPARSE - groups.counts[HELD]
    for i in range(min(centroids.shape[0], room)):
        k = _new_list(lists)
        lists.centroids[k] = centroids[i]
        _attach(lists, groups, k)
    seeds[NEXT] = 0
    seeds[SOWN] = lists.counts[USED]


@compiled
def place_many(
    lists: Level, groups: Level, seeds: Seeds, rows: Rows, places: Rows, packed: npt.NDArray[np.uint8]
) -> None:
    """Put rows (n,) int32, which differ and are in no list, into the seeded lists places (n,) int32, without a search.

    packed (n, HALF) uint8: their sketches as lists hold them. A row whose place is no seeded list in use with room
    (-1 is none) goes where `insert` puts it. Any places will do: with useless ones `settle` has the more to move.
    """
    sketch = np.empty(AXES, np.int8)
    for i in range(rows.shape[0]):
        k = places[i]
        if 0 <= k < seeds[SOWN] and groups.home[k] > 0 and lists.sizes[k] < CAPACITY - 1:
            _put(lists, k, rows[i], packed[i])
        else:
            unpack(packed[i], sketch)
            for j in range(AXES):
                sketch[j] = np.int8(int(sketch[j]) * STEP // 2)
            make_room(lists, groups, seeds)
            _insert(lists, groups, rows[i], sketch, packed[i])


@compiled
def weed(lists: Level, groups: Level, seeds: Seeds) -> None:
    """Dissolve seeded lists that have stayed sparse: a step of about 1 ms, until seeds[NEXT] is seeds[SOWN]."""
    work = 0
    while seeds[NEXT] < seeds[SOWN] and work < _WEED_WORK:
        make_room(lists, groups, seeds)
        k = seeds[NEXT]
        seeds[NEXT] = min(k + 1, seeds[SOWN])
        work += 1
        if _next_sparse(lists, groups, k, seeds[NEXT]) < seeds[NEXT] and groups.counts[HELD] > 1:
            work += lists.sizes[k]
            _dissolve(lists, groups, k)


@compiled
def make_room(lists: Level, groups: Level, seeds: Seeds) -> None:
    """Pour seeded sparse lists together until there may be SPARSE more lists, which is more than any change makes.

    Two of them fit into one without a split; fewer than two leave as much room as there is without seeds. It has
    nothing to do but after a hint that does not suit the rows, so it does not look which ones are near each other.
    """
    most = lists.home.shape[0] // SPARSE + 2 - SPARSE
    while groups.counts[HELD] > most and seeds[NEXT] < seeds[SOWN]:
        k = _next_sparse(lists, groups, seeds[NEXT], seeds[SOWN])
        seeds[NEXT] = k
        target = _next_sparse(lists, groups, k + 1, seeds[SOWN])
        if target >= seeds[SOWN]:
            return
        _detach(groups, k)
        for i in range(lists.sizes[k] - 1, -1, -1):
            _move(lists, lists.rows[k, i], target)
        _free_list(lists, k)
        seeds[NEXT] = target


@compiled
def _next_sparse(lists: Level, groups: Level, start: int, stop: int) -> int:
    """The first list in use that is sparse, from number start on and below stop; else stop, or more."""
    k = start
    while k < stop and (groups.home[k] == 0 or lists.sizes[k] >= SPARSE):
        k += 1
    return k


# -- one level ------------------------------------------------------------------------------------------------------


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
        unpack(level.sketches[k, i], sketches[i])
    a = _farthest(sketches, level.centroids[k])
    b = _farthest(sketches, sketches[a])
    level.centroids[k] = sketches[a]
    level.centroids[new] = sketches[b]
    side = np.zeros(CAPACITY, np.int8)
    lean = np.zeros(n, np.int32)
    for _ in range(_MEANS_ROUNDS):
        n_new = 0
        for i in range(n):
            lean[i] = sketch_dot(level.centroids[new], sketches[i]) - sketch_dot(level.centroids[k], sketches[i])
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
    lowest = sketch_dot(sketches[0], sketch)
    for i in range(1, sketches.shape[0]):
        score = sketch_dot(sketches[i], sketch)
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
            unpack(level.sketches[k, i], sketch)
            for j in range(AXES):
                total[j] += sketch[j]
    square = 0.0
    for j in range(AXES):
        square += np.float64(total[j]) * np.float64(total[j])
    scale = SKETCH_NORM / np.sqrt(max(square, 1.0))
    for j in range(AXES):
        level.centroids[target, j] = np.int8(min(127.0, max(-127.0, np.rint(total[j] * scale))))

"""Rankings: what each interest of a device found, deeper than it is told, brought up to date instead of found again.

A *ranking* is the rows most similar to one query, best first, and beside them the prototypes most similar to it.
Nothing that is not in it is more similar than its last row. So it stays true while rows go, as long as enough are left,
and rows that came since are compared with that last row alone (after Yi et al., Efficient Maintenance of Materialized
Top-k Views, ICDE 2003). Called by `constellation.shard.rankings`. Checked against `kernels.reference`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.arrivals import ROW, Arrivals, came_since, likely
from kernels.compiled import compiled, wrapping
from kernels.interests import Households, ask
from kernels.lists import LOW, Codes, Keys, Rows, cosine_of, key_of, score, unit_of
from kernels.scan import cosines

RESERVE = 12
"""Rows of a ranking beyond those that are told: what goes may be so much more than what comes."""
SEEN = 2_000
"""Arrivals that are looked at for each interest, those nearest to it."""
SCORED = 40
"""Of them so many are scored exactly."""
PROTOTYPE_SHARE = 5
"""One in so many results may be a prototype as long as patterns are not short: means lie nearer than their members."""

_PLACES = 512

Norms = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Patterns(NamedTuple):
    """Columns by row: codes (N, d) int8, inverse (N,) float32 = 1/|code|, owners (N,) int32, home (N,) int32: 0 for one
    that is not served."""

    codes: Codes
    inverse: Norms
    owners: Rows
    home: Rows


class Prototypes(NamedTuple):
    """Columns by place: codes (P, d) int8, inverse (P,) float32; place_of (Q,) int32 by number."""

    codes: Codes
    inverse: Norms
    place_of: Rows


class Asked(NamedTuple):
    """Of m interests: queries (m, d) int8 with 1/|query| (m,) float32 and sketches (m, AXES) int8, and how many results
    each gets, parts (m,) int64; the row of the device that asks."""

    queries: Codes
    inverse: Norms
    sketches: npt.NDArray[np.int8]
    parts: Indices
    device: int


class Remembered(NamedTuple):
    """By place: rows (C, F) int32 and sizes (C, S) uint8 as `renew` takes them, questions (C,) uint64 as `fingerprint`
    makes them or 0 for none, since (C,) int64: the arrival before which the rankings were true."""

    rows: Rows
    sizes: npt.NDArray[np.uint8]
    questions: npt.NDArray[np.uint64]
    since: Indices


@compiled
def renewed(
    remembered: Remembered,
    place: int,
    households: Households,
    device: int,
    k: int,
    rounds: int,
    patterns: Patterns,
    arrivals: Arrivals,
    prototypes: Prototypes,
) -> Rows:
    """`renew` of what is remembered at a place, if the device asks there what it asked before; none if it does not.

    One call for the question and the answer, as nearly every sync takes both: by two, handing over costs as much again.
    """
    since = remembered.since[place]
    if remembered.questions[place] == 0 or arrivals.counts[0] - since > arrivals.records.shape[0]:
        return remembered.rows[place, :0]
    queries, inverse, sketches, parts, _ = ask(households, device, k)
    if remembered.questions[place] != fingerprint(queries, parts, device, rounds):
        return remembered.rows[place, :0]
    asked = Asked(queries, inverse, sketches, parts, device)
    m = parts.shape[0]
    sizes = remembered.sizes[place, : 2 * m].reshape(2, m)
    rows = renew(patterns, arrivals, prototypes, asked, remembered.rows[place], sizes, since)
    if rows.shape[0]:
        remembered.since[place] = arrivals.counts[0]
    return rows


@wrapping
def fingerprint(queries: Codes, parts: Indices, device: int, rounds: int) -> np.uint64:
    """Of all that rankings depend on but the patterns of others: 63 bits and a 1, so never 0. queries (m, d) int8, d a
    multiple of 8, and parts (m,). Not keyed: who finds two questions with one fingerprint gets its own list wrong."""
    mixed = _mixed(np.uint64(device), np.uint64(rounds))
    for i in range(parts.shape[0]):
        mixed = _mixed(mixed, np.uint64(parts[i]))
    words = queries.reshape(-1).view(np.uint64)
    for i in range(words.shape[0]):
        mixed = _mixed(mixed, words[i])
    return np.uint64(mixed | np.uint64(1))


@wrapping
def _mixed(so_far: np.uint64, word: np.uint64) -> np.uint64:
    mixed = (so_far ^ word) * np.uint64(0x9E3779B185EBCA87)
    return np.uint64(mixed ^ (mixed >> np.uint64(32)))


@compiled
def renew(
    patterns: Patterns,
    arrivals: Arrivals,
    prototypes: Prototypes,
    asked: Asked,
    kept: Rows,
    sizes: npt.NDArray[np.uint8],
    since: int,
) -> Rows:
    """The rows (k,) int32 for interests whose rankings were true before arrival `since`; k is the sum of the parts.

    kept (F,) int32 holds for each interest its rows, then its prototypes, row -1 - number each; sizes (2, m) how many
    these are. Both are made true for now. None, and nothing is changed, if the rankings do not tell: too little is left
    of one, or so much is new that some of it may have been overlooked.
    Costs 6 us, a few ns a row kept, 40 if anything enters, and what `arrivals.likely` takes. Twin: `renew`.
    """
    m = asked.parts.shape[0]
    k = asked.parts.sum()
    renewed = kept.copy()
    taken = np.empty(k, np.int32)
    found_at = np.full(_PLACES, -1, np.int16)
    count, begin, end = 0, 0, 0
    heaviest = taken[:0]
    sizes_now = sizes.copy()
    for i in range(m):
        part = asked.parts[i]
        after = begin + sizes[0, i]
        told = kept[after : after + sizes[1, i]]
        rows, sure = _ranked(patterns, arrivals, asked, i, kept[begin:after], since)
        begin = after + sizes[1, i]
        depth = RESERVE + (k if i == 0 else part)
        if not sure or rows.shape[0] < part:
            return taken[:0]
        rows = rows[:depth]
        count = _take(patterns, prototypes, asked, i, rows, told, part, taken, count, found_at)
        if i == 0:
            heaviest = rows
        sizes_now[0, i] = rows.shape[0]
        renewed[end : end + rows.shape[0]] = rows
        end += rows.shape[0]
        renewed[end : end + told.shape[0]] = told
        end += told.shape[0]
    if count < k:
        # Interests found the same patterns: the heaviest has more.
        if heaviest.shape[0] < k:
            return taken[:0]
        told = kept[sizes[0, 0] : int(sizes[0, 0]) + int(sizes[1, 0])]
        count = _take(patterns, prototypes, asked, 0, heaviest, told, k, taken, count, found_at)
    kept[:] = renewed
    sizes[:] = sizes_now
    return taken


@compiled
def _ranked(patterns: Patterns, arrivals: Arrivals, asked: Asked, i: int, kept: Rows, since: int) -> tuple[Rows, bool]:
    """What interest i finds now, best first; and whether nothing can have been overlooked.

    What is left of a ranking is in order: nothing of it but the last row is scored unless something enters.
    """
    query = asked.queries[i]
    rows = np.empty(kept.shape[0], np.int32)
    n = 0
    for j in range(kept.shape[0]):
        if patterns.home[kept[j]] > 0 and not came_since(arrivals, kept[j], since):
            rows[n] = kept[j]
            n += 1
    if n == 0:
        return rows[:0], asked.parts[i] == 0
    fresh = likely(arrivals, asked.sketches[i], since, SEEN, SCORED)
    keys = _above(patterns, arrivals, fresh, asked.device, query, rows[n - 1])
    sure = fresh.shape[0] < SCORED or 2 * keys.shape[0] <= SCORED
    return (_merged(patterns, query, rows[:n], keys) if keys.shape[0] else rows[:n]), sure


@compiled
def _above(
    patterns: Patterns, arrivals: Arrivals, fresh: Indices, device: int, query: npt.NDArray[np.int8], lowest: int
) -> Keys:
    """Exact keys of those arrivals in the slots `fresh` (m,) that others may have and that are more similar to a query
    than row `lowest`."""
    keys = np.empty(fresh.shape[0], np.int64)
    capacity = arrivals.records.shape[0]
    n = 0
    for j in range(fresh.shape[0]):
        row = arrivals.words[fresh[j], ROW]
        last = arrivals.arrived[row] % capacity == fresh[j]
        if last and patterns.home[row] > 0 and patterns.owners[row] != device:
            keys[n] = row
            n += 1
    if n == 0:
        return keys[:0]
    score(keys[:n], patterns.codes, patterns.inverse, query)
    border = key_of(patterns.codes, patterns.inverse, query, unit_of(query), lowest)
    entered = 0
    for j in range(n):
        if keys[j] > border:
            keys[entered] = keys[j]
            entered += 1
    return keys[:entered]


@compiled
def _merged(patterns: Patterns, query: npt.NDArray[np.int8], rows: Rows, entered: Keys) -> Rows:
    """Rows (n,) and those of the keys that entered (m,), best first."""
    n = rows.shape[0]
    keys = np.empty(n + entered.shape[0], np.int64)
    keys[:n] = rows
    score(keys[:n], patterns.codes, patterns.inverse, query)
    keys[n:] = entered
    keys.sort()
    merged = np.empty(keys.shape[0], np.int32)
    for j in range(keys.shape[0]):
        merged[j] = np.int32(keys[keys.shape[0] - 1 - j] & LOW)
    return merged


@compiled
def _take(
    patterns: Patterns,
    prototypes: Prototypes,
    asked: Asked,
    i: int,
    rows: Rows,
    told: Rows,
    part: int,
    taken: Rows,
    count: int,
    found_at: npt.NDArray[np.int16],
) -> int:
    """Add the best `part` of rows and of prototypes `told`, of which no more than their share, to what was taken (k,).

    Each once, until all places are taken; how many are. Of equal cosines a pattern comes before a prototype.
    """
    allowed = min(told.shape[0], part // PROTOTYPE_SHARE)
    query = asked.queries[i]
    near = cosines(
        prototypes.codes, prototypes.inverse, prototypes.place_of[-1 - told[:allowed]], query, asked.inverse[i]
    )
    unit = unit_of(query)
    a, b = 0, 0
    while a + b < part and count < taken.shape[0]:
        row = rows[a]
        if b < allowed and near[b] > cosine_of(key_of(patterns.codes, patterns.inverse, query, unit, row)):
            row = told[b]
            b += 1
        else:
            a += 1
        place = (np.int64(row) * 0x9E3779B1 >> 16) & (_PLACES - 1)
        while found_at[place] >= 0 and taken[found_at[place]] != row:
            place = (place + 1) & (_PLACES - 1)
        if found_at[place] < 0:
            found_at[place] = count
            taken[count] = row
            count += 1
    return count

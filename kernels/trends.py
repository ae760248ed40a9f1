"""Trend counts: new samples per item and hour for one week, and a score that forgets 5% of them an hour.

counts (168, items) uint32 is a ring of hours: hour h (unix seconds // 3600) stands in line h % 168. Hours come first,
so that the turn of an hour walks along memory. scores (items,) float64 = the sum of counts x decay^(age in hours): the
kernels keep it up as counts change, `recompute_scores` is what it means. Owned by the shard's trends.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import heap
from kernels.compiled import compiled

HOURS = 168
"""Hours that are remembered: one week."""
COUNT_MAX = 2**32 - 1

Counts = npt.NDArray[np.uint32]
SummedCounts = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


def empty_counts(items: int) -> Counts:
    """Counts for `items` items; pages are lazy, so room for many costs nothing until used."""
    return np.zeros((HOURS, items), np.uint32)


@compiled
def credit(counts: Counts, scores: Scores, item: int, hour: int, samples: int) -> int:
    """Count `samples` >= 0 for the item in the current hour; how many were taken. Twin: `credit`.

    A cell that would pass COUNT_MAX stops there.
    """
    cell = np.int64(counts[hour % HOURS, item])
    taken = min(np.int64(samples), COUNT_MAX - cell)
    counts[hour % HOURS, item] = np.uint32(cell + taken)
    scores[item] += np.float64(taken)
    return int(taken)


@compiled
def roll_hours(counts: Counts, scores: Scores, n_items: int, from_hour: int, to_hour: int, decay: float) -> None:
    """Let time go from one hour to another: decay the first n_items scores, drop what leaves the week.

    0 < decay <= 1. Nothing happens when to_hour <= from_hour; after 168 hours or more all is zero. One hour costs about
    0.5 ns an item, a week is the most. A score below half of what the oldest single sample weighs is rounding left
    over from counts that are gone, and becomes zero. Twin: `roll_hours`.
    """
    hours = min(to_hour - from_hour, HOURS)
    leaving = decay**HOURS
    least = 0.5 * decay ** (HOURS - 1)
    for step in range(1, hours + 1):
        line = counts[(from_hour + step) % HOURS] if hours < HOURS else counts[step - 1]
        for item in range(n_items):
            score = scores[item] * decay - np.float64(line[item]) * leaving
            scores[item] = score if score >= least and hours < HOURS else 0.0
            line[item] = np.uint32(0)


@compiled
def recompute_scores(
    counts: Counts | SummedCounts, scores: Scores, start: int, stop: int, now_hour: int, decay: float
) -> None:
    """Set the scores of items start..stop-1 from their counts: the definition, free of rounding left over.

    168 multiply-adds an item, oldest hour first (Horner): equal counts give equal bits, in whichever column. counts may
    be int64, the sums of several shards. Twin: `recompute_scores`.
    """
    part = scores[start:stop]
    part[:] = 0.0
    for age in range(HOURS - 1, -1, -1):
        line = counts[(now_hour - age) % HOURS, start:stop]
        for i in range(part.shape[0]):
            part[i] = part[i] * decay + np.float64(line[i])


@compiled
def debit(counts: Counts, scores: Scores, item: int, samples: int, now_hour: int, last_hour: int, decay: float) -> int:
    """Take up to `samples` off the item, from `last_hour` backwards and never below zero; how many were taken.

    Hours outside the week that ends at now_hour hold nothing. For forgetting a device, whose last credit was at
    last_hour. The item's score is computed anew. Twin: `debit`.
    """
    left = np.int64(samples)
    hour = min(last_hour, now_hour)
    while left > 0 and hour > now_hour - HOURS:
        cell = np.int64(counts[hour % HOURS, item])
        taken = min(left, cell)
        counts[hour % HOURS, item] = np.uint32(cell - taken)
        left -= taken
        hour -= 1
    recompute_scores(counts, scores, item, item + 1, now_hour, decay)
    return int(samples - left)


@compiled
def top_k(values: npt.NDArray[Any], live: npt.NDArray[np.uint8], k: int) -> npt.NDArray[np.int32]:
    """Indices (<= k,) int32 of the largest values (n,) float64 or float32 among live (n,) uint8, best first.

    Of equal values the lower index comes first; NaN is never returned. One pass: about 1 ms for a million, more when
    values rise with the index (each then enters the heap). Twin: `top_k`.
    """
    n = values.shape[0]
    best = np.empty(max(0, min(k, n)), values.dtype)
    indices = np.empty(best.shape[0], np.int32)
    if best.shape[0] == 0:
        return indices
    size = 0
    i = 0
    while i < n and size < best.shape[0]:
        if live[i] != 0 and values[i] == values[i]:
            size = heap.offer(best, indices, size, values[i], np.int32(i))
        i += 1
    for j in range(i, n):
        if values[j] > best[0] and live[j] != 0:
            heap.offer(best, indices, size, values[j], np.int32(j))
    heap.sort(best, indices, size)
    return indices[:size]

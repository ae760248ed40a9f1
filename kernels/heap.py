"""The k best of a stream of (score, row), in two caller-owned arrays: a binary heap with the worst kept at the root.

Higher scores are better; of equal scores the smaller row is. NaN must not be offered. Called by the other kernels only.
"""

from typing import Any

import numpy.typing as npt

from kernels.compiled import compiled

Scores = npt.NDArray[Any]
Rows = npt.NDArray[Any]


@compiled
def beats(score: Any, row: Any, other_score: Any, other_row: Any) -> bool:
    """Does (score, row) stand before (other_score, other_row)?"""
    return bool(score > other_score or (score == other_score and row < other_row))


@compiled
def offer(scores: Scores, rows: Rows, size: int, score: Any, row: Any) -> int:
    """Keep (score, row) if it is among the k = len(scores) >= 1 best so far; `size` are. The new size; O(log k)."""
    if size == scores.shape[0]:
        if beats(score, row, scores[0], rows[0]):
            _sink(scores, rows, size, score, row)
        return size
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if not beats(scores[parent], rows[parent], score, row):
            break
        scores[i], rows[i] = scores[parent], rows[parent]
        i = parent
    scores[i], rows[i] = score, row
    return size + 1


@compiled
def sort(scores: Scores, rows: Rows, size: int) -> None:
    """Turn the heap of the first `size` entries into a list, best first; O(size log size)."""
    for end in range(size - 1, 0, -1):
        score, row = scores[end], rows[end]
        scores[end], rows[end] = scores[0], rows[0]
        _sink(scores, rows, end, score, row)


@compiled
def _sink(scores: Scores, rows: Rows, size: int, score: Any, row: Any) -> None:
    """Put (score, row) in the root's place and let it sink to where it belongs."""
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and beats(scores[child], rows[child], scores[child + 1], rows[child + 1]):
            child += 1
        if not beats(score, row, scores[child], rows[child]):
            break
        scores[i], rows[i] = scores[child], rows[child]
        i = child
    scores[i], rows[i] = score, row

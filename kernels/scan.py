"""Exact cosine over int8 codes: the truth that every approximate answer is scored by.

cosine(a, b) = dot(a, b) x 1/|a| x 1/|b|. The dot product is an exact integer; the score is float32, multiplied in this
order, so that equal inputs give equal scores everywhere. Called by the shard for tails and re-scoring.
"""

import numpy as np
import numpy.typing as npt

from kernels import heap
from kernels.compiled import compiled, inlined
from kernels.dot import dot
from kernels.prefetch import LINE_BYTES, prefetch

Codes = npt.NDArray[np.int8]
Code = npt.NDArray[np.int8]
Norms = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Scalar = float | np.float32

ROWS_AHEAD = 6
"""How many rows before its turn a scattered row is asked for."""


@compiled
def scan_top_k(codes: Codes, inv: Norms, rows: Rows, query: Code, query_inv: Scalar, k: int) -> tuple[Rows, Scores]:
    """The k of `rows` most similar to the query: (rows int32, scores float32), best first, ties by smaller row.

    codes (N, d) int8, inv (N,) float32, rows (m,) int32 (a row given twice is returned twice), query (d,) int8,
    query_inv float or float32. min(k, m) results. About 10 ns a row in order. Twin: `scan_top_k`.
    """
    best_scores = np.empty(max(0, min(k, rows.shape[0])), np.float32)
    best_rows = np.empty(best_scores.shape[0], np.int32)
    if best_rows.shape[0] == 0:
        return best_rows, best_scores
    scale = np.float32(query_inv)
    size = 0
    for i in range(rows.shape[0]):
        if i + ROWS_AHEAD < rows.shape[0]:
            _fetch(codes, rows[i + ROWS_AHEAD])
        row = rows[i]
        score = np.float32(dot(query, codes[row])) * inv[row] * scale
        if size < best_rows.shape[0] or score >= best_scores[0]:
            size = heap.offer(best_scores, best_rows, size, score, row)
    heap.sort(best_scores, best_rows, size)
    return best_rows, best_scores


@compiled
def scan_all_top_k(
    codes: Codes, inv: Norms, live: npt.NDArray[np.uint8], start: int, stop: int, query: Code, query_inv: Scalar, k: int
) -> tuple[Rows, Scores]:
    """As `scan_top_k` over the rows start..stop-1 whose live (N,) uint8 is not 0. Twin: `scan_all_top_k`."""
    best_scores = np.empty(max(0, min(k, stop - start)), np.float32)
    best_rows = np.empty(best_scores.shape[0], np.int32)
    if best_rows.shape[0] == 0:
        return best_rows, best_scores
    scale = np.float32(query_inv)
    size = 0
    for i in range(start, stop):
        if live[i] == 0:
            continue
        score = np.float32(dot(query, codes[i])) * inv[i] * scale
        if size < best_rows.shape[0] or score > best_scores[0]:
            size = heap.offer(best_scores, best_rows, size, score, np.int32(i))
    heap.sort(best_scores, best_rows, size)
    return best_rows[:size], best_scores[:size]


@compiled
def cosines(codes: Codes, inv: Norms, rows: Rows, query: Code, query_inv: Scalar) -> Scores:
    """Scores (m,) float32 of the query against each of rows (m,) int32, in their order. Twin: `cosines`."""
    scale = np.float32(query_inv)
    scores = np.empty(rows.shape[0], np.float32)
    for i in range(rows.shape[0]):
        if i + ROWS_AHEAD < rows.shape[0]:
            _fetch(codes, rows[i + ROWS_AHEAD])
        scores[i] = np.float32(dot(query, codes[rows[i]])) * inv[rows[i]] * scale
    return scores


@compiled
def pairwise_cosine(codes: Codes, inv: Norms, rows: Rows) -> Scores:
    """Cosines (m, m) float32 between rows (m,) int32 of codes (N, d) int8, symmetric; m <= 255 by the caller's limits.

    About 10 us for m = 32. Twin: `pairwise_cosine`.
    """
    m = rows.shape[0]
    cosine = np.empty((m, m), np.float32)
    for i in range(m):
        code = codes[rows[i]]
        for j in range(i, m):
            score = np.float32(dot(code, codes[rows[j]])) * inv[rows[i]] * inv[rows[j]]
            cosine[i, j] = score
            cosine[j, i] = score
    return cosine


@inlined
def _fetch(codes: Codes, row: int) -> None:
    """Ask for the cache lines of one row of codes."""
    flat = codes.reshape(-1)
    d = codes.shape[1]
    for byte in range(0, d, LINE_BYTES):
        prefetch(flat, np.int64(row) * d + byte)

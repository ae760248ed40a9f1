"""Exact cosine search in NumPy: the truth that recall is measured against, and the yardstick of its speed."""

import numpy as np
import numpy.typing as npt

from bench.plan import Timings
from bench.report import Yardstick
from constellation.model import Codes

SCANS = 20
"""Enough for a median."""

_QUERIES_AT_ONCE = 64
_ROWS_AT_ONCE = 100_000

Rows = npt.NDArray[np.int64]


class ExactScan:
    """n codes as unit vectors (n, 384) float32: the form in which NumPy is fastest; shares no code with the kernels."""

    def __init__(self, codes: Codes) -> None:
        self.vectors = np.empty(codes.shape, np.float32)
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            block = codes[start : start + _ROWS_AT_ONCE].astype(np.float32)
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            self.vectors[start : start + _ROWS_AT_ONCE] = block

    def query(self, code: npt.NDArray[np.generic], k: int) -> Rows:
        """Rows of the k nearest, in no order; one vector at a time, as a service would be asked."""
        found: Rows = self._best((self.vectors @ code.astype(np.float32))[None], k)[0]
        return found

    def top(self, codes: npt.NDArray[np.generic], k: int) -> Rows:
        """(m, k) rows for m queries at once."""
        found = np.empty((len(codes), min(k, len(self.vectors))), np.int64)
        for start in range(0, len(codes), _QUERIES_AT_ONCE):
            block = codes[start : start + _QUERIES_AT_ONCE].astype(np.float32)
            found[start : start + len(block)] = self._best(block @ self.vectors.T, k)
        return found

    @staticmethod
    def _best(scores: npt.NDArray[np.float32], k: int) -> Rows:
        if k >= scores.shape[1]:
            return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
        best: Rows = np.argpartition(scores, -k, axis=1)[:, -k:]
        return best


def time_scan(exact: ExactScan, queries: npt.NDArray[np.generic], k: int) -> Yardstick:
    """How long one scan takes, in ms: the median over the queries once the vectors have been read."""
    timings = Timings()
    for query in queries[: 2 * SCANS]:
        timings.measure(exact.query, query, k)
    return Yardstick("exact NumPy scan", float(np.median(timings.ms[-SCANS:])))


def recall(found: Rows, true: Rows) -> float:
    """The share of one query's true rows that was found."""
    return len(np.intersect1d(found, true)) / len(true)

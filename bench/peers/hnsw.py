"""usearch's HNSW over the same int8 codes: what the shard would use if one graph over all patterns did."""

import numpy as np
import numpy.typing as npt
from usearch.index import Index

from bench.peers.exact import Rows
from constellation.model import DIM, Codes

CONNECTIVITY = 16
EXPANSION_ADD = 96
EXPANSION_SEARCH = 160
ROWS_AT_ONCE = 1_000


class GraphIndex:
    """An index over codes (n, 384) int8 that the caller keeps: usearch makes no second copy."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self._index = Index(
            ndim=DIM,
            metric="cos",
            dtype="i8",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
        )

    def add(self, rows: Rows) -> None:
        self._index.add(rows.astype(np.uint64), self._codes[rows[0] : rows[-1] + 1], copy=False, threads=1)

    def replace(self, row: int, code: npt.NDArray[np.int8]) -> None:
        self._index.remove(row)
        self._codes[row] = code
        self._index.add(row, self._codes[row], copy=False, threads=1)

    def search(self, query: npt.NDArray[np.int8], k: int) -> Rows:
        keys: Rows = self._index.search(query, k, threads=1).keys.astype(np.int64)
        return keys

"""Codes of served patterns drawn at random, each as likely as any other: what a codebook is trained on.

Part of `shard.shard`; changes nothing. The work depends on the limits alone, not on how many patterns there are.
"""

from collections.abc import Iterator

import numpy as np

from constellation.limits import SAMPLE_ROWS_DRAWN, SAMPLED_PER_TURN
from constellation.model import Codes
from constellation.shard.tables import Tables


def sample(tables: Tables, limit: int, rng: np.random.Generator) -> Iterator[Codes]:
    """Codes (m, 384) of up to `limit` different patterns, piece by piece, none taking longer than about 2 ms.

    Fewer where fewer are served, or where so many rows are unused or not served that too few of those drawn were.
    """
    high, served = tables.patterns.rows.high, tables.best_known.served
    if not high:
        return
    drawn = rng.integers(0, high, SAMPLE_ROWS_DRAWN, dtype=np.int32)
    drawn.sort()
    drawn = drawn[np.diff(drawn, prepend=-1) > 0]
    rows = rng.permutation(drawn[served(drawn)])[:limit]
    for start in range(0, len(rows), SAMPLED_PER_TURN):
        some = rows[start : start + SAMPLED_PER_TURN]
        yield tables.patterns.codes[some[served(some)]]  # what was forgotten since they were drawn is not told

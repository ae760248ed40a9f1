"""What one TV received: patterns of other households and the region's trends. No I/O.

Replaced or patched by each reply, and then equal, as a set, to the list the shard meant: the digest proves it. Nothing
of it is ever uploaded.
"""

import numpy as np
import numpy.typing as npt

from constellation.client.failures import WrongDigest
from constellation.digest import answer_digest
from constellation.model import DIM, ID_BYTES, Ids, PatternBatch, Trend
from constellation.wire.reply import Reply


class Received:
    """The list as columns (best first, after a whole list), the trends, and the cursor they belong to."""

    def __init__(self) -> None:
        self.similar = _empty()
        self.is_prototype: npt.NDArray[np.bool_] = np.empty(0, np.bool_)
        """(n,) which of `similar` are aggregates of many households."""
        self.trending: list[Trend] = []
        self.version: int | None = None

    def take(self, reply: Reply) -> None:
        """Replace the list (`reset`) or patch it. Raises `WrongDigest`."""
        kept = np.empty(0, np.int64) if reply.reset else _kept(self.similar, reply)
        similar = reply.similar if reply.reset else _patched(self.similar, kept, reply.similar)
        digest = answer_digest(similar.ids, similar.rates, similar.counts, similar.updated_at)
        if digest != reply.digest:
            raise WrongDigest(f"digest: expected {reply.digest}, the list of {len(similar)} patterns has {digest}")
        came = np.array([origin == "prototype" for origin in reply.origins], np.bool_)
        self.similar, self.is_prototype = similar, np.concatenate([self.is_prototype[kept], came])
        self.version = reply.global_version
        if reply.trending is not None:
            self.trending = reply.trending


def _kept(old: PatternBatch, reply: Reply) -> npt.NDArray[np.int64]:
    """Places (k,) of what was neither removed nor changed."""
    gone = np.concatenate([_keys(reply.similar.ids), _keys(reply.removed)])
    return np.flatnonzero(~np.isin(_keys(old.ids), gone))


def _patched(old: PatternBatch, kept: npt.NDArray[np.int64], changed: PatternBatch) -> PatternBatch:
    return PatternBatch(
        ids=np.concatenate([old.ids[kept], changed.ids]),
        codes=np.concatenate([old.codes[kept], changed.codes]),
        rates=np.concatenate([old.rates[kept], changed.rates]),
        counts=np.concatenate([old.counts[kept], changed.counts]),
        created_at=np.concatenate([old.created_at[kept], changed.created_at]),
        updated_at=np.concatenate([old.updated_at[kept], changed.updated_at]),
        contexts=[old.contexts[row] for row in kept] + changed.contexts,
    )


def _keys(ids: Ids) -> npt.NDArray[np.void]:
    """(n,) one comparable item an id: two unsigned halves, as NumPy does not compare raw bytes with trailing zeros."""
    return np.ascontiguousarray(ids).view(np.dtype([("high", np.uint64), ("low", np.uint64)])).ravel()


def _empty() -> PatternBatch:
    return PatternBatch(
        ids=np.empty((0, ID_BYTES), np.uint8),
        codes=np.empty((0, DIM), np.int8),
        rates=np.empty(0, np.float32),
        counts=np.empty(0, np.uint32),
        created_at=np.empty(0, np.int64),
        updated_at=np.empty(0, np.int64),
        contexts=[],
    )

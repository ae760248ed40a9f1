"""What one TV received: patterns of other households and the region's trends. No I/O.

Replaced or patched by each reply, and then equal, as a set, to the list the shard meant: the digest proves it. Nothing
of it is ever uploaded.
"""

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

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
        came = reply.similar if reply.whole.all() else _with_embeddings(reply, self.similar)
        similar = came if reply.reset else _joined(self.similar.take(kept), came)
        digest = answer_digest(similar.ids, similar.rates, similar.counts, similar.updated_at)
        if digest != reply.digest:
            raise WrongDigest(f"digest: expected {reply.digest}, the list of {len(similar)} patterns has {digest}")
        are_prototypes = np.array([origin == "prototype" for origin in reply.origins], np.bool_)
        self.similar, self.is_prototype = similar, np.concatenate([self.is_prototype[kept], are_prototypes])
        self.version = reply.global_version
        if reply.trending is not None:
            self.trending = reply.trending


def _kept(old: PatternBatch, reply: Reply) -> npt.NDArray[np.int64]:
    """Places (k,) of what was neither removed nor changed."""
    gone = np.concatenate([_keys(reply.similar.ids), _keys(reply.removed)])
    return np.flatnonzero(~np.isin(_keys(old.ids), gone))


def _with_embeddings(reply: Reply, old: PatternBatch) -> PatternBatch:
    """What came, with the embeddings that are held of what is not whole. Raises `WrongDigest` if one is not."""
    place_of = {pattern_id.tobytes(): place for place, pattern_id in enumerate(old.ids)}
    codes = reply.similar.codes.copy()
    for i in np.flatnonzero(~reply.whole).tolist():
        place = place_of.get(reply.similar.ids[i].tobytes())
        if place is None:
            raise WrongDigest(f"global.similar[{i}] has no embedding and is not in the list of {len(old)} patterns")
        codes[i] = old.codes[place]
    return replace(reply.similar, codes=codes)


def _joined(old: PatternBatch, came: PatternBatch) -> PatternBatch:
    return PatternBatch(
        ids=np.concatenate([old.ids, came.ids]),
        codes=np.concatenate([old.codes, came.codes]),
        rates=np.concatenate([old.rates, came.rates]),
        counts=np.concatenate([old.counts, came.counts]),
        created_at=np.concatenate([old.created_at, came.created_at]),
        updated_at=np.concatenate([old.updated_at, came.updated_at]),
        contexts=old.contexts + came.contexts,
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

"""The device's side of a sync: a delta to bytes, the bytes of a reply to columns. Called by the client.

A reply is checked as strictly as a request: a TV believes a server no more than a server believes a TV.
"""

from typing import Annotated, Any, Generic

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from constellation import limits
from constellation.errors import InvalidPattern
from constellation.model import (
    DIM,
    VERSION_MAX,
    Accepted,
    Context,
    Delta,
    EmbeddingFormat,
    Ids,
    NextSync,
    PatternBatch,
    Trend,
)
from constellation.rounding import ids_of
from constellation.wire import compact
from constellation.wire.compact import Held
from constellation.wire.ids import read_ids, write_id, write_ids
from constellation.wire.media import Media
from constellation.wire.patterns import (
    Embedding,
    Id,
    JsonEmbedding,
    MsgpackEmbedding,
    WrittenPattern,
    read_patterns,
    write_patterns,
    write_rates,
)
from constellation.wire.reading import Reader, check_range, refusal


class Reply(Struct):
    """A decoded 200. `reset`: `similar` is the whole list; else what is new or changed, and `removed` what to drop.
    `whole` (n,): which of them came with an embedding; of the others rate, count and time changed, and the codes are 0.
    `trending` is None if it is unchanged. `origins` says of each similar pattern: device or prototype. In a `compact`
    one patterns go by handles, here as ids that are no one's (`rounding.ids_of`)."""

    similar: PatternBatch
    whole: npt.NDArray[np.bool_]
    origins: list[str]
    trending: list[Trend] | None
    global_version: int
    reset: bool
    removed: Ids
    digest: str
    accepted: Accepted
    last_sequence: int | None
    next_sync: NextSync
    compact: bool = False


def encode_delta(device_id: bytes, delta: Delta, media: Media, embedding: EmbeddingFormat) -> bytes:
    """The body of `POST /api/v1/sync`; embeddings as int8, or as unit vectors in f16 or f32."""
    updated = delta.updated
    body = {
        "device_id": write_id(device_id, media),
        "delta": {
            "patterns_added": write_patterns(delta.added, media, embedding, WrittenPattern),
            "patterns_updated": list(
                map(
                    _WrittenUpdate,
                    write_ids(updated.ids, media),
                    write_rates(updated.rates, media),
                    updated.samples.tolist(),
                )
            ),
            "patterns_removed": write_ids(delta.removed, media),
            "local_version": delta.local_version,
            "sequence": delta.sequence,
        },
    }
    return msgspec.json.encode(body) if media is Media.JSON else msgspec.msgpack.encode(body)


def decode_reply(body: bytes, media: Media, held: Held | None = None) -> Reply:
    """The reply in any encoding; a compact one takes the codebook that it was made with.

    Raises `Malformed` and `InvalidPattern`.
    """
    reply = _reader.read(body, media)
    shared = reply.global_
    check_range([shared.global_version], 0, VERSION_MAX, "global.global_version", _refuse)
    check_range([reply.next_sync.after_s], 0, NEXT_SYNC_S_MAX, "next_sync.after_s", _refuse)
    check_range([reply.next_sync.within_s], 0, NEXT_SYNC_S_MAX, "next_sync.within_s", _refuse)
    similar, whole, origins = _read_similar(shared.similar, held)
    if shared.reset and not whole.all():
        place = int(np.argmin(whole))
        raise _refuse(f"global.similar[{place}].embedding", "an embedding, as this is the whole list", "none")
    return Reply(
        compact=isinstance(shared.similar, bytes),
        similar=similar,
        whole=whole,
        origins=origins,
        trending=_read_trending(shared.trending),
        global_version=shared.global_version,
        reset=shared.reset,
        removed=_read_removed(shared.removed),
        digest=shared.digest,
        accepted=reply.accepted,
        last_sequence=reply.last_sequence,
        next_sync=reply.next_sync,
    )


def _read_similar(
    similar: bytes | list[Any], held: Held | None
) -> tuple[PatternBatch, npt.NDArray[np.bool_], list[str]]:
    """The patterns, which of them are whole, and their origins."""
    if not isinstance(similar, bytes):
        whole = np.array([pattern.embedding is not UNSET for pattern in similar], np.bool_)
        for place in np.flatnonzero(~whole).tolist():
            similar[place].embedding = _ANY_EMBEDDING
        batch = read_patterns(similar, _SIMILAR, _refuse)
        batch.codes[~whole] = 0
        return batch, whole, [pattern.origin for pattern in similar]
    if held is None:
        raise _refuse(_SIMILAR, "a list of patterns, as no codebook is at hand", "a compact block")
    block = compact.read_similar(similar, held, _SIMILAR, _refuse)
    batch = PatternBatch(
        ids=ids_of(block.handles),
        codes=block.codes,
        rates=block.rates,
        counts=block.counts,
        created_at=block.created_at,
        updated_at=block.updated_at,
        contexts=block.contexts,
    )
    return batch, block.whole, ["prototype" if is_one else "device" for is_one in block.prototypes.tolist()]


def _read_trending(trending: bytes | list[Trend] | None) -> list[Trend] | None:
    if not isinstance(trending, bytes):
        return trending
    return compact.read_trends(trending, "global.trending", _refuse)


def _read_removed(removed: bytes | list[Any]) -> Ids:
    if not isinstance(removed, bytes):
        return read_ids(removed, "global.removed[{}]", _refuse)
    if len(removed) > limits.SIMILAR_MAX:
        raise _refuse("global.removed", f"at most {limits.SIMILAR_MAX} handles", str(len(removed)))
    return ids_of(np.frombuffer(removed, np.uint8))


_SIMILAR = "global.similar"
NEXT_SYNC_S_MAX = 86_400
"""A server that sends a TV away for longer than a day is broken."""


class _WrittenUpdate(Struct):
    id: str | bytes
    new_success_rate: float
    additional_samples: int


class _SimilarBody(Struct, Generic[Id, Embedding], kw_only=True):
    """As `PatternBody`, in its order."""

    id: Id
    embedding: Embedding | UnsetType = UNSET
    success_rate: float
    sample_count: int
    context: Context
    created_at: int
    updated_at: int
    origin: str


_ANY_EMBEDDING: Any = bytes([1]) * DIM


class _GlobalBody(Struct, Generic[Id, Embedding]):
    similar: Annotated[list[_SimilarBody[Id, Embedding]], Meta(max_length=limits.SIMILAR_MAX)] | bytes
    trending: Annotated[list[Trend], Meta(max_length=limits.TRENDING_MAX)] | bytes | None
    global_version: int
    reset: bool
    removed: Annotated[list[Id], Meta(max_length=limits.SIMILAR_MAX)] | bytes
    digest: str


class _ReplyBody(Struct, Generic[Id, Embedding]):
    global_: _GlobalBody[Id, Embedding] = msgspec.field(name="global")
    accepted: Accepted
    last_sequence: int | None
    next_sync: NextSync


_refuse = refusal(InvalidPattern)
_reader = Reader(
    json=_ReplyBody[str, JsonEmbedding],
    msgpack=_ReplyBody[Raw, MsgpackEmbedding],
    refuse=_refuse,
)

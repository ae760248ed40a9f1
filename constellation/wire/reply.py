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
    `trending` is None if it is unchanged. `origins` says of each similar pattern: device or prototype."""

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


def decode_reply(body: bytes, media: Media) -> Reply:
    """Raises `Malformed` and `InvalidPattern`."""
    reply = _reader.read(body, media)
    shared = reply.global_
    check_range([shared.global_version], 0, VERSION_MAX, "global.global_version", _refuse)
    check_range([reply.next_sync.after_s], 0, NEXT_SYNC_S_MAX, "next_sync.after_s", _refuse)
    check_range([reply.next_sync.within_s], 0, NEXT_SYNC_S_MAX, "next_sync.within_s", _refuse)
    whole = np.array([pattern.embedding is not UNSET for pattern in shared.similar], np.bool_)
    for place in np.flatnonzero(~whole).tolist():
        if shared.reset:
            raise _refuse(f"global.similar[{place}].embedding", "an embedding, as this is the whole list", "none")
        shared.similar[place].embedding = _ANY_EMBEDDING
    similar = read_patterns(shared.similar, "global.similar", _refuse)
    similar.codes[~whole] = 0
    return Reply(
        similar=similar,
        whole=whole,
        origins=[pattern.origin for pattern in shared.similar],
        trending=shared.trending,
        global_version=shared.global_version,
        reset=shared.reset,
        removed=read_ids(shared.removed, "global.removed[{}]", _refuse),
        digest=shared.digest,
        accepted=reply.accepted,
        last_sequence=reply.last_sequence,
        next_sync=reply.next_sync,
    )


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
    similar: Annotated[list[_SimilarBody[Id, Embedding]], Meta(max_length=limits.SIMILAR_MAX)]
    trending: Annotated[list[Trend], Meta(max_length=limits.TRENDING_MAX)] | None
    global_version: int
    reset: bool
    removed: Annotated[list[Id], Meta(max_length=limits.SIMILAR_MAX)]
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

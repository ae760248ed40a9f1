"""The device's side of a sync: a delta to bytes, the bytes of a reply to columns. Called by the client.

A reply is checked as strictly as a request: a TV believes a server no more than a server believes a TV.
"""

from typing import Annotated, Generic

import msgspec
from msgspec import Meta, Raw, Struct

from constellation import limits
from constellation.errors import InvalidPattern
from constellation.model import (
    VERSION_MAX,
    Accepted,
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
    PatternBody,
    WrittenPattern,
    read_patterns,
    write_patterns,
    write_rates,
)
from constellation.wire.reading import Reader, check_range, refusal


class Reply(Struct):
    """A decoded 200. `reset`: `similar` is the whole list; else what is new or changed, and `removed` what to drop.
    `trending` is None if it is unchanged. `origins` says of each similar pattern: device or prototype."""

    similar: PatternBatch
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
    return Reply(
        similar=read_patterns(shared.similar, "global.similar", _refuse),
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


class _SimilarBody(PatternBody[Id, Embedding], Generic[Id, Embedding]):
    origin: str


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

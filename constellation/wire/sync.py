"""The body of a sync and its reply, as the shard sees them: bytes to `SyncRequest`, `Answer` to bytes.

A body is valid as a whole or refused as a whole. Field names and limits are those of the REST contract
(docs/architecture.md); the device's side of the same bytes is `wire.reply`. A body that was protobuf comes to
`read_sync` as the same Structs, so that there is one set of rules.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeAlias

import msgspec
import numpy as np
import xxhash
from msgspec import UNSET, Meta, Raw, Struct
from msgspec.structs import astuple, replace

from constellation import limits
from constellation.errors import InvalidPattern, Problem, TooManyPatterns
from constellation.model import (
    VERSION_MAX,
    Accepted,
    Answer,
    Applied,
    Delta,
    EmbeddingFormat,
    Ids,
    NextSync,
    PatternBatch,
    Quantised,
    RateUpdates,
    ReplyFormat,
    SyncRequest,
    Trend,
)
from constellation.residuals import TABLES
from constellation.wire import compact
from constellation.wire.ids import NO_IDS, read_id, read_ids, write_ids
from constellation.wire.media import Media
from constellation.wire.patterns import (
    FIELDS_LEN,
    Embedding,
    Id,
    JsonEmbedding,
    MsgpackEmbedding,
    PatternBody,
    WrittenPattern,
    read_patterns,
    read_rates,
    write_patterns,
)
from constellation.wire.reading import Reader, check_range, refusal


class UpdateBody(Struct, Generic[Id]):
    """One change of a rate as it is received."""

    id: Id
    new_success_rate: float
    additional_samples: int


class DeltaBody(Struct, Generic[Id, Embedding]):
    """A delta as it is received."""

    patterns_added: Annotated[list[PatternBody[Id, Embedding]], Meta(max_length=limits.ADDED_PER_DELTA_MAX)]
    patterns_updated: Annotated[list[UpdateBody[Id]], Meta(max_length=limits.CHANGED_PER_DELTA_MAX)]
    patterns_removed: Annotated[list[Id], Meta(max_length=limits.CHANGED_PER_DELTA_MAX)]
    local_version: int | None = None
    sequence: int | None = None


class SyncBody(Struct, Generic[Id, Embedding]):
    """A sync as it is received."""

    device_id: Id
    delta: DeltaBody[Id, Embedding]


AnySync: TypeAlias = SyncBody[str, JsonEmbedding] | SyncBody[Raw, MsgpackEmbedding] | SyncBody[bytes, bytes]
_AnyDelta: TypeAlias = DeltaBody[str, JsonEmbedding] | DeltaBody[Raw, MsgpackEmbedding] | DeltaBody[bytes, bytes]
_AnyUpdate: TypeAlias = UpdateBody[str] | UpdateBody[Raw] | UpdateBody[bytes]
_LISTS = ("delta.patterns_added", "delta.patterns_updated", "delta.patterns_removed")
_invalid_pattern = refusal(InvalidPattern)
_too_many_patterns = refusal(TooManyPatterns)


def refuse(path: str, expected: str, got: str) -> Problem:
    """The problem of one field of a sync. Of a list itself that is the wrong type or too many items."""
    too_many = path in _LISTS and "length" in expected
    return (_too_many_patterns if too_many else _invalid_pattern)(path, expected, got)


_reader = Reader(
    json=SyncBody[str, JsonEmbedding],
    msgpack=SyncBody[Raw, MsgpackEmbedding],
    refuse=refuse,
)


def decode_sync(body: bytes, media: Media) -> SyncRequest:
    """The request that a decompressed body holds.

    Raises `Malformed`, `TooManyPatterns` and `InvalidPattern`. An id may come more than once: all is applied in order.
    """
    return read_sync(_reader.read(body, media))


def read_sync(sync: AnySync) -> SyncRequest:
    """The request that a body of the right types holds. Raises `TooManyPatterns` and `InvalidPattern`."""
    return SyncRequest(device_id=read_id(sync.device_id, "device_id", refuse), delta=_read_delta(sync.delta))


def encode_sync(answer: Answer, applied: Applied, next_sync: NextSync, media: Media, embedding: ReplyFormat) -> bytes:
    """The body of a 200; compact if the answer is quantised, which one without the current codebook never is.

    A pattern of which only rate, count and time changed goes without its embedding.
    """
    similar: _Similar
    trending: _Trending
    removed: _Removed
    if answer.quantised is not None:
        similar, trending, removed = write_compact(answer, answer.quantised)
    else:
        similar = _write_similar(answer, media, "i8" if embedding == "compact" else embedding)
        trending, removed = answer.trending, write_ids(answer.removed, media)
    reply = _ReplyBody(
        global_=_GlobalBody(trending, answer.global_version, answer.reset, removed, answer.digest, similar),
        accepted=applied.accepted,
        last_sequence=applied.last_sequence,
        next_sync=next_sync,
    )
    return _encode_json(reply) if media is Media.JSON else _encode_msgpack(reply)


def _write_similar(answer: Answer, media: Media, form: EmbeddingFormat) -> list[WrittenPattern]:
    if not len(answer.similar):  # most answers tell no pattern
        return []
    similar = list[WrittenPattern](write_patterns(answer.similar, media, form, _SimilarPattern))
    for place, backing in answer.prototypes.items():
        similar[place] = _SimilarPrototype(*astuple(similar[place])[:FIELDS_LEN], **backing._asdict())
    for place in np.flatnonzero(~answer.whole).tolist():
        similar[place].embedding = UNSET
    return similar


def write_compact(answer: Answer, quantised: Quantised) -> tuple[bytes, bytes | None, bytes]:
    """The three blocks of a compact reply: patterns, trends if they are news, what to drop."""
    similar = compact.write_similar(answer.similar, answer.handles, answer.whole, list(answer.prototypes), quantised)
    trending = None if answer.trending is None else compact.write_trends(answer.trending)
    return similar, trending, answer.gone.tobytes()


def noise_bytes(answer: Answer, media: Media) -> int:
    """How many bytes at the end of `encode_sync` look random."""
    return 0 if answer.quantised is None or media is Media.JSON else TABLES * int(np.count_nonzero(answer.whole))


class _SimilarPattern(WrittenPattern):
    origin: str = "device"


class _SimilarPrototype(WrittenPattern):
    quality: float
    source_count: int
    device_count: int
    origin: str = "prototype"


_Similar: TypeAlias = list[WrittenPattern] | bytes
_Trending: TypeAlias = list[Trend] | bytes | None
_Removed: TypeAlias = list[str] | list[bytes] | bytes


class _GlobalBody(Struct):
    """In a compact reply three fields are blocks of bytes (docs/compact.md), which JSON has as base64."""

    trending: _Trending
    global_version: int
    reset: bool
    removed: _Removed
    digest: str
    similar: _Similar


class _ReplyBody(Struct):
    """What does not compress, the residuals of a compact reply, is its end (`noise_bytes`)."""

    accepted: Accepted
    last_sequence: int | None
    next_sync: NextSync
    global_: _GlobalBody = msgspec.field(name="global")


_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode


def _read_delta(body: _AnyDelta) -> Delta:
    changed_len = len(body.patterns_updated) + len(body.patterns_removed)
    if changed_len > limits.CHANGED_PER_DELTA_MAX:
        at_most = f"at most {limits.CHANGED_PER_DELTA_MAX} together with patterns_updated"
        raise _too_many_patterns("delta.patterns_removed", at_most, str(changed_len))
    if body.local_version is not None:
        check_range([body.local_version], 0, VERSION_MAX, "delta.local_version", refuse)
    if body.sequence is not None:
        check_range([body.sequence], 1, VERSION_MAX, "delta.sequence", refuse)
    added = read_patterns(body.patterns_added, "delta.patterns_added", refuse)
    updated = _read_updates(body.patterns_updated)
    removed = read_ids(body.patterns_removed, "delta.patterns_removed[{}]", refuse)
    # Nearly all deltas are empty.
    fingerprint = _fingerprint(added, updated, removed) if changed_len or len(added) else _OF_NOTHING
    return Delta(added, updated, removed, body.local_version, body.sequence, fingerprint)


def _read_updates(bodies: Sequence[_AnyUpdate]) -> RateUpdates:
    if not bodies:
        return replace(_NO_UPDATES)
    at = "delta.patterns_updated[{}]."
    ids, rates, samples = zip(*map(astuple, bodies), strict=True)
    check_range(samples, 1, limits.SAMPLE_COUNT_MAX, at + "additional_samples", refuse)
    return RateUpdates(
        ids=read_ids(ids, at + "id", refuse),
        rates=read_rates(rates, at + "new_success_rate", refuse),
        samples=np.array(samples, np.uint32),
    )


_NO_UPDATES = RateUpdates(ids=NO_IDS, rates=np.empty(0, np.float32), samples=np.empty(0, np.uint32))


def _fingerprint(added: PatternBatch, updated: RateUpdates, removed: Ids) -> int:
    """xxh64 of what a delta does, whatever media it came in; `local_version` is no part of it, as a resent delta may
    have another one. Kept beside a device's sequence: it must not change between releases."""
    lens = _encode_msgpack((len(added), len(updated), len(removed), added.contexts))
    columns: list[Any] = [  # buffers, which have no type in Python 3.11
        lens,
        *(added.ids, added.codes, added.rates, added.counts, added.created_at, added.updated_at),
        *(updated.ids, updated.rates, updated.samples, removed),
    ]
    return xxhash.xxh64_intdigest(b"".join(columns))


_OF_NOTHING = _fingerprint(read_patterns([], "", refuse), _NO_UPDATES, NO_IDS)

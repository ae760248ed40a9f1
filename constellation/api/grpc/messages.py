"""Protobuf of `sync.proto` between its bytes and what the shard knows: bytes to `SyncRequest`, `Answer` to bytes.

What protobuf itself cannot refuse is refused by the rules of `wire` and with the paths that REST has: here an absent
field and a list that is too long, by `wire.sync.read_sync` everything else.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message
from msgspec.structs import asdict

from constellation import limits
from constellation.api.grpc import sync_pb2 as pb
from constellation.errors import InvalidParameter, Malformed
from constellation.model import (
    VERSION_MAX,
    Answer,
    Applied,
    ContentItem,
    Context,
    EmbeddingFormat,
    NextSync,
    ReplyFormat,
    SyncOptions,
    SyncRequest,
)
from constellation.wire.embeddings import write_embeddings
from constellation.wire.ids import write_ids
from constellation.wire.media import Media
from constellation.wire.patterns import PatternBody
from constellation.wire.reading import check_range, refusal
from constellation.wire.sync import DeltaBody, SyncBody, UpdateBody, read_sync, refuse, write_compact


class Asked(NamedTuple):
    """One decoded message: what goes to the shard, how the answer is to be, and which titles are to come with it."""

    request: SyncRequest
    options: SyncOptions
    content_ids: Sequence[str] = ()


def decode_push(message: bytes) -> Asked:
    """Raises `Malformed`, `InvalidParameter`, `TooManyPatterns` and `InvalidPattern`."""
    push = _parse(pb.PushRequest, message)
    options = _read_options(push.options)
    _check_present(push, "", "delta")
    return Asked(read_sync(SyncBody(push.device_id, _delta_body(push.delta))), options)


def decode_pull(message: bytes) -> Asked:
    """An empty delta that registers nobody. Raises as `decode_push`."""
    pull = _parse(pb.PullRequest, message)
    options = _read_options(pull.options)
    if len(pull.content_ids) > limits.CONTENT_PER_PULL_MAX:
        expected = f"array of length <= {limits.CONTENT_PER_PULL_MAX}"
        raise _invalid_parameter("content_ids", expected, str(len(pull.content_ids)))
    version = pull.local_version if pull.HasField("local_version") else None
    request = read_sync(SyncBody(pull.device_id, DeltaBody[bytes, bytes]([], [], [], version)))
    request.registers = False
    return Asked(request, options, pull.content_ids)


def push_reply(answer: Answer, applied: Applied, next_sync: NextSync, embedding: ReplyFormat) -> pb.PushReply:
    """The answer to a push; compact if the answer is quantised."""
    reply = pb.PushReply(
        accepted=pb.Accepted(**asdict(applied.accepted)),
        last_sequence=applied.last_sequence,
        next_sync=pb.NextSync(**asdict(next_sync)),
    )
    _write_global(getattr(reply, "global"), answer, embedding)  # a word that Python keeps for itself
    return reply


def pull_reply(
    answer: Answer, applied: Applied, next_sync: NextSync, embedding: ReplyFormat, titles: Sequence[ContentItem]
) -> pb.PullReply:
    """The answer to a pull."""
    reply = pb.PullReply(last_sequence=applied.last_sequence, next_sync=pb.NextSync(**asdict(next_sync)))
    _write_global(getattr(reply, "global"), answer, embedding)
    for title in titles:
        written = reply.content.add(
            content_id=title.content_id,
            title=title.title,
            embedding=write_embeddings(title.code[None], Media.MSGPACK, _plain(embedding))[0],
        )
        if title.metadata is not None:
            written.metadata.SetInParent()
            for name, value in title.metadata.items():
                if value is not None:
                    setattr(written.metadata, name, value)
    return reply


Parsed = TypeVar("Parsed", pb.PushRequest, pb.PullRequest)

_invalid_parameter = refusal(InvalidParameter)
_FORMS: dict[int, ReplyFormat] = {
    pb.EMBEDDING_FORMAT_UNSPECIFIED: "i8",
    pb.EMBEDDING_FORMAT_F32: "f32",
    pb.EMBEDDING_FORMAT_F16: "f16",
    pb.EMBEDDING_FORMAT_I8: "i8",
    pb.EMBEDDING_FORMAT_COMPACT: "compact",
}
_LEN_MAX = {
    "patterns_added": limits.ADDED_PER_DELTA_MAX,
    "patterns_updated": limits.CHANGED_PER_DELTA_MAX,
    "patterns_removed": limits.CHANGED_PER_DELTA_MAX,
}


def _parse(kind: type[Parsed], message: bytes) -> Parsed:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise Malformed(f"message: {error}") from None


def _read_options(options: pb.ReplyOptions) -> SyncOptions:
    similar = options.similar if options.HasField("similar") else limits.SIMILAR_MAX
    trending = options.trending if options.HasField("trending") else limits.TRENDING_MAX
    check_range([similar], 0, limits.SIMILAR_MAX, "options.similar", _invalid_parameter)
    check_range([trending], 0, limits.TRENDING_MAX, "options.trending", _invalid_parameter)
    check_range([options.codebook], 0, VERSION_MAX, "options.codebook", _invalid_parameter)
    form = _FORMS.get(options.embedding)
    if form is None:
        raise _invalid_parameter("options.embedding", " | ".join(pb.EmbeddingFormat.keys()), str(options.embedding))
    return SyncOptions(similar, trending, form, options.codebook)


def _delta_body(delta: pb.Delta) -> DeltaBody[bytes, bytes]:
    for name, len_max in _LEN_MAX.items():
        length = len(getattr(delta, name))
        if length > len_max:
            raise refuse(f"delta.{name}", f"array of length <= {len_max}", str(length))
    return DeltaBody(
        [_pattern_body(pattern, place) for place, pattern in enumerate(delta.patterns_added)],
        [_update_body(update, place) for place, update in enumerate(delta.patterns_updated)],
        list(delta.patterns_removed),
        delta.local_version if delta.HasField("local_version") else None,
        delta.sequence if delta.HasField("sequence") else None,
    )


def _pattern_body(pattern: pb.Pattern, place: int) -> PatternBody[bytes, bytes]:
    path = f"delta.patterns_added[{place}]."
    _check_present(pattern, path, "success_rate", "context", "created_at", "updated_at")
    context = pattern.context
    return PatternBody(
        pattern.id,
        pattern.embedding,
        pattern.success_rate,
        pattern.sample_count,
        Context(context.time_of_day, context.day_of_week, context.content_type, tuple(context.genre_hints)),
        pattern.created_at,
        pattern.updated_at,
    )


def _update_body(update: pb.RateUpdate, place: int) -> UpdateBody[bytes]:
    _check_present(update, f"delta.patterns_updated[{place}].", "new_success_rate")
    return UpdateBody(update.id, update.new_success_rate, update.additional_samples)


def _check_present(message: Message, path: str, *names: str) -> None:
    """Of the fields whose zero is a value like any other."""
    for name in names:
        if not message.HasField(name):
            raise refuse(path + name, "a value", "nothing")


def _write_global(into: pb.Global, answer: Answer, embedding: ReplyFormat) -> None:
    into.global_version = answer.global_version
    into.reset = answer.reset
    into.digest = answer.digest
    if answer.quantised is not None:
        similar, trending, removed = write_compact(answer, answer.quantised)
        into.compact.MergeFrom(pb.Compact(similar=similar, trending=trending, removed=removed))
        return
    _write_similar(into, answer, _plain(embedding))
    into.removed.extend(row.tobytes() for row in answer.removed)
    if answer.trending is not None:
        into.trending.SetInParent()
        for trend in answer.trending:
            item = into.trending.items.add()
            item.content_id, item.trending_score, item.region = trend.content_id, trend.trending_score, trend.region


def _write_similar(into: pb.Global, answer: Answer, form: EmbeddingFormat) -> None:
    """In place, field by field: 1.4 us a pattern, where messages that are made first and then put in take 6."""
    similar = answer.similar
    columns = zip(
        write_ids(similar.ids, Media.MSGPACK),
        write_embeddings(similar.codes, Media.MSGPACK, form),
        similar.rates.tolist(),
        similar.counts.tolist(),
        similar.created_at.tolist(),
        similar.updated_at.tolist(),
        similar.contexts,
        answer.whole.tolist(),
        strict=True,
    )
    for place, (pattern_id, embedding, rate, count, created_at, updated_at, context, whole) in enumerate(columns):
        written = into.similar.add()
        written.id = pattern_id
        if whole:
            written.embedding = embedding
        written.success_rate = rate
        written.sample_count = count
        written.context.MergeFromString(_context_bytes(context))
        written.created_at = created_at
        written.updated_at = updated_at
        written.origin = pb.ORIGIN_DEVICE
        backing = answer.prototypes.get(place)
        if backing is not None:
            written.origin = pb.ORIGIN_PROTOTYPE
            written.quality, written.source_count, written.device_count = backing


@lru_cache(maxsize=4_096)
def _context_bytes(context: Context) -> bytes:
    """Remembered: households of one taste have the same few."""
    words = pb.Context(
        time_of_day=context.time_of_day,
        day_of_week=context.day_of_week,
        content_type=context.content_type,
        genre_hints=context.genre_hints,
    )
    return words.SerializeToString()


def _plain(embedding: ReplyFormat) -> EmbeddingFormat:
    """Of an answer that is not compact, or a title."""
    return "i8" if embedding == "compact" else embedding

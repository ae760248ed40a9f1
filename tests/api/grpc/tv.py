"""A TV that speaks gRPC: bodies of `tests.api.bodies` as protobuf, replies as the plain data that msgpack gives."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

import grpc
import numpy as np

from constellation.api.grpc import sync_pb2 as pb
from constellation.api.grpc.sync import SERVICE

Json = dict[str, Any]
FORMS = {
    "f32": pb.EMBEDDING_FORMAT_F32,
    "f16": pb.EMBEDDING_FORMAT_F16,
    "i8": pb.EMBEDDING_FORMAT_I8,
    "compact": pb.EMBEDDING_FORMAT_COMPACT,
}


class Refused(NamedTuple):
    """How a call ended that was refused."""

    status: grpc.StatusCode
    detail: str
    trailers: dict[str, str]

    @property
    def code(self) -> str | None:
        return self.trailers.get("constellation-code")

    @property
    def path(self) -> str | None:
        return self.trailers.get("constellation-path")


class Tv:
    """The calls of the service on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        path = f"/{SERVICE}/"
        self.push = channel.unary_unary(
            path + "PushPatterns", pb.PushRequest.SerializeToString, pb.PushReply.FromString
        )
        self.pull = channel.unary_unary(
            path + "PullPatterns", pb.PullRequest.SerializeToString, pb.PullReply.FromString
        )
        self.stream = channel.stream_stream(
            path + "StreamSync", pb.PushRequest.SerializeToString, pb.StreamReply.FromString
        )
        self.send: Any = channel.unary_unary(path + "PushPatterns")
        """Bytes, whatever they are."""

    def sync(self, body: Json, **options: Any) -> Json | Refused:
        """What REST would answer, without `next_sync`, or how it was refused."""
        try:
            return plain(self.push(request(body, **options), timeout=20))
        except grpc.RpcError as error:
            return refused(error)


def refused(error: Any) -> Refused:
    return Refused(error.code(), error.details(), dict(tuple(item) for item in error.trailing_metadata()))


def request(body: Json, **options: Any) -> pb.PushRequest:
    """The protobuf of a body of REST; a field that the body lacks is absent."""
    delta = body["delta"]
    made = pb.Delta(
        patterns_added=[_pattern(pattern) for pattern in delta["patterns_added"]],
        patterns_updated=[
            pb.RateUpdate(**{**update, "id": _uuid(update["id"])}) for update in delta["patterns_updated"]
        ],
        patterns_removed=[_uuid(removed) for removed in delta["patterns_removed"]],
        local_version=delta.get("local_version"),
        sequence=delta.get("sequence"),
    )
    return pb.PushRequest(device_id=_uuid(body["device_id"]), delta=made, options=reply_options(**options))


def reply_options(
    embedding: str | None = None, similar: int | None = None, trending: int | None = None, codebook: int | None = None
) -> pb.ReplyOptions:
    form = None if embedding is None else FORMS[embedding]
    return pb.ReplyOptions(embedding=form, similar=similar, trending=trending, codebook=codebook)


def plain(reply: pb.PushReply) -> Json:
    """As the msgpack of the same answer decodes."""
    return {
        "global": plain_global(reply),
        "accepted": {name: getattr(reply.accepted, name) for name in pb.Accepted.DESCRIPTOR.fields_by_name},
        "last_sequence": reply.last_sequence if reply.HasField("last_sequence") else None,
        "next_sync": {"after_s": reply.next_sync.after_s, "within_s": reply.next_sync.within_s},
    }


def plain_global(reply: pb.PushReply | pb.PullReply) -> Json:
    shared: pb.Global = getattr(reply, "global")
    told = {"global_version": shared.global_version, "reset": shared.reset, "digest": shared.digest}
    if shared.HasField("compact"):
        block = shared.compact
        trending: Any = block.trending if block.HasField("trending") else None
        return told | {"similar": block.similar, "trending": trending, "removed": block.removed}
    return told | {
        "similar": [_plain_pattern(pattern) for pattern in shared.similar],
        "trending": [_fields(trend) for trend in shared.trending.items] if shared.HasField("trending") else None,
        "removed": list(shared.removed),
    }


def messages(*bodies: Json) -> Iterator[pb.PushRequest]:
    yield from map(request, bodies)


def outcomes(replies: Iterable[pb.StreamReply]) -> list[str]:
    """Of each message `ok`, or the code of its problem."""
    return [reply.problem.code if reply.HasField("problem") else "ok" for reply in replies]


def _pattern(fields: Json) -> pb.Pattern:
    given = dict(fields)
    for name, read in (("id", _uuid), ("embedding", _embedding)):
        if name in given:
            given[name] = read(given[name])
    if "context" in given:
        given["context"] = pb.Context(**given["context"])
    return pb.Pattern(**given)


def _plain_pattern(pattern: pb.SimilarPattern) -> Json:
    fields = _fields(pattern)
    fields["context"] = _fields(pattern.context)
    fields["origin"] = {pb.ORIGIN_DEVICE: "device", pb.ORIGIN_PROTOTYPE: "prototype"}[pattern.origin]
    if not pattern.embedding:
        del fields["embedding"]
    if fields["origin"] == "device":
        for name in ("quality", "source_count", "device_count"):
            assert not pattern.HasField(name)
            del fields[name]
    return fields


def _fields(message: Any) -> Json:
    values = {name: getattr(message, name) for name in message.DESCRIPTOR.fields_by_name}
    return {name: list(value) if name == "genre_hints" else value for name, value in values.items()}


def _uuid(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else UUID(value).bytes


def _embedding(value: list[float] | bytes) -> bytes:
    return value if isinstance(value, bytes) else np.array(value, "<f4").tobytes()

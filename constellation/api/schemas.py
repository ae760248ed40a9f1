"""The bodies of sync and content as types, for the OpenAPI document alone.

`wire` reads and writes these bodies column by column and checks them itself; a test decodes what these types allow
and validates real replies against them, so that neither can drift.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from constellation import limits
from constellation.model import DIM, VERSION_MAX, Accepted, NextSync, Trend
from constellation.wire.content import DURATION_MIN_MAX, YEAR_MAX, YEAR_MIN


def _base64_len(len_bytes: int) -> int:
    return len_bytes * 4 // 3


def _pattern(whole: str) -> dict[str, str]:
    # Not Meta(pattern=...): with msgspec 0.22 every fifth process that built the document crashed at its exit.
    return {"pattern": f"^({whole})$"}


def _utf8(len_bytes_max: int, len_min: int = 0) -> Meta:
    return Meta(
        min_length=len_min, max_length=len_bytes_max, description=f"at most {len_bytes_max} bytes of UTF-8, no NUL"
    )


Uuid = Annotated[str, Meta(description="a UUID; in msgpack also bin of 16 bytes", extra_json_schema={"format": "uuid"})]
Rate = Annotated[float, Meta(ge=0, le=1)]
Samples = Annotated[int, Meta(ge=1, le=limits.SAMPLE_COUNT_MAX)]
UnixSeconds = Annotated[int, Meta(ge=0, le=limits.UNIX_SECONDS_MAX)]
Floats = Annotated[list[float], Meta(min_length=DIM, max_length=DIM, description="finite, not all of them zero")]
Base64 = Annotated[
    str,
    Meta(
        description=f"base64 of {4 * DIM} (f32), {2 * DIM} (f16) or {DIM} (int8) bytes, little-endian; in msgpack bin",
        extra_json_schema=_pattern("|".join(f"[A-Za-z0-9+/]{{{_base64_len(size * DIM)}}}" for size in (1, 2, 4))),
    ),
]
Block = Annotated[
    str, Meta(description="of a compact reply (docs/compact.md): base64 of a block of bytes; in msgpack bin")
]
Embedding = Annotated[Floats | Base64, Meta(description="only the direction counts")]
Word = Annotated[str, _utf8(limits.CONTEXT_STRING_BYTES_MAX)]


class Context(msgspec.Struct):
    """When and what was watched."""

    time_of_day: Word
    day_of_week: Word
    content_type: Word
    genre_hints: Annotated[list[Word], Meta(max_length=limits.GENRE_HINTS_MAX)]


class _Facts(msgspec.Struct, kw_only=True):
    id: Uuid
    success_rate: Rate
    sample_count: Samples
    context: Context
    created_at: UnixSeconds
    updated_at: UnixSeconds


class Pattern(_Facts, kw_only=True):
    """A viewing pattern."""

    embedding: Embedding


class SimilarPattern(_Facts, kw_only=True):
    """A pattern of another household, or a prototype of many. Without an embedding it has the one it had."""

    embedding: Embedding | msgspec.UnsetType = msgspec.UNSET
    origin: Literal["device", "prototype"]
    quality: Annotated[float, Meta(ge=0, le=1, description="of a prototype: how far its patterns agree")] | None = None
    source_count: Annotated[int, Meta(ge=1, description="of a prototype: distinct shards")] | None = None
    device_count: Annotated[int, Meta(ge=1, description="of a prototype: distinct devices")] | None = None


class PatternUpdate(msgspec.Struct):
    """More samples of a pattern that the shard has."""

    id: Uuid
    new_success_rate: Rate
    additional_samples: Samples


class DeltaBody(msgspec.Struct):
    """What a device learned. Updated and removed together: at most 1,000."""

    patterns_added: Annotated[list[Pattern], Meta(max_length=limits.ADDED_PER_DELTA_MAX)]
    patterns_updated: Annotated[list[PatternUpdate], Meta(max_length=limits.CHANGED_PER_DELTA_MAX)]
    patterns_removed: Annotated[list[Uuid], Meta(max_length=limits.CHANGED_PER_DELTA_MAX)]
    local_version: Annotated[int, Meta(ge=0, le=VERSION_MAX)] | None = None
    sequence: Annotated[int, Meta(ge=1, le=VERSION_MAX)] | None = None


class SyncBody(msgspec.Struct):
    """The body of a sync; unknown fields are ignored."""

    device_id: Uuid
    delta: DeltaBody


class GlobalBody(msgspec.Struct):
    """What the others know.

    `reset`: `similar` is the whole list. Else what changed in the one that the device has of `local_version`: first
    everything goes whose id is in `removed` or comes in `similar`, then `similar` is put in; what comes without an
    embedding keeps the one it had. `trending` null: unchanged. `digest` proves the list.
    """

    similar: list[SimilarPattern] | Block
    trending: list[Trend] | Block | None
    global_version: Annotated[int, Meta(ge=0, le=VERSION_MAX, description="send it back as `local_version`")]
    reset: bool
    removed: list[Uuid] | Block
    digest: Annotated[str, Meta(extra_json_schema=_pattern("[0-9a-f]{16}"))]


class SyncReply(msgspec.Struct):
    """The reply to a sync."""

    global_: GlobalBody = msgspec.field(name="global")
    accepted: Accepted
    last_sequence: int | None
    next_sync: NextSync


class Metadata(msgspec.Struct):
    """What is known of a title."""

    genre: Annotated[str, _utf8(limits.GENRE_BYTES_MAX)] | None = None
    year: Annotated[int, Meta(ge=YEAR_MIN, le=YEAR_MAX)] | None = None
    duration_min: Annotated[int, Meta(ge=0, le=DURATION_MIN_MAX)] | None = None


class ContentBody(msgspec.Struct):
    """A title that trends may name. Its id does not begin with `genre:`, as those of genres do."""

    content_id: Annotated[str, _utf8(limits.CONTENT_ID_BYTES_MAX, 1)]
    title: Annotated[str, _utf8(limits.TITLE_BYTES_MAX, 1)]
    embedding: Embedding
    metadata: Metadata | None = None


class ProblemBody(msgspec.Struct):
    """The body of every error (RFC 9457): programs go by `code`, people read `detail`. `instance` is the request id,
    `path` the part of the request at fault."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str
    instance: str
    path: str | None = None
    retry_after_s: int | None = None
    last_sequence: int | None = None

"""Query, path and header parameters, checked: a wrong one is refused with its name, what came and what is allowed."""

from functools import lru_cache
from typing import Any, get_args
from urllib.parse import parse_qsl

import msgspec

from constellation import limits
from constellation.api.operations import Parameter
from constellation.errors import InvalidParameter
from constellation.model import VERSION_MAX, EmbeddingFormat, ReplyFormat, SyncOptions
from constellation.wire.dictionary import FIRST_ID, LAST_ID
from constellation.wire.ids import parse_uuid
from constellation.wire.media import Media

DEFAULT_EMBEDDING: dict[Media, EmbeddingFormat] = {Media.JSON: "f32", Media.MSGPACK: "i8"}
_EMBEDDINGS: dict[str, ReplyFormat] = {name: name for name in (*get_args(EmbeddingFormat), "compact")}


def _integer(minimum: int, maximum: int, default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": minimum, "maximum": maximum, "default": default}


SIMILAR = Parameter("similar", "similar patterns at most", _integer(0, limits.SIMILAR_MAX, limits.SIMILAR_MAX))
TRENDING = Parameter("trending", "trends at most", _integer(0, limits.TRENDING_MAX, limits.TRENDING_MAX))
EMBEDDING = Parameter(
    "embedding",
    "how embeddings are encoded in the reply; f32 in JSON and i8 in msgpack unless said; "
    "compact: patterns and trends as packed blocks (docs/compact.md), with `codebook`",
    {"type": "string", "enum": list(_EMBEDDINGS)},
)
CODEBOOK = Parameter(
    "codebook",
    "version of the codebook that the device holds; `compact` without the current one is answered in i8",
    {"type": "integer", "minimum": 0, "maximum": VERSION_MAX},
)
LIMIT = Parameter("limit", "trends at most", _integer(0, limits.TRENDING_MAX, limits.TRENDING_MAX))
SAMPLE_LIMIT = Parameter("limit", "patterns at most", _integer(1, limits.SAMPLE_MAX, limits.SAMPLE_MAX))
REGION = Parameter("region", "region to read; this shard's own unless said, empty for any other", {"type": "string"})
DEVICE_ID = Parameter("device_id", "the device", {"type": "string", "format": "uuid"}, where="path", required=True)
DEVICE_HEADER = Parameter(
    "X-Device-Id",
    "so that a proxy can route on it; equal to the body's",
    {"type": "string", "format": "uuid"},
    "header",
)
DEADLINE = Parameter(
    "X-Request-Deadline-Ms",
    "milliseconds from its arrival after which a request is not started any more, as nobody waits for the answer",
    {"type": "integer", "minimum": limits.DEADLINE_MS_MIN, "maximum": limits.DEADLINE_MS_MAX},
    "header",
)
CODINGS = (
    Parameter(
        "Content-Encoding",
        "of the body: identity, gzip or zstd, which may use a dictionary that `/api/v1/info` lists",
        {"type": "string"},
        "header",
    ),
    Parameter(
        "Accept-Encoding",
        "the reply is compressed when this lists zstd; with the dictionary of the request, if that used one",
        {"type": "string"},
        "header",
    ),
)
IF_NONE_MATCH = Parameter("If-None-Match", "the `ETag` of what is there already", {"type": "string"}, "header")
CODEBOOK_VERSION = Parameter(
    "version",
    "of the codebook",
    {"type": "integer", "minimum": 1, "maximum": VERSION_MAX},
    where="path",
    required=True,
)
DICTIONARY_ID = Parameter(
    "id",
    "of the dictionary, as its frames name it",
    {"type": "integer", "minimum": FIRST_ID, "maximum": LAST_ID},
    where="path",
    required=True,
)
CONTENT_ID = Parameter("content_id", "the item", {"type": "string", "minLength": 1}, where="path", required=True)


class TrendQuery(msgspec.Struct, frozen=True):
    """The parameters of `GET /trending`."""

    region: str | None
    limit: int


@lru_cache(maxsize=1024)
def sync_options(query: bytes, reply_media: Media) -> SyncOptions:
    """The parameters of a sync. Remembered: a fleet sends the same few queries all day. Raises `InvalidParameter`."""
    given = _parse(query)
    embedding = given.get(EMBEDDING.name)
    if embedding is not None and embedding not in _EMBEDDINGS:
        raise _invalid(EMBEDDING, embedding, " | ".join(_EMBEDDINGS))
    return SyncOptions(
        similar=_whole(given, SIMILAR, limits.SIMILAR_MAX),
        trending=_whole(given, TRENDING, limits.TRENDING_MAX),
        embedding=DEFAULT_EMBEDDING[reply_media] if embedding is None else _EMBEDDINGS[embedding],
        codebook=_whole(given, CODEBOOK, 0),
    )


def trend_query(query: bytes) -> TrendQuery:
    """Raises `InvalidParameter`."""
    given = _parse(query)
    return TrendQuery(given.get(REGION.name), _whole(given, LIMIT, limits.TRENDING_MAX))


def sample_limit(query: bytes) -> int:
    """Raises `InvalidParameter`."""
    return _whole(_parse(query), SAMPLE_LIMIT, limits.SAMPLE_MAX)


def read_uuid(text: str, where: str) -> bytes:
    """A UUID in its canonical form, as 16 bytes. Raises `InvalidParameter`."""
    parsed = parse_uuid(text)
    if parsed is None:
        raise InvalidParameter(f"{where}: got {text[:64]!r}, expected a UUID", path=where)
    return parsed


def _parse(query: bytes) -> dict[str, str]:
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))


def _whole(given: dict[str, str], parameter: Parameter, default: int) -> int:
    text = given.get(parameter.name)
    if text is None:
        return default
    low, high = parameter.schema["minimum"], parameter.schema["maximum"]
    # isdigit alone would let in digits of other scripts; the length bounds the conversion.
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high):
        raise _invalid(parameter, text, f"a whole number from {low} to {high}")
    return int(text)


def _invalid(parameter: Parameter, got: str, allowed: str) -> InvalidParameter:
    name = f"query.{parameter.name}"
    return InvalidParameter(f"{name}: got {got[:64]!r}, expected {allowed}", path=name)

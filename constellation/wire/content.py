"""Content items, the titles that trends may name: `POST /api/v1/content` and its `GET`.

Embeddings come and go in the same forms as those of patterns. Called by `api`.
"""

from typing import Any, Generic, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from constellation import limits
from constellation.errors import InvalidContent
from constellation.model import GENRE_PREFIX, ContentItem, EmbeddingFormat
from constellation.wire.embeddings import read_embeddings, write_embeddings
from constellation.wire.media import Media
from constellation.wire.patterns import Embedding, JsonEmbedding, MsgpackEmbedding
from constellation.wire.reading import Reader, check_range, check_text, describe, refusal

YEAR_MIN, YEAR_MAX = 1800, 3000
DURATION_MIN_MAX = 100_000
"""Longest content in minutes."""


class _Metadata(Struct, omit_defaults=True):
    genre: str | UnsetType | None = UNSET
    year: int | UnsetType | None = UNSET
    duration_min: int | UnsetType | None = UNSET


class _ContentBody(Struct, Generic[Embedding]):
    content_id: str
    title: str
    embedding: Embedding
    metadata: _Metadata | None = None


_AnyContent: TypeAlias = _ContentBody[JsonEmbedding] | _ContentBody[MsgpackEmbedding]
_refuse = refusal(InvalidContent)
_reader = Reader(json=_ContentBody[JsonEmbedding], msgpack=_ContentBody[MsgpackEmbedding], refuse=_refuse)


def decode_content(body: bytes, media: Media) -> ContentItem:
    """The item that a decompressed body holds. Raises `Malformed` and `InvalidContent`.

    Metadata keep what was posted of genre, year and duration_min, null among it; other fields are ignored.
    """
    content: _AnyContent = _reader.read(body, media)
    check_text(content.content_id, 1, limits.CONTENT_ID_BYTES_MAX, "content_id", _refuse)
    if content.content_id.startswith(GENRE_PREFIX):
        raise _refuse("content_id", f"an id that does not begin with {GENRE_PREFIX!r}", describe(content.content_id))
    check_text(content.title, 1, limits.TITLE_BYTES_MAX, "title", _refuse)
    metadata = content.metadata
    if metadata is not None:
        _check_metadata(metadata)
    return ContentItem(
        content_id=content.content_id,
        title=content.title,
        code=read_embeddings([content.embedding], "embedding", _refuse)[0],
        metadata=None if metadata is None else msgspec.to_builtins(metadata),
    )


def encode_content(item: ContentItem, media: Media, embedding: EmbeddingFormat) -> bytes:
    """The body of a 200; without `metadata` if none were posted."""
    fields: dict[str, Any] = {
        "content_id": item.content_id,
        "title": item.title,
        "embedding": write_embeddings(item.code[None], media, embedding)[0],
    }
    if item.metadata is not None:
        fields["metadata"] = item.metadata
    return msgspec.json.encode(fields) if media is Media.JSON else msgspec.msgpack.encode(fields)


def _check_metadata(metadata: _Metadata) -> None:
    if isinstance(metadata.genre, str):
        check_text(metadata.genre, 0, limits.GENRE_BYTES_MAX, "metadata.genre", _refuse)
    if isinstance(metadata.year, int):
        check_range([metadata.year], YEAR_MIN, YEAR_MAX, "metadata.year", _refuse)
    if isinstance(metadata.duration_min, int):
        check_range([metadata.duration_min], 0, DURATION_MIN_MAX, "metadata.duration_min", _refuse)

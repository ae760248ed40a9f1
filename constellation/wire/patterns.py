"""Patterns between their form on the wire and the columns of `model.PatternBatch`: one way for deltas and replies.

The Structs say names and types, which msgspec checks; lengths and ranges are checked here, so that an error can say
what came. Ids and embeddings differ by media, hence the type parameters.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Raw, Struct, UnsetType
from msgspec.structs import astuple, replace

from constellation import limits
from constellation.model import DIM, Context, EmbeddingFormat, PatternBatch
from constellation.wire.embeddings import read_embeddings, write_embeddings
from constellation.wire.ids import NO_IDS, read_ids, write_ids
from constellation.wire.media import Media
from constellation.wire.reading import Refusal, check_range, check_text

# A length that msgspec checks bounds the memory that a hostile header can ask for.
Floats: TypeAlias = Annotated[list[float], Meta(max_length=DIM)]
JsonEmbedding: TypeAlias = str | Floats
MsgpackEmbedding: TypeAlias = bytes | Floats

# Protobuf has but one form of either.
Id = TypeVar("Id", str, Raw, bytes)
Embedding = TypeVar("Embedding", JsonEmbedding, MsgpackEmbedding, bytes)

FIELDS_LEN = 7
"""Of a pattern; a reply's has its origin behind them."""
# Shared by all empty lists: the arrays have nothing in them that could change.
_NO_PATTERNS = PatternBatch(
    ids=NO_IDS,
    codes=np.empty((0, DIM), np.int8),
    rates=np.empty(0, np.float32),
    counts=np.empty(0, np.uint32),
    created_at=np.empty(0, np.int64),
    updated_at=np.empty(0, np.int64),
    contexts=[],
)


class PatternBody(Struct, Generic[Id, Embedding]):
    """One pattern as it is received."""

    id: Id
    embedding: Embedding
    success_rate: float
    sample_count: int
    context: Context
    created_at: int
    updated_at: int


class WrittenPattern(Struct):
    """One pattern as it is sent; UNSET is left out."""

    id: str | bytes
    embedding: bytes | Raw | UnsetType
    success_rate: float
    sample_count: int
    context: Context
    created_at: int
    updated_at: int


Written = TypeVar("Written", bound=WrittenPattern)


def read_patterns(bodies: Sequence[Struct], path: str, refuse: Refusal) -> PatternBatch:
    """Columns of n patterns, whose fields begin with those of `PatternBody`; `path` is that of their list."""
    if not bodies:
        return replace(_NO_PATTERNS, contexts=[])
    at = path + "[{}]."
    columns = zip(*map(astuple, bodies), strict=True)
    ids, embeddings, rates, counts, contexts, created_at, updated_at = islice(columns, FIELDS_LEN)
    check_range(counts, 1, limits.SAMPLE_COUNT_MAX, at + "sample_count", refuse)
    check_range(created_at, 0, limits.UNIX_SECONDS_MAX, at + "created_at", refuse)
    check_range(updated_at, 0, limits.UNIX_SECONDS_MAX, at + "updated_at", refuse)
    _check_contexts(contexts, at + "context", refuse)
    return PatternBatch(
        ids=read_ids(ids, at + "id", refuse),
        codes=read_embeddings(embeddings, at + "embedding", refuse),
        rates=read_rates(rates, at + "success_rate", refuse),
        counts=np.array(counts, np.uint32),
        created_at=np.array(created_at, np.int64),
        updated_at=np.array(updated_at, np.int64),
        contexts=list(contexts),
    )


def write_patterns(batch: PatternBatch, media: Media, form: EmbeddingFormat, kind: type[Written]) -> list[Written]:
    """What msgspec encodes as the patterns of a batch."""
    return list(
        map(
            kind,
            write_ids(batch.ids, media),
            write_embeddings(batch.codes, media, form),
            write_rates(batch.rates, media),
            batch.counts.tolist(),
            batch.contexts,
            batch.created_at.tolist(),
            batch.updated_at.tolist(),
        )
    )


def read_rates(rates: Sequence[float], path: str, refuse: Refusal) -> npt.NDArray[np.float32]:
    """Success rates as float32, which is how they are compared; `path` has `{}` for the place of one."""
    check_range(rates, 0, 1, path, refuse)
    return np.abs(np.array(rates, np.float32))  # -0.0 becomes 0.0: one rate, one digest


def write_rates(rates: npt.NDArray[np.float32], media: Media) -> list[float]:
    """JSON gets as few digits as tell the float32: 0.91, not 0.9100000262260437. In msgpack they would save nothing."""
    return [float(str(rate)) for rate in rates] if media is Media.JSON else rates.tolist()


def _check_contexts(contexts: Sequence[Context], path: str, refuse: Refusal) -> None:
    for row, context in enumerate(contexts):
        if len(context.genre_hints) > limits.GENRE_HINTS_MAX:
            expected = f"at most {limits.GENRE_HINTS_MAX} hints"
            raise refuse(f"{path.format(row)}.genre_hints", expected, str(len(context.genre_hints)))
        words = (context.time_of_day, context.day_of_week, context.content_type, *context.genre_hints)
        text = "".join(words)
        short = max(map(len, words)) <= limits.CONTEXT_STRING_BYTES_MAX
        if not short or not text.isascii() or "\0" in text:
            _check_words(context, path.format(row), refuse)


def _check_words(context: Context, path: str, refuse: Refusal) -> None:
    """Each string by itself: slower, but it knows the path."""
    for name in ("time_of_day", "day_of_week", "content_type"):
        check_text(getattr(context, name), 0, limits.CONTEXT_STRING_BYTES_MAX, f"{path}.{name}", refuse)
    for place, hint in enumerate(context.genre_hints):
        check_text(hint, 0, limits.CONTEXT_STRING_BYTES_MAX, f"{path}.genre_hints[{place}]", refuse)

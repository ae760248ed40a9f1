"""Bodies for the tests of the wire: a valid one to break in one place, and Hypothesis strategies for valid deltas."""

import copy
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st

from constellation import limits
from constellation.digest import answer_digest
from constellation.errors import Problem
from constellation.model import (
    DIM,
    VERSION_MAX,
    Answer,
    Context,
    Delta,
    EmbeddingFormat,
    PatternBatch,
    RateUpdates,
    Trend,
)
from constellation.wire.media import Media
from constellation.wire.sync import decode_sync

DEVICE_ID = UUID("550e8400-e29b-41d4-a716-446655440000").bytes

Fields = dict[str, Any]
Path = tuple[str | int, ...]

FORMS: tuple[EmbeddingFormat, ...] = ("f32", "f16", "i8")
BOTH = pytest.mark.parametrize("media", Media)
ADDED: Path = ("delta", "patterns_added", 1)
UPDATED: Path = ("delta", "patterns_updated", 1)


def whole_answer(
    similar: PatternBatch, trending: list[Trend] | None, version: int, digest: str | None = None
) -> Answer:
    """The answer to a device of which nothing is remembered."""
    return Answer(
        similar=similar,
        trending=trending,
        global_version=version,
        digest=digest or answer_digest(similar.ids, similar.rates, similar.counts, similar.updated_at),
        reset=True,
        handles=np.arange(len(similar), dtype=np.uint8),
        whole=np.ones(len(similar), np.bool_),
        gone=np.empty(0, np.uint8),
        removed=np.empty((0, 16), np.uint8),
    )


def encode(fields: Any, media: Media) -> bytes:
    return msgspec.json.encode(fields) if media is Media.JSON else msgspec.msgpack.encode(fields)


def decode(body: bytes, media: Media) -> Any:
    return msgspec.json.decode(body) if media is Media.JSON else msgspec.msgpack.decode(body)


def uuid_text(number: int) -> str:
    return str(UUID(int=number))


def pattern_fields(number: int) -> Fields:
    """A valid pattern in its plainest form, good for both media; the number makes its id and embedding."""
    embedding = np.random.default_rng(number).standard_normal(DIM)
    return {
        "id": uuid_text(number),
        "embedding": embedding.tolist(),
        "success_rate": 0.91,
        "sample_count": 42,
        "context": {
            "time_of_day": "evening",
            "day_of_week": "weekend",
            "content_type": "movie",
            "genre_hints": ["thriller", "drama"],
        },
        "created_at": 1_760_000_000,
        "updated_at": 1_760_000_100,
    }


def sync_fields() -> Fields:
    """A valid sync body: three patterns added, two updated, two removed."""
    return {
        "device_id": str(UUID(bytes=DEVICE_ID)),
        "delta": {
            "patterns_added": [pattern_fields(number) for number in (1, 2, 3)],
            "patterns_updated": [
                {"id": uuid_text(number), "new_success_rate": 0.8, "additional_samples": 5} for number in (4, 5)
            ],
            "patterns_removed": [uuid_text(6), uuid_text(7)],
            "local_version": 123,
            "sequence": 1_760_000_000_123,
        },
    }


def changed(fields: Fields, path: Path, change: Callable[[Any], Any]) -> Fields:
    """A copy in which the value at `path` is replaced by what `change` makes of it."""
    result = copy.deepcopy(fields)
    parent: Any = result
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = change(parent[path[-1]])
    return result


def without(fields: Fields, path: Path) -> Fields:
    """A copy without the value at `path`."""
    result = copy.deepcopy(fields)
    parent: Any = result
    for step in path[:-1]:
        parent = parent[step]
    del parent[path[-1]]
    return result


def path_text(path: Path) -> str:
    """How a problem writes a path: `delta.patterns_added[2].embedding`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def put(value: Any) -> Callable[[Any], Any]:
    """A change for `changed` that ignores what was there."""
    return lambda _: value


def refuse(fields: Fields | bytes, media: Media) -> Problem:
    """The problem that a sync body meets."""
    body = fields if isinstance(fields, bytes) else encode(fields, media)
    with pytest.raises(Problem) as refused:
        decode_sync(body, media)
    return refused.value


def words(len_bytes_max: int) -> st.SearchStrategy[str]:
    """Strings that fit in so many bytes of UTF-8 and have no NUL."""
    alphabet = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    return st.text(alphabet, max_size=len_bytes_max).filter(lambda text: len(text.encode()) <= len_bytes_max)


contexts = st.builds(
    Context,
    time_of_day=words(limits.CONTEXT_STRING_BYTES_MAX),
    day_of_week=words(limits.CONTEXT_STRING_BYTES_MAX),
    content_type=words(limits.CONTEXT_STRING_BYTES_MAX),
    genre_hints=st.lists(words(limits.CONTEXT_STRING_BYTES_MAX), max_size=limits.GENRE_HINTS_MAX).map(tuple),
)
FIELDS: list[Path] = [("device_id",), ("delta",)]
FIELDS += [("delta", f"patterns_{name}") for name in ("added", "updated", "removed")]
FIELDS += [(*ADDED, name) for name in pattern_fields(0)]
FIELDS += [(*ADDED, "context", name) for name in pattern_fields(0)["context"]]
FIELDS += [(*UPDATED, name) for name in ("id", "new_success_rate", "additional_samples")]
"""Every field that must be there."""

ids = st.binary(min_size=16, max_size=16)
rates = st.floats(0, 1, width=32).map(abs)
counts = st.integers(1, limits.SAMPLE_COUNT_MAX)
times = st.integers(0, limits.UNIX_SECONDS_MAX)


def id_column(values: list[bytes]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(values), np.uint8).reshape(-1, 16)


def code_column(seeds: list[int]) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Codes as the shard keeps them: the largest component is 127 or -127."""
    codes = np.zeros((len(seeds), DIM), np.int8)
    for row, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        codes[row] = rng.integers(-127, 128, DIM)
        codes[row, rng.integers(DIM)] = rng.choice([-127, 127])
    return codes


@st.composite
def batches(draw: st.DrawFn, n_max: int = 4, unique: bool = True) -> PatternBatch:
    pattern_ids = draw(st.lists(ids, max_size=n_max, unique=unique))
    n = len(pattern_ids)

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=n, max_size=n))

    return PatternBatch(
        ids=id_column(pattern_ids),
        codes=code_column(column(st.integers(0, 2**32))),
        rates=np.array(column(rates), np.float32),
        counts=np.array(column(counts), np.uint32),
        created_at=np.array(column(times), np.int64),
        updated_at=np.array(column(times), np.int64),
        contexts=column(contexts),
    )


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    updated = draw(st.lists(st.tuples(ids, rates, counts), max_size=4))
    return Delta(
        added=draw(batches()),
        updated=RateUpdates(
            ids=id_column([update[0] for update in updated]),
            rates=np.array([update[1] for update in updated], np.float32),
            samples=np.array([update[2] for update in updated], np.uint32),
        ),
        removed=id_column(draw(st.lists(ids, max_size=4))),
        local_version=draw(st.none() | st.integers(0, VERSION_MAX)),
        sequence=draw(st.none() | st.integers(1, VERSION_MAX)),
        fingerprint=0,
    )


def assert_same_batch(got: PatternBatch, expected: PatternBatch) -> None:
    for name in ("ids", "codes", "rates", "counts", "created_at", "updated_at"):
        column = getattr(got, name)
        np.testing.assert_array_equal(column, getattr(expected, name), name)
        assert column.dtype == getattr(expected, name).dtype, name
    assert got.contexts == expected.contexts

"""Deltas and settings for tests of the shard: patterns by small numbers, so that ids and embeddings repeat."""

import functools
from collections.abc import Sequence

import numpy as np

from constellation.codebook import CENTROIDS, Codebook, build
from constellation.config import Settings
from constellation.model import (
    DIM,
    ID_BYTES,
    Codes,
    ContentItem,
    Context,
    Delta,
    Ids,
    PatternBatch,
    RateUpdates,
    SyncOptions,
    SyncRequest,
)
from constellation.shard import Shard
from kernels.codes import quantise

START = 1_760_000_000
EVERYTHING = SyncOptions(similar=100, trending=50, embedding="i8")

Added = tuple[int, float, int]
"""id, rate, count"""
Updated = tuple[int, float, int]
"""id, new rate, additional samples"""


def settings(devices: int = 100, patterns: int = 1_000, per_device: int = 32) -> Settings:
    return Settings(max_devices=devices, max_patterns=patterns, max_patterns_per_device=per_device)


def new_shard(**bounds: int) -> Shard:
    return Shard(settings(**bounds))


def id_of(number: int) -> bytes:
    return number.to_bytes(ID_BYTES, "big")


def ids_of(numbers: Sequence[int]) -> Ids:
    return np.frombuffer(bytearray().join(map(id_of, numbers)), np.uint8).reshape(-1, ID_BYTES)


@functools.cache
def _code_bytes(number: int) -> bytes:
    vector = np.random.default_rng(number).standard_normal((1, DIM)).astype(np.float32)
    return quantise(vector).tobytes()


def code_of(number: int) -> Codes:
    """(384,) of a direction of its own, unlike any other's."""
    return np.frombuffer(bytearray(_code_bytes(number)), np.int8)


@functools.cache
def codebook(version: int, size: int) -> Codebook:
    """Directions of its own, and some patterns'."""
    codes = np.array([code_of(1_000 * (number % 3 > 0) * version + number) for number in range(size)])
    return build(version, {CENTROIDS: codes.tobytes()})


def context_of(number: int) -> Context:
    return Context("evening", "weekend", "movie", tuple(f"genre {number + i}" for i in range(number % 4)))


def batch(
    added: Sequence[Added], codes: Sequence[int] | None = None, hints: Sequence[str] | None = None
) -> PatternBatch:
    """Patterns by id; their embeddings and contexts are those of `codes`, or else of the ids."""
    numbers = [number for number, _, _ in added] if codes is None else list(codes)
    contexts = [context_of(n) if hints is None else Context("", "", "", tuple(hints)) for n in numbers]
    return PatternBatch(
        ids=ids_of([number for number, _, _ in added]),
        codes=np.array([code_of(n) for n in numbers], np.int8).reshape(-1, DIM),
        rates=np.array([rate for _, rate, _ in added], np.float32),
        counts=np.array([count for _, _, count in added], np.uint32),
        created_at=np.array([START + n for n in numbers], np.int64),
        updated_at=np.array([START + 2 * n for n in numbers], np.int64),
        contexts=contexts,
    )


def request(
    device: int,
    added: PatternBatch | Sequence[Added] = (),
    updated: Sequence[Updated] = (),
    removed: Sequence[int] = (),
    sequence: int | None = None,
    fingerprint: int = 0,
) -> SyncRequest:
    delta = Delta(
        added=added if isinstance(added, PatternBatch) else batch(added),
        updated=RateUpdates(
            ids=ids_of([number for number, _, _ in updated]),
            rates=np.array([rate for _, rate, _ in updated], np.float32),
            samples=np.array([samples for _, _, samples in updated], np.uint32),
        ),
        removed=ids_of(removed),
        local_version=None,
        sequence=sequence,
        fingerprint=fingerprint,
    )
    return SyncRequest(id_of(device), delta)


def title(content_id: str, code: int) -> ContentItem:
    return ContentItem(content_id=content_id, title=content_id.title(), code=code_of(code), metadata=None)

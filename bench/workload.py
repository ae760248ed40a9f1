"""The data of every benchmark: real film embeddings mixed into patterns as a household would.

Films come in two parts: *known* ones, of which stored patterns are made, and *unseen* ones, for queries that resemble
nothing stored. Everything is drawn from a seeded generator in a fixed order: the same seed gives the same bytes.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from constellation import catalogue
from constellation.config import Settings
from constellation.fleet.households import INTERESTS_MAX, NEIGHBOURS, Vectors, make_patterns, neighbour_table
from constellation.limits import GENRE_HINTS_MAX
from constellation.model import (
    ID_BYTES,
    Codes,
    Context,
    Delta,
    Ids,
    PatternBatch,
    RateUpdates,
    SyncOptions,
    SyncRequest,
)
from kernels.codes import quantise

FILMS_VARIABLE = "CONSTELLATION_FILMS"
FILMS_FILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "films-dev.npz"
"""Beside the checkout; not part of the repository."""

KNOWN_SHARE = 20_000 / 24_266
"""Share of the films that patterns are made of."""
PATTERNS_A_FILM = 5
"""With fewer patterns there are fewer films, so that a taste has as many neighbours at every scale."""
PATTERNS_A_DEVICE = 10
START_S = 1_760_000_000
EVERYTHING = SyncOptions(similar=100, trending=50, embedding="i8")
TICK_S = 1e-3
"""Time between two syncs of a load, as the shard is told it."""

_BLOCK = 50_000
_CONTEXTS = tuple(
    Context(time, day, kind, (genre,))
    for time in ("morning", "evening")
    for day in ("weekday", "weekend")
    for kind in ("movie", "series")
    for genre in ("drama", "comedy", "thriller", "horror", "romance")
)

Films = npt.NDArray[np.int32]


class Part(NamedTuple):
    """n films: vectors (n, 384) unit float32, neighbours (n, 40) int32 within the part, genres (n,) int32: a number for
    the first that each film is said to be of, hints (n,): all of them, as the context of a pattern has them."""

    vectors: Vectors
    neighbours: Films
    genres: npt.NDArray[np.int32]
    hints: list[tuple[str, ...]]

    def patterns(self, films: Films, rng: np.random.Generator) -> Codes:
        """(m, 384) codes, one pattern per film."""
        codes = np.empty((len(films), self.vectors.shape[1]), np.int8)
        for start in range(0, len(films), _BLOCK):
            block = films[start : start + _BLOCK]
            codes[start : start + _BLOCK] = quantise(make_patterns(self.vectors, self.neighbours, block, rng))
        return codes

    def draw(self, count: int, rng: np.random.Generator) -> Films:
        """(count,) films, each as likely as the other."""
        return rng.integers(0, len(self.vectors), count, dtype=np.int32)


class Library(NamedTuple):
    """The films of one run and where they come from."""

    source: str
    known: Part
    unseen: Part


class Households(NamedTuple):
    """h devices with p patterns each.

    device_ids (h, 16) uint8; interests (h, 3) int32 films, -1 where there are fewer; even (h,) bool: its interests
    weigh alike; films (h, p) int32: the film behind each pattern. The patterns, household by household: h x p ids,
    codes, rates and counts.
    """

    device_ids: Ids
    interests: Films
    even: npt.NDArray[np.bool_]
    films: Films
    ids: Ids
    codes: Codes
    rates: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.device_ids)

    def rows_of(self, household: int) -> slice:
        """Where its patterns are."""
        a_device = self.films.shape[1]
        return slice(household * a_device, (household + 1) * a_device)

    def interest_counts(self) -> npt.NDArray[np.int64]:
        counts: npt.NDArray[np.int64] = (self.interests >= 0).sum(axis=1)
        return counts


@functools.lru_cache(maxsize=2)
def load_library(patterns: int, seed: int, *, shipped: bool = False) -> Library:
    """The films for a run over that many patterns; those of the shipped catalogue where all machines must have the
    same."""
    source, vectors, named = _shipped_films() if shipped else _read_films()
    genres = np.unique([genre.split("|")[0] for genre in named], return_inverse=True)[1].astype(np.int32)
    order = np.random.default_rng(seed).permutation(len(vectors))
    known_count = int(len(vectors) * KNOWN_SHARE)
    wanted = max(2 * NEIGHBOURS, patterns // PATTERNS_A_FILM)
    hints = [tuple(genre.lower() for genre in genres_.split("|") if genre)[:GENRE_HINTS_MAX] for genres_ in named]
    parts = (order[:known_count][:wanted], order[known_count:][:wanted])
    return Library(
        source,
        *(
            Part(vectors[part], neighbour_table(vectors[part]), genres[part], [hints[film] for film in part])
            for part in parts
        ),
    )


def make_households(part: Part, count: int, interests: int | None, rng: np.random.Generator) -> Households:
    """Households with that many interests, or with one to three. An interest is a film; each pattern is one of the
    household's interests mixed with neighbours of it. In one household of two all interests have as many patterns, in
    the other the second has half as many as the first, the third half as many again."""
    counts = rng.integers(1, INTERESTS_MAX + 1, count) if interests is None else np.full(count, interests)
    chosen = rng.integers(0, len(part.vectors), (count, INTERESTS_MAX), dtype=np.int32)
    chosen[np.arange(INTERESTS_MAX) >= counts[:, None]] = -1
    even = rng.random(count) < 0.5
    films = np.take_along_axis(chosen, _deal_interests(counts, even), axis=1)
    return Households(
        device_ids=rng.integers(0, 256, (count, ID_BYTES), dtype=np.uint8),
        interests=chosen,
        even=even,
        films=films,
        ids=make_ids(films.size, rng),
        codes=part.patterns(films.reshape(-1), rng),
        rates=draw_rates(films.size, rng),
        counts=draw_counts(films.size, rng),
    )


def make_ids(count: int, rng: np.random.Generator) -> Ids:
    """(count, 16) ids: a random one for the block, with the number of each in its first four bytes."""
    ids = np.broadcast_to(rng.integers(0, 256, ID_BYTES, dtype=np.uint8), (count, ID_BYTES)).copy()
    ids[:, :4] = np.arange(count, dtype=">u4").view(np.uint8).reshape(count, 4)
    return ids


def numbers_of(ids: Ids) -> npt.NDArray[np.int64]:
    """The numbers that `make_ids` gave."""
    return np.ascontiguousarray(ids[:, :4]).view(">u4").reshape(-1).astype(np.int64)


def draw_rates(count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Success rates good enough to be served, so that every pattern is in the index."""
    return rng.uniform(0.8, 1.0, count).astype(np.float32)


def draw_counts(count: int, rng: np.random.Generator) -> npt.NDArray[np.uint32]:
    return rng.integers(50, 100, count, dtype=np.uint32)


def draw_contexts(count: int, rng: np.random.Generator) -> list[Context]:
    return [_CONTEXTS[number] for number in rng.integers(0, len(_CONTEXTS), count)]


def make_batch(ids: Ids, codes: Codes, rng: np.random.Generator) -> PatternBatch:
    """New patterns with rates, counts and contexts drawn."""
    count = len(ids)
    return _batch(ids, codes, draw_rates(count, rng), draw_counts(count, rng), draw_contexts(count, rng))


def no_patterns() -> PatternBatch:
    return make_batch(np.empty((0, ID_BYTES), np.uint8), np.empty((0, 384), np.int8), np.random.default_rng(0))


def no_updates() -> RateUpdates:
    return RateUpdates(np.empty((0, ID_BYTES), np.uint8), np.empty(0, np.float32), np.empty(0, np.uint32))


def make_updates(ids: Ids, rng: np.random.Generator) -> RateUpdates:
    rates = rng.uniform(0.85, 1.0, len(ids)).astype(np.float32)
    return RateUpdates(ids, rates, rng.integers(1, 20, len(ids), dtype=np.uint32))


def make_request(
    device_id: bytes, added: PatternBatch, updated: RateUpdates, *, sequence: int | None = None
) -> SyncRequest:
    delta = Delta(
        added=added,
        updated=updated,
        removed=np.empty((0, ID_BYTES), np.uint8),
        local_version=None,
        sequence=sequence,
        fingerprint=sequence or 0,
    )
    return SyncRequest(device_id, delta)


def first_syncs(households: Households, rng: np.random.Generator) -> Iterator[SyncRequest]:
    """Each household tells all its patterns at once."""
    for number in range(len(households)):
        rows = households.rows_of(number)
        contexts = draw_contexts(PATTERNS_A_DEVICE, rng)
        batch = _batch(
            households.ids[rows], households.codes[rows], households.rates[rows], households.counts[rows], contexts
        )
        yield make_request(households.device_ids[number].tobytes(), batch, no_updates())


def shard_settings(patterns: int) -> Settings:
    """Room for a load of that many patterns and for what a benchmark adds to it."""
    room = patterns + patterns // 4 + 10_000
    return msgspec.structs.replace(Settings(), max_patterns=room, max_devices=room)


def _batch(
    ids: Ids,
    codes: Codes,
    rates: npt.NDArray[np.float32],
    counts: npt.NDArray[np.uint32],
    contexts: list[Context],
) -> PatternBatch:
    times = np.full(len(ids), START_S, np.int64)
    return PatternBatch(ids, codes, rates, counts, created_at=times, updated_at=times, contexts=contexts)


def _deal_interests(counts: npt.NDArray[np.int64], even: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(h, p): which of its interests each pattern of a household comes from; every interest at least once."""
    weights = np.where(even[:, None], 1.0, 0.5 ** np.arange(INTERESTS_MAX))
    weights[np.arange(INTERESTS_MAX) >= counts[:, None]] = 0
    bounds = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    places = (np.arange(PATTERNS_A_DEVICE) + 0.5) / PATTERNS_A_DEVICE
    dealt: npt.NDArray[np.int64] = (places[None, :, None] > bounds[:, None, :-1]).sum(axis=2)
    return dealt


def _read_films() -> tuple[str, Vectors, Sequence[str]]:
    """films-dev where it is to be had, else the shipped catalogue: name, unit vectors, genres (`Thriller|Suspense`)."""
    given = os.environ.get(FILMS_VARIABLE)
    path = Path(given) if given is not None else FILMS_FILE
    if given is None and not path.exists():
        source, vectors, genres = _shipped_films()
        return f"{source} (no {FILMS_FILE.name}: set {FILMS_VARIABLE})", vectors, genres
    with np.load(path, allow_pickle=False) as file:
        vectors, genres = file["embedding"].astype(np.float32), file["genres"].tolist()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return f"{path.name}, {len(vectors):,} films", vectors, genres


def _shipped_films() -> tuple[str, Vectors, Sequence[str]]:
    films = catalogue.load()
    return f"the shipped catalogue, {len(films):,} films", films.vectors(), films.genres

"""A household learns by its own generator alone, and what TVs receive is judged by their taste."""

import asyncio
import random
import uuid

import numpy as np
import pytest

from constellation import catalogue
from constellation.client import Client, open_session
from constellation.fleet import films, relevance
from constellation.fleet.households import INTERESTS_MAX, make_patterns
from constellation.fleet.tv import FIRST_PATTERNS_MAX, FIRST_PATTERNS_MIN, PATTERNS_MAX, Tv
from constellation.model import PatternBatch
from kernels import codes

FILMS = films.prepare(catalogue.load())


def tvs(count: int, seed: int = 1) -> list[Tv]:
    async def build() -> list[Tv]:
        async with open_session() as session:
            made = []
            for number in range(count):
                rng = np.random.default_rng([seed, number])
                client = Client("http://nowhere", uuid.UUID(int=number), session, rng=random.Random(number))
                made.append(Tv(FILMS, client, rng))
            return made

    return asyncio.run(build())


def test_same_seed_makes_the_same_household() -> None:
    lives = []
    for tv in (tvs(1)[0], tvs(1)[0]):
        for _ in range(50):
            tv.live()
        patterns = tv.client.learned.patterns
        lives.append([(key, each.rate, each.count, each.code.tobytes()) for key, each in patterns.items()])
    assert lives[0] == lives[1]


def test_household_starts_small_and_forgets_its_oldest() -> None:
    tv = tvs(1)[0]
    first = list(tv.client.learned.patterns)
    assert FIRST_PATTERNS_MIN <= len(first) <= FIRST_PATTERNS_MAX and 1 <= len(tv.interests) <= INTERESTS_MAX
    for _ in range(300):
        tv.live()
    assert len(tv.client.learned.patterns) == PATTERNS_MAX
    assert first[0] not in tv.client.learned.patterns


def test_context_names_the_genres_of_the_film() -> None:
    context = FILMS.context(FILMS.catalogue.titles.index("The Dark Knight"), np.random.default_rng(1))
    assert context.genre_hints == ("action",) and context.content_type == "movie"
    assert context.time_of_day in films.TIMES_OF_DAY and context.day_of_week in films.DAYS_OF_WEEK


def test_relevance_tells_taste_from_chance(rng: np.random.Generator) -> None:
    fleet = tvs(40)
    for tv in fleet[:30]:
        wanted = np.repeat(tv.interests, relevance.PATTERNS_WANTED)
        _receive(tv, codes.quantise(make_patterns(FILMS.vectors, FILMS.neighbours, wanted, rng)))
    measured = relevance.measure(FILMS, fleet, rng)
    assert (measured.tvs, measured.well_served) == (30, 30)
    assert measured.received_cosine > 0.7 and measured.random_cosine < 0.5


def test_relevance_of_chance_is_that_of_chance(rng: np.random.Generator) -> None:
    fleet = tvs(40)
    everybody = [each.code for tv in fleet for each in tv.client.learned.patterns.values()]
    for tv in fleet:
        _receive(tv, np.array([everybody[row] for row in rng.integers(len(everybody), size=100)]))
    measured = relevance.measure(FILMS, fleet, rng)
    assert measured.received_cosine == pytest.approx(measured.random_cosine, abs=0.02)


def test_fleet_that_received_nothing_has_no_relevance(rng: np.random.Generator) -> None:
    assert relevance.measure(FILMS, tvs(3), rng) == relevance.Relevance(0, 0, 0.0, 0.0)


def _receive(tv: Tv, received: np.ndarray[tuple[int, ...], np.dtype[np.int8]]) -> None:
    count = len(received)
    context = FILMS.context(0, np.random.default_rng(0))
    tv.client.received.similar = PatternBatch(
        ids=np.zeros((count, 16), np.uint8),
        codes=received,
        rates=np.ones(count, np.float32),
        counts=np.ones(count, np.uint32),
        created_at=np.zeros(count, np.int64),
        updated_at=np.zeros(count, np.int64),
        contexts=[context] * count,
    )

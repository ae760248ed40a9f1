"""One contract for every pattern store: in memory, in PostgreSQL, and in PostgreSQL with its HNSW index."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import numpy.typing as npt
import pytest

from constellation.limits import SAMPLE_COUNT_MAX, TREND_DECAY_PER_HOUR
from constellation.model import Codes, Ids, PatternBatch
from constellation.records import Forgotten, TrendCells, empty_change
from constellation.storage.database import Fenced
from constellation.storage.memory import MemoryPatternStore
from constellation.storage.patterns import SERVED_RATE_MIN, PatternStore
from constellation.storage.postgres import PostgresPatternStore
from kernels.codes import quantise
from kernels.trends import HOURS
from tests.storage.conftest import claimed, execute, opened, some_ids, some_patterns

TV, OTHER, THIRD = b"a television....", b"another one.....", b"the third one..."
REGION = "eu-north"
HOUR = 490_000

Scenario = Callable[[PatternStore], Awaitable[None]]
Run = Callable[[Scenario], None]


@contextlib.asynccontextmanager
async def in_postgres(url: str, indexed: bool = False) -> AsyncIterator[PatternStore]:
    async with opened(url) as database:
        await database.pattern_index(indexed)
        yield PostgresPatternStore(database, await claimed(database), REGION)


@pytest.fixture(params=["memory", "postgres", "postgres, indexed"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario with an empty store."""
    if request.param == "memory":
        return lambda scenario: asyncio.run(_run(contextlib.nullcontext(MemoryPatternStore(REGION)), scenario))
    url = request.getfixturevalue("url")
    return lambda scenario: asyncio.run(_run(in_postgres(url, request.param == "postgres, indexed"), scenario))


async def _run(opening: contextlib.AbstractAsyncContextManager[PatternStore], scenario: Scenario) -> None:
    async with opening as store:
        await scenario(store)


def batch(n: int, rng: np.random.Generator, rate: float = 0.9, ids: Ids | None = None) -> PatternBatch:
    patterns = some_patterns(some_ids(n, rng), some_ids(n, rng) if ids is None else ids, rng).patterns
    patterns.rates = np.full(n, rate, np.float32)
    patterns.counts = np.full(n, 10, np.uint32)
    return patterns


def cosines(codes: Codes, code: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    exact: npt.NDArray[np.float64] = codes.astype(np.float64) @ code / np.linalg.norm(codes.astype(float), axis=1)
    return exact / np.linalg.norm(code.astype(float))


def test_empty_store_has_nothing(run: Run, rng: np.random.Generator) -> None:
    async def scenario(store: PatternStore) -> None:
        assert await store.total_patterns() == 0
        assert await store.device_pattern_count(TV) == 0
        assert len(await store.similar_patterns(TV, batch(1, rng).codes[0], 10)) == 0
        assert await store.trending(HOUR) == []
        assert not await store.remove_pattern(TV, bytes(16))
        assert not await store.update_pattern(TV, bytes(16), 0.9, 1)
        assert await store.total_patterns() == 0

    run(scenario)


def test_stored_patterns_are_found_by_others_as_they_are(run: Run, rng: np.random.Generator) -> None:
    patterns = batch(3, rng)

    async def scenario(store: PatternStore) -> None:
        await store.store_patterns(TV, patterns)
        found = await store.similar_patterns(OTHER, patterns.codes[1], 1)
        for name in ("ids", "codes", "rates", "counts", "created_at", "updated_at"):
            np.testing.assert_array_equal(getattr(found, name), getattr(patterns, name)[1:2])
        assert found.contexts == patterns.contexts[1:2]
        assert len(await store.similar_patterns(TV, patterns.codes[1], 10)) == 0

    run(scenario)


def test_equal_ids_of_two_devices_are_two_patterns(run: Run, rng: np.random.Generator) -> None:
    ids = some_ids(2, rng)

    async def scenario(store: PatternStore) -> None:
        for device in (TV, OTHER):
            await store.store_patterns(device, batch(2, rng, ids=ids))
        assert await store.total_patterns() == 4
        assert await store.remove_pattern(TV, ids[0].tobytes())
        assert not await store.remove_pattern(TV, ids[0].tobytes())
        assert [await store.device_pattern_count(device) for device in (TV, OTHER, THIRD)] == [1, 2, 0]

    run(scenario)


def test_pattern_of_a_known_id_is_replaced(run: Run, rng: np.random.Generator) -> None:
    first = batch(2, rng)
    second = batch(2, rng, rate=0.95, ids=first.ids[::-1].copy())

    async def scenario(store: PatternStore) -> None:
        await store.store_patterns(TV, first)
        await store.store_patterns(TV, second)
        assert await store.total_patterns() == 2
        for i in range(2):
            found = await store.similar_patterns(OTHER, second.codes[i], 1)
            assert found.ids[0].tobytes() == second.ids[i].tobytes()
            np.testing.assert_array_equal(found.codes[0], second.codes[i])
            assert found.rates[0] == np.float32(0.95)

    run(scenario)


@pytest.mark.parametrize(
    ("rate", "samples", "expected_rate", "expected_count"),
    [
        (0.8, 30, (0.9 * 10 + 0.8 * 30) / 40, 40),
        (1.0, 1, (0.9 * 10 + 1.0) / 11, 11),
        (0.95, SAMPLE_COUNT_MAX, 0.9499995, SAMPLE_COUNT_MAX),
    ],
)
def test_update_merges_by_samples(
    run: Run, rng: np.random.Generator, rate: float, samples: int, expected_rate: float, expected_count: int
) -> None:
    patterns = batch(2, rng)

    async def scenario(store: PatternStore) -> None:
        await store.store_patterns(TV, patterns)
        assert await store.update_pattern(TV, patterns.ids[0].tobytes(), rate, samples)
        assert not await store.update_pattern(OTHER, patterns.ids[0].tobytes(), rate, samples)
        found = await store.similar_patterns(OTHER, patterns.codes[0], 2)
        assert found.rates[0] == pytest.approx(expected_rate, rel=1e-6)
        assert (found.counts[0], found.counts[1]) == (expected_count, 10)
        assert found.rates[1] == np.float32(0.9)

    run(scenario)


def test_similar_are_the_nearest_of_others_that_are_good_enough(run: Run, rng: np.random.Generator) -> None:
    least = np.float32(SERVED_RATE_MIN)
    rates = np.array([0.1, np.nextafter(least, np.float32(0)), least, 1.0], np.float32)
    many = {device: batch(60, rng) for device in (TV, OTHER, THIRD)}
    for patterns in many.values():
        patterns.rates = np.resize(rates, 60)
    query = quantise(rng.standard_normal((1, 384)).astype(np.float32))[0]
    served = np.concatenate([many[device].codes[many[device].rates >= least] for device in (OTHER, THIRD)])

    async def scenario(store: PatternStore) -> None:
        for device, patterns in many.items():
            await store.store_patterns(device, patterns)
        for limit in (1, 7, 60, 100):
            found = await store.similar_patterns(TV, query, limit)
            best = np.sort(cosines(served, query))[::-1][:limit]
            np.testing.assert_allclose(cosines(found.codes, query), best, atol=1e-3)
            assert (found.rates >= least).all()

    run(scenario)


def test_forgotten_household_is_gone(run: Run, rng: np.random.Generator) -> None:
    async def scenario(store: PatternStore) -> None:
        for device in (TV, OTHER):
            await store.store_patterns(device, batch(4, rng))
        change = empty_change(9)
        change.forgotten = [Forgotten(TV, b"", 0, 0)]
        await store.put(change)
        assert [await store.device_pattern_count(device) for device in (TV, OTHER)] == [0, 4]
        await store.store_patterns(TV, batch(1, rng))
        assert await store.total_patterns() == 5

    run(scenario)


def test_trends_are_shares_of_a_week_that_fades(run: Run) -> None:
    cells = [
        *(("film:old", HOUR - HOURS, 1_000_000), ("film:c", HOUR - HOURS + 1, 40)),
        *(("film:b", HOUR, 30), ("film:b", HOUR - 1, 20)),
        *(("genre:ü", HOUR - 2, 7), ("genre:a", HOUR - 2, 7), ("film:none", HOUR, 0)),
    ]
    items, hours, counts = zip(*cells, strict=True)

    async def scenario(store: PatternStore) -> None:
        change = empty_change(1)
        change.trends = TrendCells(list(items), np.array(hours, np.uint32), np.array(counts, np.uint32))
        await store.put(change)
        highest = 30 + 20 * TREND_DECAY_PER_HOUR
        genre = 7 * TREND_DECAY_PER_HOUR**2 / highest
        expected = [
            *(("film:b", 1.0), ("genre:a", genre), ("genre:ü", genre)),
            ("film:c", 40 * TREND_DECAY_PER_HOUR ** (HOURS - 1) / highest),
        ]
        trends = await store.trending(HOUR)
        assert [trend.content_id for trend in trends] == [item for item, _ in expected]
        assert [trend.trending_score for trend in trends] == pytest.approx([score for _, score in expected], abs=1e-6)
        assert {trend.region for trend in trends} == {REGION}
        assert await store.trending(HOUR, limit=2) == trends[:2]
        later = empty_change(1)
        later.trends = TrendCells(["film:later"], np.array([HOUR + 1], np.uint32), np.array([1_000_000], np.uint32))
        await store.put(later)
        assert await store.trending(HOUR, limit=3) == trends[:3]
        change.trends.counts = np.zeros(len(items), np.uint32)
        await store.put(change)
        assert await store.trending(HOUR) == []

    run(scenario)


def test_stores_agree_after_any_calls(url: str, rng: np.random.Generator) -> None:
    ids = some_ids(6, rng)
    queries = quantise(rng.standard_normal((5, 384)).astype(np.float32))

    async def call(store: PatternStore, seed: int) -> object:
        dice = np.random.default_rng(seed)
        device = (TV, OTHER, THIRD)[dice.integers(3)]
        id_ = ids[dice.integers(len(ids))].tobytes()
        match dice.integers(4):
            case 0:
                return await store.remove_pattern(device, id_)
            case 1:
                return await store.update_pattern(device, id_, float(dice.random()), int(dice.integers(1, 100)))
            case _:
                few = batch(3, dice, dice.uniform(0.7, 1), dice.permutation(ids)[:3])
                await store.store_patterns(device, few)
                return None

    async def seen(store: PatternStore) -> list[object]:
        found = [await store.similar_patterns(device, code, 20) for device in (TV, OTHER) for code in queries]
        counts = [await store.device_pattern_count(device) for device in (TV, OTHER, THIRD)]
        rows = [
            sorted(zip(f.ids.tolist(), f.codes.tolist(), f.rates.tolist(), f.counts.tolist(), strict=True))
            for f in found
        ]
        return [await store.total_patterns(), counts, rows]

    async def scenario() -> None:
        memory = MemoryPatternStore(REGION)
        async with in_postgres(url) as postgres:
            for seed in rng.integers(1 << 32, size=60).tolist():
                assert await call(memory, seed) == await call(postgres, seed)
            assert await seen(memory) == await seen(postgres)
        assert await memory.total_patterns() > 3

    asyncio.run(scenario())


def test_store_without_its_claim_changes_nothing(url: str, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            store = PostgresPatternStore(database, await claimed(database), REGION)
            patterns = batch(1, rng)
            await store.store_patterns(TV, patterns)
            await claimed(database)
            for change in (
                store.store_patterns(OTHER, patterns),
                store.update_pattern(TV, patterns.ids[0].tobytes(), 0.9, 1),
                store.remove_pattern(TV, patterns.ids[0].tobytes()),
            ):
                with pytest.raises(Fenced):
                    await change
            assert await store.total_patterns() == 1
            assert (await store.similar_patterns(OTHER, patterns.codes[0], 1)).counts[0] == 10

    asyncio.run(scenario())


def test_similar_patterns_use_the_index_where_it_is_on(url: str, rng: np.random.Generator) -> None:
    patterns = batch(400, rng)
    used = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'patterns_embedding'"

    async def scenario() -> None:
        [[name]] = await execute(url, "SELECT current_database()")
        await execute(url, f"ALTER DATABASE {name} SET enable_sort = off")  # the planner prefers to sort small tables
        async with in_postgres(url, indexed=True) as store:
            await store.store_patterns(TV, patterns)
            found = await store.similar_patterns(OTHER, patterns.codes[7], 50)
            best = np.sort(cosines(patterns.codes, patterns.codes[7]))[::-1][:50]
            np.testing.assert_allclose(cosines(found.codes, patterns.codes[7]), best, atol=0.02)
        async with asyncio.timeout(20):  # a connection tells what it used when it ends
            while await execute(url, used) != [(1,)]:
                pass

    asyncio.run(scenario())

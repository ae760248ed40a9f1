"""A real PostgreSQL for the whole run, a database of its own for each test, and changes to put into it."""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import numpy.typing as npt
import pytest

from constellation.limits import SAMPLE_COUNT_MAX, UNIX_SECONDS_MAX
from constellation.model import DIM, Codes, ContentItem, Context, Ids, PatternBatch
from constellation.records import Change, DeviceRows, NumberedItem, PatternRows, TrendCells, empty_change
from constellation.storage import embedded
from constellation.storage.database import Claim, Database, connect
from kernels.codes import quantise
from kernels.trends import HOURS

FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}
JOURNAL = b"a journal's id.."

CONTEXTS = [
    Context("evening", "weekend", "movie", ("drama",)),
    Context("", "", "", ()),
    Context('"quoted"', "back\\slash", "é" * 16, tuple(f"hint {n} \u2028" for n in range(8))),
]
ITEMS = ["", "film:1", "genre:horror", "ü" * 32]

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a server that runs until the end.

    Not in pytest's directory: another run would close that to the user as whom root starts PostgreSQL.
    """
    with tempfile.TemporaryDirectory(prefix="constellation-test-") as directory:
        running = asyncio.run(embedded.start(Path(directory) / "data", FAST))
        yield running.url
        asyncio.run(running.stop())


@pytest.fixture
def url(server: str) -> str:
    """An empty database."""
    name = f"test_{next(_numbers)}"
    asyncio.run(execute(server, f"CREATE DATABASE {name}"))
    return server.replace(f"/{embedded.DATABASE}?", f"/{name}?")


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """The database with its schema."""
    database = await connect(url)
    try:
        await database.migrate()
        yield database
    finally:
        await database.close()


async def claimed(database: Database, shard_id: str = "shard-1") -> Claim:
    return await database.claim(shard_id, JOURNAL, "a test", wait_s=0)


async def execute(url: str, statement: str, *values: object) -> list[Any]:
    """Rows of one statement, past the code under test."""
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(statement, *values)
        return rows
    finally:
        await connection.close()


def some_ids(n: int, rng: np.random.Generator) -> Ids:
    return rng.integers(0, 256, (n, 16)).astype(np.uint8)


def some_codes(n: int, rng: np.random.Generator) -> Codes:
    return quantise(rng.standard_normal((n, DIM)).astype(np.float32))


def some_patterns(owners: Ids, ids: Ids, rng: np.random.Generator) -> PatternRows:
    """Patterns with these keys; the first two hold the least and the largest of everything."""
    n = len(owners)
    times = rng.integers(0, UNIX_SECONDS_MAX, (4, n))
    rates, counts = rng.random(n, np.float32), rng.integers(1, SAMPLE_COUNT_MAX, n).astype(np.uint32)
    samples, hours = rng.integers(0, 1 << 32, (2, n)).astype(np.uint32)
    for column, least, most in (
        *((row, 0, UNIX_SECONDS_MAX) for row in times),
        *((rates, 0, 1), (counts, 1, SAMPLE_COUNT_MAX)),
        *((samples, 0, (1 << 32) - 1), (hours, 0, (1 << 32) - 1)),
    ):
        column[:2] = [least, most][:n]
    return PatternRows(
        owners=owners,
        patterns=PatternBatch(
            ids=ids,
            codes=some_codes(n, rng),
            rates=rates,
            counts=counts,
            created_at=times[0],
            updated_at=times[1],
            contexts=[CONTEXTS[k % len(CONTEXTS)] for k in range(n)],
        ),
        entered=times[2],
        versions=times[3],
        items=[ITEMS[k % len(ITEMS)] for k in range(n)],
        item_samples=samples,
        item_hours=hours,
    )


def some_devices(ids: Ids, rng: np.random.Generator) -> DeviceRows:
    n = len(ids)

    def numbers(least: int, most: int, kind: type) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = rng.integers(
            least, most, n, np.uint64 if kind is np.uint64 else np.int64, endpoint=True
        ).astype(kind)
        values[:2] = [least, most][:n]
        return values

    return DeviceRows(
        ids=ids,
        sequences=numbers(-1, 2**53 - 1, np.int64),
        fingerprints=numbers(0, 2**64 - 1, np.uint64),
        cursors=numbers(0, 2**53 - 1, np.int64),
        last_syncs=numbers(0, UNIX_SECONDS_MAX, np.int64),
        credit_hours=numbers(0, 2**32 - 1, np.uint32),
        credit_used=numbers(0, 2**32 - 1, np.uint32),
    )


def some_content(numbers: list[int], rng: np.random.Generator) -> list[NumberedItem]:
    metadata = ({"genre": "drama", "year": 1979, "duration_min": None}, None, {"genre": 'é"\\', "year": None})
    return [
        NumberedItem(
            number,
            ContentItem(f"film:{number}", f"Title é {rng.random()}", some_codes(1, rng)[0], metadata[number % 3]),
        )
        for number in numbers
    ]


def some_change(n: int, rng: np.random.Generator, version: int = 1) -> Change:
    """n new devices with a pattern each, n titles and n counts."""
    change = empty_change(version)
    ids = some_ids(n, rng)
    change.content = some_content(list(range(n)), rng)
    change.devices = some_devices(ids, rng)
    change.patterns = some_patterns(ids, some_ids(n, rng), rng)
    hours, counts = rng.integers((1 << 32) - HOURS, 1 << 32, n), rng.integers(1, 1 << 32, n)
    change.trends = TrendCells([f"film:{k}" for k in range(n)], hours.astype(np.uint32), counts.astype(np.uint32))
    return change

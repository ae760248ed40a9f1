"""Shards that only report: small clients of the coordinator database, with partials made by hand."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import msgspec
import numpy as np

from constellation.codebook import CENTROIDS, Codebook, build
from constellation.federation import FederationCoordinator, RoundTerms
from constellation.federation.database import CoordinatorDatabase, Member, OpenRound, connected
from constellation.federation.leading import Leadership, take_lead
from constellation.model import DIM
from constellation.rounds import Partial, encode
from constellation.storage.connections import DatabaseUnavailable
from tests.federation.material import BUCKETS, REGIONS, draw_device, partial, shard_name
from tests.storage.conftest import execute

VERSION = 3
DEVICES = 40
SHARES = 8
"""Of the slots of a region; each shard has one."""
HOUR = int(time.time()) // 3_600

Change = Callable[[Partial], None]


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[CoordinatorDatabase]:
    """The database with its schema."""
    async with connected(url) as database:
        await database.migrate()
        yield database


def codebook(version: int = VERSION, seed: int = 0) -> Codebook:
    codes = np.random.default_rng(seed).integers(-127, 128, (BUCKETS, DIM)).astype(np.int8)
    return build(version, {CENTROIDS: codes.tobytes()})


async def join(database: CoordinatorDatabase, *numbers: int, version: int = VERSION) -> None:
    """Shards that live, each with its share of the slots, grouped under a codebook that is published."""
    await database.publish_codebook(codebook(version))
    for number in numbers:
        member = Member(shard_name(number), REGIONS[0], f"http://{shard_name(number)}")
        await database.register(member, (number - 1) % SHARES, SHARES)
        await beat(database, number, version)


async def beat(database: CoordinatorDatabase, number: int, version: int = VERSION) -> None:
    await database.heartbeat(shard_name(number), 1, DEVICES, 2 * DEVICES, version)


def partial_of(number: int, of: OpenRound) -> Partial:
    """The same whenever it is asked for."""
    rng = np.random.default_rng(number)
    made = partial(number, [draw_device(rng) for _ in range(DEVICES)])
    made.hour = HOUR
    return msgspec.structs.replace(made, round=of.number, map_epoch=of.map_epoch, codebook_version=of.codebook_version)


async def asked(database: CoordinatorDatabase, number: int) -> OpenRound:
    """The round that wants this shard's partial, once there is one."""
    async with asyncio.timeout(60):
        while (found := await database.open_round(shard_name(number))) is None:
            await beat(database, number)
            await asyncio.sleep(0.02)
    return found


async def report(database: CoordinatorDatabase, number: int, change: Change = lambda _: None) -> OpenRound:
    of = await asked(database, number)
    given = partial_of(number, of)
    change(given)
    await database.report(given)
    return of


@contextlib.asynccontextmanager
async def shards(database: CoordinatorDatabase, *numbers: int) -> AsyncIterator[None]:
    """They live, and report to whatever round asks, also after the database was away."""
    tasks = [asyncio.create_task(_live(database, number)) for number in numbers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended


async def _live(database: CoordinatorDatabase, number: int) -> None:
    while True:
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            await report(database, number)
        await asyncio.sleep(0.02)


async def leading(database: CoordinatorDatabase) -> Leadership:
    lead = await take_lead(database, "a test")
    assert lead is not None
    return lead


async def expire_lease(url: str) -> None:
    """As if the time had passed."""
    await execute(url, "UPDATE leases SET until = now()")


async def published(database: CoordinatorDatabase) -> bytes:
    found = await database.published(0, "")
    assert found is not None
    return found.result


async def expected_result(database: CoordinatorDatabase, number: int, *reporting: int) -> bytes:
    """What a round that nothing happened to publishes: of its terms, and of the partials of these shards."""
    async with database.connection() as connection:
        content = await connection.fetchval("SELECT terms FROM rounds WHERE number = $1", number)
    terms = msgspec.msgpack.decode(content, type=RoundTerms)
    of = OpenRound(number, terms.map_epoch, terms.codebook_version)
    return encode(FederationCoordinator(terms).run_federation([partial_of(one, of) for one in reporting]))

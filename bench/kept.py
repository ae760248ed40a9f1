"""What a shard keeps, made fast: a load goes through a real keeper into journal, PostgreSQL and snapshot, without HTTP.

Used by the questions about durability: what comes of it is what a shard leaves that served the load and stopped.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec

from bench import workload
from bench.plan import Plan, tracked
from constellation.config import Settings
from constellation.records import Change
from constellation.shard import Shard
from constellation.storage.keeper import JournaledKeeper, open_keeper

PATTERNS_A_CHANGE = 1_000


def settings_in(directory: str, plan: Plan) -> Settings:
    """Those of a shard with room for the plan's load that keeps it in a directory."""
    return msgspec.structs.replace(workload.shard_settings(plan.patterns), data_dir=directory)


def changes(shard: Shard) -> Iterator[Change]:
    """All that a shard holds, so many patterns a change."""
    return (piece.change for piece in shard.pieces(PATTERNS_A_CHANGE))


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[JournaledKeeper]:
    """The keeper of a directory; closed in order, so that everything is in the database and in a snapshot."""
    keeper = await open_keeper(settings)
    assert isinstance(keeper, JournaledKeeper)
    try:
        yield keeper
    finally:
        await keeper.close()


def fill(settings: Settings, shard: Shard) -> None:
    """Bring all that a shard holds into a directory that is empty."""
    asyncio.run(_fill(settings, shard))


async def _fill(settings: Settings, shard: Shard) -> None:
    async with opened(settings) as keeper:
        keeper.begin(shard)
        assert keeper.write_behind is not None
        for change in tracked(changes(shard), "keeping the load"):
            await keeper.kept(keeper.keep(change))
            await keeper.write_behind.flush()

"""What a shard keeps, made fast: a load goes through a real keeper into journal, PostgreSQL and snapshot, without HTTP.

Used by the questions about durability: what comes of it is what a shard leaves that served the load and stopped.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import numpy as np

from bench import workload
from bench.loaded import Loaded
from bench.plan import Plan, tracked
from constellation.config import Settings
from constellation.records import Change, TrendCells
from constellation.storage.keeper import JournaledKeeper, open_keeper

PATTERNS_A_CHANGE = 5_000


def settings_in(directory: str, plan: Plan) -> Settings:
    """Those of a shard with room for the plan's load that keeps it in a directory."""
    return msgspec.structs.replace(workload.shard_settings(plan.patterns), data_dir=directory)


def changes(loaded: Loaded) -> Iterator[Change]:
    """All devices and patterns of the load, so many patterns a change."""
    households = loaded.households
    devices = PATTERNS_A_CHANGE // workload.PATTERNS_A_DEVICE
    no_cells = TrendCells([], np.empty(0, np.uint32), np.empty(0, np.uint32))
    for start in range(0, len(households), devices):
        keys = {
            households.device_ids[household].tobytes(): {
                pattern_id.tobytes() for pattern_id in households.ids[households.rows_of(household)]
            }
            for household in range(start, min(start + devices, len(households)))
        }
        yield loaded.shard.read(keys, [], no_cells)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[JournaledKeeper]:
    """The keeper of a directory; closed in order, so that everything is in the database and in a snapshot."""
    keeper = await open_keeper(settings)
    assert isinstance(keeper, JournaledKeeper)
    try:
        yield keeper
    finally:
        await keeper.close()


def fill(settings: Settings, loaded: Loaded) -> None:
    """Bring the load into a directory that is empty."""
    asyncio.run(_fill(settings, loaded))


async def _fill(settings: Settings, loaded: Loaded) -> None:
    async with opened(settings) as keeper:
        keeper.begin(loaded.shard)
        assert keeper.write_behind is not None
        total = -(-loaded.households.films.size // PATTERNS_A_CHANGE)
        for change in tracked(changes(loaded), "keeping the load", total):
            await keeper.kept(keeper.keep(change))
            await keeper.write_behind.flush()

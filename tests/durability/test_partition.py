"""The primary vanishes without a word, no connection ends, and a standby that is behind takes over."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from constellation import limits
from constellation.config import Settings
from constellation.shard import Shard
from constellation.storage import connections
from constellation.storage.keeper import Keeper
from tests.durability.ledger import Ledger, Tv, request_of
from tests.durability.life import restored, stored, until
from tests.durability.test_failover import cut_off, has_all, query, replicated


def test_standby_behind_a_primary_that_went_silent_is_caught_up(
    folder: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "COMMAND_S_MAX", 1)
    monkeypatch.setattr(connections, "CONNECT_S_MAX", 1)
    monkeypatch.setattr(limits, "FLUSH_RETRY_S_MAX", 1.0)

    async def scenario() -> None:
        ledger = Ledger(rng)
        before, after = ledger.tvs[:4], ledger.tvs[4:]
        async with replicated(folder) as pair:
            keeper, shard = await restored(
                Settings(
                    data_dir=str(folder / "shard"),
                    database_url=pair.url,
                    max_devices=1_000,
                    max_patterns=10_000,
                    quality_threshold=0.5,
                    serve_threshold=0.5,
                )
            )
            working = asyncio.create_task(keeper.run())
            try:
                await _sync(ledger, ledger.tvs, keeper, shard)
                await until(lambda: has_all(ledger, pair.primary))
                await cut_off(pair.standby)
                await _sync(ledger, before, keeper, shard)
                await until(lambda: has_all(ledger, pair.primary))
                pair.to_primary.stall()
                await _sync(ledger, after, keeper, shard)
                await query(pair.standby, "SELECT pg_promote()")
                await until(lambda: has_all(ledger, pair.standby))
                ledger.check_stored(await stored(pair.standby.url))
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                await keeper.close()

    asyncio.run(scenario())


async def _sync(ledger: Ledger, tvs: list[Tv], keeper: Keeper, shard: Shard) -> None:
    for tv in tvs:
        request = request_of(ledger.new_delta(tv))
        shard.apply(request, time.time())
        await keeper.kept(keeper.keep(shard.change))
        ledger.model.apply(request, time.time())

"""Replies that get lost, deltas that come again, and old ones that come late."""

import asyncio
from pathlib import Path

import numpy as np

from tests.durability.ledger import Ledger
from tests.durability.life import SOAKING, kill, living, stored_in

ROUNDS = 20 if SOAKING else 2


def test_lost_replies_and_late_duplicates_change_nothing(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        ledger.lost_share = 0.1
        for _ in range(ROUNDS):
            async with living(folder) as server:
                await ledger.settle(server.url)
                async with ledger.syncing(server.url):
                    await ledger.more(200)
                await ledger.check_served(server.url)
                await ledger.settle(server.url)
                await kill(server)
        assert ledger.duplicates
        await ledger.check_life(folder)
        ledger.check_stored(await stored_in(folder))

    asyncio.run(scenario())

"""A household that was forgotten stays forgotten."""

import asyncio
from pathlib import Path

import numpy as np

from tests.durability.ledger import Ledger
from tests.durability.life import kill, living, stop, stored_in


def test_forgotten_device_stays_forgotten_over_kills_and_late_retries(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        gone, again = ledger.tvs[:2]
        async with living(folder) as server:
            async with ledger.syncing(server.url):
                await ledger.more(200)
            await ledger.settle(server.url)
            for tv in (gone, again):
                await ledger.forget(server.url, tv)
            await kill(server)
        async with living(folder) as server:
            await ledger.check_served(server.url)
            for tv in (gone, again):
                await ledger.send_old(server.url, tv.sent[-1])
                await ledger.send_old(server.url, tv.sent[0])
            await ledger.check_served(server.url)
            await ledger.sync_once(server.url, again)
            await ledger.check_served(server.url)
            await kill(server)
        async with living(folder) as server:
            await ledger.send_old(server.url, gone.sent[-1])
            await ledger.check_served(server.url)
            await ledger.check_trends(server.url)
            await stop(server)
        stored = await stored_in(folder)
        assert gone.id not in stored.sequences and again.id in stored.sequences
        ledger.check_stored(stored)

    asyncio.run(scenario())

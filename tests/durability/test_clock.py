"""A clock that steps an hour back and forth: what was acknowledged is there, and versions grow all the same."""

import asyncio
from pathlib import Path

import httpx
import numpy as np

from tests.durability.ledger import Ledger
from tests.durability.life import SOAKING, kill, living, stop, stored_in

LIVES = 10 if SOAKING else 2
STEPPING = "tests.durability.stepping_clock"


def test_stepping_clock_loses_nothing(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger, version = Ledger(rng), 0
        for _ in range(LIVES):
            async with living(folder, "--snapshot-every-s", "1", program=STEPPING) as server:
                await ledger.check_served(server.url)
                await ledger.settle(server.url)
                assert await _version(server.url) >= version
                async with ledger.syncing(server.url):
                    for _ in range(6):
                        await ledger.more(60)
                        await asyncio.sleep(0.2)  # another step of the clock
                        grown = await _version(server.url)
                        assert grown > version
                        version = grown
                    await kill(server)
        async with living(folder, program=STEPPING) as server:
            await ledger.check_served(server.url)
            await ledger.settle(server.url)
            assert await _version(server.url) >= version
            await stop(server)
        ledger.check_stored(await stored_in(folder))

    asyncio.run(scenario())


async def _version(url: str) -> int:
    async with httpx.AsyncClient() as client:
        return int((await client.get(f"{url}/api/v1/sync/version")).raise_for_status().json()["version"])

"""kill -9 of the shard and of its database, at any moment under load."""

import asyncio
import functools
import os
import signal
from pathlib import Path

import numpy as np

from tests.durability.ledger import Ledger
from tests.durability.life import SOAKING, drained, kill, living, stop, stored_in, until

KILLS = 50 if SOAKING else 5


def test_killed_shard_has_all_that_it_acknowledged(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        for _ in range(KILLS):
            async with living(folder) as server:
                await ledger.check_served(server.url)
                await ledger.settle(server.url)
                await ledger.check_served(server.url)
                async with ledger.syncing(server.url):
                    await ledger.more(int(rng.integers(1, 300)))
                    await kill(server)
        await ledger.check_life(folder)
        ledger.check_stored(await stored_in(folder))

    asyncio.run(scenario())


def test_killed_postmaster_is_noticed_by_no_device(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        async with living(folder) as server:
            async with ledger.syncing(server.url):
                for _ in range(KILLS // 2):
                    before = _postmaster(folder)
                    await ledger.more(int(rng.integers(1, 200)))
                    os.kill(before, signal.SIGKILL)
                    await until(functools.partial(_is_another, folder, before))
                    await ledger.more(100)
            assert ledger.refusals == []
            await until(lambda: drained(server))
            await ledger.check_served(server.url)
            await stop(server)
        ledger.check_stored(await stored_in(folder))

    asyncio.run(scenario())


def _is_another(data_dir: Path, before: int) -> bool:
    return _postmaster(data_dir) not in (0, before)


def _postmaster(data_dir: Path) -> int:
    """The last one of which the file tells."""
    try:
        return int((data_dir / "postgres" / "postmaster.pid").read_text().split("\n")[0])
    except (FileNotFoundError, ValueError):
        return 0

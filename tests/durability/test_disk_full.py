"""The journal's disk is full: syncs are refused, what was acknowledged stays, and all goes on when there is room."""

import asyncio
import resource
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.api.process import Server
from tests.durability.ledger import Ledger
from tests.durability.life import kill, living, postgres, stored, until

ROOM_BYTES = 256 << 10


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
def test_full_disk_refuses_syncs_and_loses_nothing(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        async with postgres(folder / "database") as database:
            url = ("--database-url", database.url)
            async with living(folder / "shard", *url) as server:
                async with ledger.syncing(server.url):
                    await ledger.more(100)
                await fill_up_to_refusal(ledger, server, folder / "shard")
                limit_files(server, resource.RLIM_INFINITY)
                await until(lambda: ledger.resend(server.url))
                await ledger.check_served(server.url)
                async with ledger.syncing(server.url):
                    await ledger.more(100)
                await fill_up_to_refusal(ledger, server, folder / "shard")
                await kill(server)
            await ledger.check_life(folder / "shard", *url)
            ledger.check_stored(await stored(database.url))

    asyncio.run(scenario())


async def fill_up_to_refusal(ledger: Ledger, server: Server, data_dir: Path) -> None:
    """Little more can be written to any file; every device syncs until it is refused."""
    ledger.refusals.clear()
    largest = max(file.stat().st_size for file in data_dir.glob("journal.sqlite*"))
    limit_files(server, largest + ROOM_BYTES)
    async with ledger.syncing(server.url):
        await until(lambda: len(ledger.refusals) == len(ledger.tvs))
    assert all('503 {"type"' in said and '"code":"storage"' in said for said in ledger.refusals), ledger.refusals
    ledger.refusals.clear()


def limit_files(server: Server, n_bytes: int) -> None:
    _, hard = psutil.Process(server.child.pid).rlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(server.child.pid, resource.RLIMIT_FSIZE, (n_bytes, hard))

"""The way to the database is cut: between flushes, in the middle of one, and for a while."""

import asyncio
from pathlib import Path

import httpx
import numpy as np

from tests.api.process import Server
from tests.api.test_metrics import scrape
from tests.durability.ledger import Ledger
from tests.durability.life import SOAKING, WAIT_S_MAX, drained, living, postgres, stop, stored, until
from tests.storage.proxy import CutProxy

CUTS = 60 if SOAKING else 4
CIRCUIT = "constellation_database_circuit"
FLUSH_BYTES = 100_000
"""About what a flush sends while all devices sync; so that cuts hit all of its parts, connecting included."""


def test_database_that_is_away_is_noticed_by_no_device(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        async with postgres(folder / "database") as database, CutProxy(database.url) as proxy:
            async with living(folder / "shard", "--database-url", proxy.url) as server:
                async with ledger.syncing(server.url):
                    await ledger.more(100)
                    proxy.cut()
                    attempts = proxy.accepted
                    await until(lambda: proxy.accepted >= attempts + 3)
                    await ledger.more(100)
                    assert not await drained(server)
                    await check_circuit(server, {"open", "half-open"}, "failed")
                    proxy.restore()
                    await ledger.more(100)
                assert ledger.refusals == []
                await until(lambda: drained(server))
                await check_circuit(server, {"closed"}, "ok")
                ledger.check_stored(await stored(database.url))
                proxy.cut()
                async with ledger.syncing(server.url):
                    await ledger.more(100)
                await stop(server)
                assert ledger.refusals == []
            proxy.restore()
            await ledger.check_life(folder / "shard", "--database-url", proxy.url)
            ledger.check_stored(await stored(database.url))

    asyncio.run(scenario())


async def check_circuit(server: Server, states: set[str], status: str) -> None:
    """As the metric and the detailed health tell it."""
    scraped = await asyncio.to_thread(scrape, server.metrics_url)
    circuit = {dict(labels)["state"]: on for (name, labels), on in scraped.items() if name == CIRCUIT}
    assert circuit.keys() == {"closed", "open", "half-open"}
    assert [state in states for state, on in circuit.items() if on] == [True]
    async with httpx.AsyncClient() as client:
        database = (await client.get(f"{server.url}/health/detailed")).json()["components"]["database"]
    assert database["status"] == status and database["circuit"] in states


def test_flush_that_is_cut_anywhere_is_neither_lost_nor_doubled(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        async with (
            postgres(folder / "database") as database,
            CutProxy(database.url) as proxy,
            living(folder / "shard", "--database-url", proxy.url) as server,
        ):
            async with ledger.syncing(server.url):
                for _ in range(CUTS):
                    proxy.was_cut.clear()
                    proxy.cut_after(int(rng.integers(1, FLUSH_BYTES)))
                    await asyncio.wait_for(proxy.was_cut.wait(), WAIT_S_MAX)
            assert ledger.refusals == []
            await until(lambda: drained(server))
            ledger.check_stored(await stored(database.url))
            await ledger.check_served(server.url)
            await stop(server)

    asyncio.run(scenario())

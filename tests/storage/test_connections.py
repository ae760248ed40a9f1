"""Connections that are lost at any moment: whoever uses them hears that the database is away, and nothing else."""

import asyncio
import random

from constellation.storage.connections import Connections, DatabaseUnavailable, open_pool
from tests.storage.conftest import execute
from tests.storage.proxy import CutProxy

CUTS, USERS = 150, 4
ENDED_BY_THE_SERVER = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def test_whenever_a_connection_is_lost_the_database_is_unavailable(url: str) -> None:
    """In a transaction too, whose end asyncpg then tries to send on what is no connection any more."""

    async def use(connections: Connections, stopped: asyncio.Event) -> int:
        lost = 0
        while not stopped.is_set():
            try:
                async with connections.connection() as connection, connection.transaction():
                    await connection.execute("INSERT INTO written SELECT generate_series(1, 20)")
                    await connection.fetchval("SELECT count(*) FROM written")
            except DatabaseUnavailable:
                lost += 1
            await asyncio.sleep(0)
        return lost

    async def scenario() -> None:
        await execute(url, "CREATE TABLE written (number integer)")
        rng, stopped = random.Random(1), asyncio.Event()
        async with CutProxy(url) as proxy:
            connections = Connections(proxy.url, await open_pool(proxy.url))
            users = [asyncio.create_task(use(connections, stopped)) for _ in range(USERS)]
            for _ in range(CUTS):
                proxy.cut_after(rng.randrange(2_000))
                await asyncio.sleep(rng.uniform(0, 0.02))
                proxy.cut()
                proxy.restore()
                await asyncio.sleep(rng.uniform(0, 0.02))
                await execute(url, ENDED_BY_THE_SERVER)
            stopped.set()
            assert sum(await asyncio.gather(*users)) > CUTS / 2
            await connections.close()

    asyncio.run(scenario())

"""A gate in a database: whoever gets a row past a point waits there, until it is killed or cut off."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg

from tests.api.process import START_S_MAX

_LOCK = 4_711


@contextlib.asynccontextmanager
async def gated(url: str, event: str, condition: str = "true") -> AsyncIterator[None]:
    """Nobody does `event` (such as `INSERT ON rounds`) to rows that meet the condition within the block, which begins
    at once; who tries is cut off at its end."""
    keeper = await asyncpg.connect(url)
    try:
        await keeper.execute(
            "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_advisory_xact_lock({_LOCK}); RETURN coalesce(NEW, OLD); END $$;"
            f" CREATE TRIGGER gate BEFORE {event} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION wait_at_gate();"
            f" SELECT pg_advisory_lock({_LOCK})"
        )
        yield
        await keeper.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE NOT granted")
        await keeper.execute("DROP FUNCTION wait_at_gate CASCADE")
    finally:
        await keeper.close()


async def until_rows(url: str, query: str) -> None:
    """Until the query finds something."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(START_S_MAX):
            while not await connection.fetch(query):
                await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def gate_reached(url: str) -> None:
    """Until somebody waits at the gate."""
    await until_rows(url, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")

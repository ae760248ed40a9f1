"""The database's primary dies and a standby takes over, up to date or behind."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import numpy as np

from constellation.storage import embedded
from constellation.storage.embedded import EmbeddedServer
from tests.api.process import Server
from tests.durability.ledger import Ledger
from tests.durability.life import drained, living, postgres, stop, stored, until
from tests.storage.proxy import CutProxy


class Pair(NamedTuple):
    """A primary with its standby, and the address that leads to whichever takes writes."""

    primary: EmbeddedServer
    standby: EmbeddedServer
    to_primary: CutProxy
    url: str


def test_standby_that_is_up_to_date_takes_over(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        async with replicated(folder) as pair, living(folder / "shard", "--database-url", pair.url) as server:
            async with ledger.syncing(server.url):
                await ledger.more(150)
                os.kill(pair.primary.pid, signal.SIGKILL)
                await ledger.more(50)
                await query(pair.standby, "SELECT pg_promote()")
                await ledger.more(50)
            await check_all(ledger, server, pair)

    asyncio.run(scenario())


def test_standby_that_is_behind_is_caught_up_from_the_journal(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        async with replicated(folder) as pair, living(folder / "shard", "--database-url", pair.url) as server:
            async with ledger.syncing(server.url):
                await ledger.more(150)
            await until(lambda: drained(server))
            await cut_off(pair.standby)
            async with ledger.syncing(server.url):
                await ledger.more(150)
            forgotten = ledger.tvs.pop()
            await ledger.forget(server.url, forgotten)
            await until(lambda: drained(server))
            ledger.check_stored(await stored(pair.primary.url))
            lacking = await sequences(pair.standby)
            assert forgotten.id in lacking and all(lacking[tv.id] < tv.sequence for tv in ledger.tvs)
            os.kill(pair.primary.pid, signal.SIGKILL)
            await query(pair.standby, "SELECT pg_promote()")
            await until(lambda: has_all(ledger, pair.standby))
            ledger.check_stored(await stored(pair.standby.url))
            async with ledger.syncing(server.url):
                await ledger.more(50)
            await check_all(ledger, server, pair)

    asyncio.run(scenario())


async def check_all(ledger: Ledger, server: Server, pair: Pair) -> None:
    """The shard and the standby that took over have what was acknowledged, and no device noticed anything."""
    assert ledger.refusals == []
    await until(lambda: drained(server))
    await ledger.check_served(server.url)
    await stop(server)
    ledger.check_stored(await stored(pair.standby.url))


@contextlib.asynccontextmanager
async def replicated(folder: Path) -> AsyncIterator[Pair]:
    """The address has ports, because that of a server on a socket names no second host."""
    async with postgres(folder / "primary") as primary, CutProxy(primary.url) as to_primary:
        await back_up(primary, folder / "standby" / "postgres")
        async with postgres(folder / "standby") as standby, CutProxy(standby.url) as to_standby:
            hosts = f"127.0.0.1:{to_primary.port},127.0.0.1:{to_standby.port}"
            options = "target_session_attrs=read-write&sslmode=disable"
            yield Pair(
                primary, standby, to_primary, f"postgresql://{embedded.USER}@{hosts}/{embedded.DATABASE}?{options}"
            )


async def back_up(server: EmbeddedServer, target: Path) -> None:
    options = ("-D", str(target), "-d", server.url, "-R", "-c", "fast", "--no-sync")
    backup = await asyncio.create_subprocess_exec(
        str(server.binaries / "pg_basebackup"), *options, stderr=asyncio.subprocess.PIPE
    )
    _, said = await backup.communicate()
    assert backup.returncode == 0, said.decode()


async def cut_off(standby: EmbeddedServer) -> None:
    """It gets nothing more. Pausing its replay would not do: being promoted it replays all that it has received."""
    await query(standby, "ALTER SYSTEM SET primary_conninfo = ''")
    await query(standby, "SELECT pg_reload_conf()")
    await until(lambda: receives_nothing(standby))


async def receives_nothing(standby: EmbeddedServer) -> bool:
    return not await query(standby, "SELECT pid FROM pg_stat_wal_receiver")


async def sequences(server: EmbeddedServer) -> dict[bytes, int]:
    return {row["id"].bytes: row["sequence"] for row in await query(server, "SELECT id, sequence FROM devices")}


async def has_all(ledger: Ledger, server: EmbeddedServer) -> bool:
    there = await sequences(server)
    return all(there.get(tv.id) == tv.sequence for tv in ledger.tvs)


async def query(server: EmbeddedServer, statement: str) -> list[Any]:
    connection = await asyncpg.connect(server.url)
    try:
        rows: list[Any] = await connection.fetch(statement)
        return rows
    finally:
        await connection.close()

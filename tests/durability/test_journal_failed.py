"""A shard whose journal failed is restored from disk in the same process, whatever else is out of order meanwhile."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from constellation import limits
from constellation.api.background import running
from constellation.api.keeping import load
from constellation.api.service import Service
from constellation.codebook import default_codebook
from constellation.config import Settings
from constellation.errors import StorageFailed
from constellation.model import SyncRequest
from constellation.shard import Shard
from constellation.storage import journal
from constellation.storage.embedded import EmbeddedServer
from constellation.storage.keeper import JOURNAL_FILE, JournaledKeeper, open_keeper
from tests.durability.life import postgres, until
from tests.shard.material import request

FIRST, SECOND = request(1, [(7, 0.9, 10)], sequence=1), request(2, [(8, 0.9, 10)], sequence=1)


def test_shard_is_restored_when_the_database_is_back(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It goes away in the middle of restoring, and the attempts after that do not reach it."""

    async def scenario() -> None:
        async with postgres(folder / "database") as database, serving(folder, database) as service:
            await sync(service, FIRST)
            await until(lambda: flushed(service))
            async with held_up(database):
                await refuse(service, SECOND)
                await until(lambda: is_waiting(database))
                await shut_down(database)
            await until(lambda: "the shard cannot be restored yet" in caplog.text)
            assert isinstance(service.refusal(), StorageFailed) and not service.broken
            await database.ensure_running()
            await until(lambda: service.refusal() is None)
            assert service.stats().total_devices == 1
            await sync(service, SECOND)

    asyncio.run(scenario())


def test_expiry_that_cannot_be_kept_goes_on_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXPIRE_EVERY_S", 0.01)
    monkeypatch.setattr(journal, "BUSY_S_MAX", 0.01)

    async def scenario() -> None:
        async with postgres(folder / "database") as database, serving(folder, database) as service:
            await sync(service, FIRST)
            with contextlib.closing(sqlite3.connect(folder / "shard" / JOURNAL_FILE)) as other:
                other.execute("BEGIN IMMEDIATE")
                service.clock = lambda: time.time() + limits.DAY_S * (service.settings.device_ttl_days + 1)
                await until(lambda: isinstance(service.refusal(), StorageFailed))
            await until(lambda: service.refusal() is None and not service.stats().total_devices)
            assert not service.broken

    asyncio.run(scenario())


@contextlib.asynccontextmanager
async def serving(folder: Path, database: EmbeddedServer) -> AsyncIterator[Service]:
    """A service in this process with all of its background, without sockets."""
    settings = Settings(
        data_dir=str(folder / "shard"),
        database_url=database.url,
        max_devices=1_000,
        max_patterns=10_000,
        access_log=False,
    )
    keeper = await open_keeper(settings)
    service = Service(settings, Shard(settings), default_codebook(), keeper=keeper)
    try:
        async with running(service):
            await load(service)
            yield service
    finally:
        await keeper.close()


async def sync(service: Service, delta: SyncRequest) -> None:
    service.admit_change()
    service.shard.apply(delta, service.clock())
    await service.keeper.kept(service.keep())


async def refuse(service: Service, delta: SyncRequest) -> None:
    """The journal is full, until it is opened again."""
    assert isinstance(service.keeper, JournaledKeeper)
    service.keeper.journal.max_bytes = 0
    service.shard.apply(delta, service.clock())
    with pytest.raises(StorageFailed):
        service.keep()


def flushed(service: Service) -> bool:
    measures = service.keeper.measures()
    return measures is not None and measures.backlog_records == 0


@contextlib.asynccontextmanager
async def held_up(database: EmbeddedServer) -> AsyncIterator[None]:
    """Whoever reads the devices waits; claiming the database does not need them."""
    connection = await asyncpg.connect(database.url)
    try:
        await connection.execute("BEGIN; LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        connection.terminate()


async def is_waiting(database: EmbeddedServer) -> bool:
    connection = await asyncpg.connect(database.url)
    try:
        waiting: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return waiting
    finally:
        await connection.close()


async def shut_down(database: EmbeddedServer) -> None:
    """As an administrator does who does not wait for anybody."""
    server = psutil.Process(database.pid)
    os.kill(database.pid, signal.SIGINT)
    await until(lambda: server.status() == psutil.STATUS_ZOMBIE)

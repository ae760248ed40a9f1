"""The keeper: what a shard holds that could not be kept goes nowhere, and a shard is restored without it."""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from msgspec import structs

from constellation import limits
from constellation.config import Settings
from constellation.errors import StorageFailed
from constellation.model import SyncRequest
from constellation.shard import Shard
from constellation.storage import journal, snapshot
from constellation.storage.journal import JournalFailed
from constellation.storage.keeper import JOURNAL_FILE, JournaledKeeper, Measures
from tests.durability.life import restored, stored, until
from tests.shard.material import START, id_of, request
from tests.storage.proxy import CutProxy

KEPT = request(1, [(7, 0.9, 10)], sequence=1)
REFUSED = request(1, [(8, 0.9, 10)], [(7, 0.95, 5)], sequence=2)

Refuse = Callable[[JournaledKeeper, Shard, Path], Awaitable[None]]


@pytest.fixture
def settings(url: str) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory() as folder:
        yield Settings(data_dir=folder, database_url=url, max_devices=1_000, max_patterns=10_000)


@asynccontextmanager
async def living(settings: Settings) -> AsyncIterator[tuple[JournaledKeeper, Shard]]:
    """A shard and what keeps it; nothing runs in the background."""
    keeper, shard = await restored(settings)
    try:
        yield keeper, shard
    finally:
        await keeper.close()


async def sync(keeper: JournaledKeeper, shard: Shard, delta: SyncRequest) -> None:
    shard.apply(delta, START)
    await keeper.kept(keeper.keep(shard.change))


async def refuse_for_it_is_full(keeper: JournaledKeeper, shard: Shard, folder: Path) -> None:
    bound = keeper.journal.max_bytes
    keeper.journal.max_bytes = keeper.journal.bytes_stored
    with pytest.raises(StorageFailed, match="do not fit"):
        await sync(keeper, shard, REFUSED)
    keeper.journal.max_bytes = bound


async def refuse_for_it_fails(keeper: JournaledKeeper, shard: Shard, folder: Path) -> None:
    with closing(sqlite3.connect(folder / JOURNAL_FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFailed, match="cannot be written"):
            await sync(keeper, shard, REFUSED)


@pytest.fixture
def folder(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(journal, "BUSY_S_MAX", 0.01)
    return Path(settings.data_dir)


REFUSALS = pytest.mark.parametrize("refuse", [refuse_for_it_is_full, refuse_for_it_fails])


@REFUSALS
def test_refused_change_is_not_flushed(settings: Settings, folder: Path, refuse: Refuse) -> None:
    """Though it changed a device that waits to be."""

    async def scenario() -> None:
        async with living(settings) as (keeper, shard):
            await sync(keeper, shard, KEPT)
            await refuse(keeper, shard, folder)
            assert keeper.write_behind is not None
            with pytest.raises(JournalFailed):
                await keeper.write_behind.flush()
        assert (await stored(settings.database_url)).sequences == {}
        async with living(settings):
            pass
        await check_stored(settings)

    asyncio.run(scenario())


@REFUSALS
def test_refused_change_is_in_no_snapshot(settings: Settings, folder: Path, refuse: Refuse) -> None:
    """The process is stopped when the journal is open again and the shard is not restored yet."""

    async def scenario() -> None:
        async with living(settings) as (keeper, shard):
            await sync(keeper, shard, KEPT)
            assert keeper.write_behind is not None
            await keeper.write_behind.flush()
            await refuse(keeper, shard, folder)
            await keeper.reopen()
        assert not (folder / snapshot.FILE).exists()
        await check_stored(settings)

    asyncio.run(scenario())


def test_circuit_opens_while_the_database_is_away_and_is_half_open_while_it_is_tried(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FLUSH_EVERY_S", 0.01)
    monkeypatch.setattr(limits, "FLUSH_RETRY_S_MAX", 0.01)

    async def scenario() -> None:
        async with (
            CutProxy(settings.database_url) as proxy,
            living(structs.replace(settings, database_url=proxy.url)) as (keeper, shard),
        ):
            working = asyncio.create_task(keeper.run())
            await sync(keeper, shard, KEPT)
            await until(lambda: told(keeper).backlog_records == 0)
            assert told(keeper).circuit == "closed" and not told(keeper).failing
            proxy.cut()
            await sync(keeper, shard, request(2, [(9, 0.9, 10)], sequence=1))
            await until(lambda: told(keeper).circuit == "open")
            assert "database" in told(keeper).failing
            proxy.restore()
            proxy.stall()
            attempts = proxy.accepted
            await until(lambda: proxy.accepted > attempts)
            assert told(keeper).circuit == "half-open" and "database" in told(keeper).failing
            proxy.restore()
            await until(lambda: told(keeper).backlog_records == 0)
            assert told(keeper).circuit == "closed" and not told(keeper).failing
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    asyncio.run(scenario())


def told(keeper: JournaledKeeper) -> Measures:
    measures = keeper.measures()
    assert measures is not None
    return measures


async def check_stored(settings: Settings) -> None:
    """The database has what was kept and nothing of what was refused."""
    held = await stored(settings.database_url)
    assert held.sequences == {id_of(1): 1}
    assert {key: count for (_, key), (_, _, count, _, _) in held.patterns.items()} == {id_of(7): 10}


@REFUSALS
def test_nothing_is_kept_of_a_shard_that_holds_a_refused_change(
    settings: Settings, folder: Path, refuse: Refuse
) -> None:
    """Not even a repeated delta: the shard takes it for one that it applied."""

    async def scenario() -> None:
        async with living(settings) as (keeper, shard):
            keeper.admit()
            await refuse(keeper, shard, folder)
            for _ in range(2):
                with pytest.raises(StorageFailed):
                    keeper.admit()
                with pytest.raises(StorageFailed):
                    await sync(keeper, shard, request(2, [(9, 0.9, 10)], sequence=1))
                await keeper.reopen()
            again = Shard(settings, START, keeper.tombstone_key)
            await keeper.restore(again)
            keeper.begin(again)
            keeper.admit()
            assert again.stats(START).total_devices == 0

    asyncio.run(scenario())

"""A shard that goes on from a snapshot: taken while it serves and when it stops; and one that was damaged."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from constellation.storage import snapshot
from tests.durability.ledger import Ledger
from tests.durability.life import SOAKING, kill, living, stop, until

KILLS = 20 if SOAKING else 3
EVERY_S = ("--snapshot-every-s", "1")

Told = Callable[[], str]


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Told:
    """From where the last shard was restored, as its log says."""

    def last() -> str:
        lines = [line for line in capfd.readouterr().err.splitlines() if '"event":"restoring"' in line]
        return lines[-1].split('"source":"')[1].split('"')[0]

    return last


def test_killed_shard_goes_on_from_what_it_wrote_while_serving(
    folder: Path, rng: np.random.Generator, told: Told
) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        for life in range(KILLS):
            async with living(folder, *EVERY_S) as server:
                assert told() == ("the snapshot" if life else "the database")
                await ledger.check_served(server.url)
                await ledger.settle(server.url)
                async with ledger.syncing(server.url):
                    before = _modified(folder)
                    await until(lambda before=before: _modified(folder) > before)  # type: ignore[misc]
                    await ledger.more(int(rng.integers(1, 300)))
                    await kill(server)
        await ledger.check_life(folder)
        assert told() == "the snapshot"

    asyncio.run(scenario())


def test_damaged_snapshot_is_left_for_the_database(folder: Path, rng: np.random.Generator, told: Told) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        async with living(folder) as server:
            async with ledger.syncing(server.url):
                await ledger.more(300)
            await stop(server)
        path = folder / snapshot.FILE
        whole = bytearray(path.read_bytes())
        whole[int(rng.integers(0, len(whole)))] ^= 1
        path.write_bytes(whole)
        told()
        async with living(folder) as server:
            assert told() == "the database"
            await ledger.check_served(server.url)
            await stop(server)
        async with living(folder) as server:
            assert told() == "the snapshot"
            await ledger.check_served(server.url)
            await stop(server)

    asyncio.run(scenario())


def _modified(folder: Path) -> int:
    try:
        return (folder / snapshot.FILE).stat().st_mtime_ns
    except FileNotFoundError:
        return 0

"""A backup is the database, whole or refused; restored it is the database again, without those who were forgotten."""

import asyncio
import contextlib
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from constellation.cli.main import main
from constellation.client import SyncClient
from constellation.model import Context
from constellation.records import Change, Forgotten, TrendCells, empty_change, encode
from constellation.shard.tombstones import Tombstones
from constellation.storage import backup as backups
from constellation.storage import snapshot
from constellation.storage.backup import Refused, write_backup
from constellation.storage.database import WrongJournal
from constellation.storage.frames import WrongFile, part_of
from constellation.storage.journal import Journal
from constellation.storage.restore import Restored, Verified, restore, verify
from constellation.storage.writing import write
from tests.api.process import Server, environment, serving, wait_for
from tests.storage.conftest import JOURNAL, claimed, execute, opened, some_change

NOW = 1_760_000_000
DAMAGED_EVERY = 11
SERVE = ("--storage", "postgres", "--max-devices", "1000", "--max-patterns", "10000")
ROWS = {
    "patterns": "row",
    "content": "row",
    "trend_counts": "row",
    "tombstones": "row",
    "devices": "(id, sequence, fingerprint, cursor, last_sync, credit_hour, credit_used)",
    "shards": "(id, version, tombstone_key)",
}

_numbers = itertools.count()


@pytest.fixture
def other_url(server: str) -> str:
    """A second empty database."""
    name = f"restored_{next(_numbers)}"
    asyncio.run(execute(server, f"CREATE DATABASE {name}"))
    return server.replace("/postgres?", f"/{name}?")


def nothing(_: int) -> None:
    """Of the progress."""


async def rows(url: str) -> dict[str, list[str]]:
    """Everything in the database that a backup is to keep, as text."""
    found = {}
    for table, columns in ROWS.items():
        listed = await execute(url, f"SELECT {columns}::text FROM {table} AS row ORDER BY 1")
        found[table] = [row[0] for row in listed]
    return found


async def filled(url: str, change: Change, position: int = 7) -> bytes:
    """The database with this in it; its tombstone key."""
    async with opened(url) as database:
        claim = await claimed(database)
        await write(database, claim, change, position)
        return claim.tombstone_key


async def backed_up(url: str, path: Path) -> Verified:
    async with opened(url) as database:
        await write_backup(database, path, force=False, now=NOW, advance=nothing)
    return verify(path, nothing)


async def put_back(url: str, backup: Verified, journal: Path, force: bool = False) -> Restored:
    async with opened(url) as database:
        return await restore(database, backup, "shard-1", journal, force=force, now=NOW, advance=nothing)


def forgetting(device: bytes, key: bytes, sequence: int = 5, at: int = NOW + 1) -> Change:
    change = empty_change(2)
    change.forgotten = [Forgotten(device, Tombstones(key).hash_of(device), sequence, at)]
    return change


def journal_with(path: Path, *changes: Change) -> None:
    journal = Journal.open(path, 1 << 22)
    for change in changes:
        journal.append(encode(change))
    journal.commit()
    journal.close()


async def devices_in(url: str) -> set[bytes]:
    owners = await execute(url, "SELECT DISTINCT device_id FROM patterns")
    devices = {row["id"].bytes for row in await execute(url, "SELECT id FROM devices")}
    assert {row["device_id"].bytes for row in owners} <= devices
    return devices


@pytest.mark.parametrize("n", [0, 1, 700])
def test_everything_comes_back(
    url: str, other_url: str, tmp_path: Path, rng: np.random.Generator, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("constellation.storage.loading.CHANGE_ROWS_MAX", 100)  # several frames of each kind

    async def scenario() -> None:
        change = some_change(n, rng, version=2**53 - 1) if n else empty_change(3)
        change.forgotten = [Forgotten(uuid4().bytes, bytes([k]) * 16, k, NOW) for k in range(3)]
        await filled(url, change)
        backup = await backed_up(url, tmp_path / "file")
        assert backup.summary.counts["patterns"] == n and backup.summary.newest_sync == max(
            change.devices.last_syncs, default=0
        )
        assert await put_back(other_url, backup, tmp_path / "journal.sqlite") == Restored(0, 0, None)
        assert await rows(other_url) == await rows(url)

    asyncio.run(scenario())


def test_file_belongs_to_its_owner_alone_and_nothing_else_is_left(
    url: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    asyncio.run(filled(url, some_change(3, rng)))
    asyncio.run(backed_up(url, tmp_path / "file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").stat().st_mode & 0o077 == 0
    with pytest.raises(Refused, match="exists"):
        asyncio.run(backed_up(url, tmp_path / "file"))


def test_backup_that_fails_leaves_the_one_before(
    url: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        await filled(url, some_change(3, rng))
        before = (await backed_up(url, tmp_path / "file")).path.read_bytes()
        monkeypatch.setattr(backups, "encode", lambda change: 1 / 0)
        async with opened(url) as database:
            with pytest.raises(ZeroDivisionError):
                await write_backup(database, tmp_path / "file", force=True, now=NOW, advance=nothing)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]

    asyncio.run(scenario())


def test_no_damage_passes(url: str, tmp_path: Path, rng: np.random.Generator) -> None:
    asyncio.run(filled(url, some_change(4, rng)))
    whole = asyncio.run(backed_up(url, tmp_path / "file")).path.read_bytes()
    damaged = tmp_path / "damaged"

    def refused(content: bytes) -> None:
        damaged.write_bytes(content)
        with pytest.raises(WrongFile, match=str(damaged)):
            verify(damaged, nothing)

    edges = [*range(64), *range(len(whole) - 64, len(whole))]
    for place in sorted({*edges, *range(0, len(whole), DAMAGED_EVERY)}):
        refused(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        refused(whole[:place])
    refused(whole + b"\0")
    refused(whole[:-16] + whole[24:])


def test_damaged_file_is_refused_before_anything_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"something else")
    assert main(["restore", str(tmp_path / "file"), "--data-dir", str(tmp_path / "data")]) == 1
    assert "is no backup" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_full_database_is_replaced_by_force_only(url: str, tmp_path: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        await filled(url, some_change(20, rng))
        expected = await rows(url)
        backup = await backed_up(url, tmp_path / "file")
        await filled(url, some_change(30, rng, version=9), position=8)
        there = await rows(url)
        with pytest.raises(Refused, match="--force"):
            await put_back(url, backup, tmp_path / "journal.sqlite")
        assert await rows(url) == there
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        await put_back(url, backup, tmp_path / "journal.sqlite", force=True)
        found = await rows(url)
        assert found.pop("shards") == there["shards"]  # the version never goes back
        assert expected.pop("shards") and found == expected

    asyncio.run(scenario())


def test_acknowledged_changes_in_the_journal_alone_are_given_up_by_force_only(
    url: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    async def scenario() -> None:
        path = tmp_path / "journal.sqlite"
        journal_with(path, some_change(1, rng))
        journal = Journal.open(path, 1 << 22)
        async with opened(url) as database:
            await database.claim("shard-1", bytes.fromhex(journal.id), "a test")
        journal.close()
        backup = await backed_up(url, tmp_path / "file")
        with pytest.raises(Refused, match="not in the database yet"):
            await put_back(url, backup, path)
        restored = await put_back(url, backup, path, force=True)
        assert restored.journal_aside is not None and restored.journal_aside.exists()

    asyncio.run(scenario())


def test_backup_of_another_shard_is_refused(url: str, other_url: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        await filled(url, empty_change(1))
        backup = await backed_up(url, tmp_path / "file")
        async with opened(other_url) as database:
            with pytest.raises(Refused, match=r"is of shard shard-1, not of shard-2"):
                await restore(
                    database, backup, "shard-2", tmp_path / "journal.sqlite", force=True, now=NOW, advance=nothing
                )

    asyncio.run(scenario())


def test_restore_that_ends_half_way_changes_nothing_and_one_that_ends_drops_the_snapshot(
    url: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        path = tmp_path / "journal.sqlite"
        journal_with(path, empty_change(1))
        before = path.read_bytes()
        snapshots = [tmp_path / snapshot.FILE, part_of(tmp_path / snapshot.FILE)]
        for left in snapshots:
            left.write_bytes(b"maybe somebody who was forgotten")
        await filled(url, some_change(20, rng))
        backup = await backed_up(url, tmp_path / "file")
        await filled(url, some_change(5, rng, version=9), position=8)
        there = await rows(url)
        monkeypatch.setattr("constellation.storage.graves.Graves.without", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await put_back(url, backup, path, force=True)
        monkeypatch.undo()
        assert await rows(url) == there
        assert path.read_bytes() == before
        async with opened(url) as database:
            assert (await claimed(database)).position == 8  # the journal of before fits
        assert all(left.exists() for left in snapshots)
        await put_back(url, backup, path, force=True)
        assert not any(left.exists() for left in snapshots)

    asyncio.run(scenario())


def test_only_the_new_journal_fits_afterwards(url: str, other_url: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "journal.sqlite"
        journal_with(path, empty_change(1))
        await filled(url, empty_change(1))
        restored = await put_back(other_url, await backed_up(url, tmp_path / "file"), path)
        assert restored.journal_aside is not None
        async with opened(other_url) as database:
            old, new = Journal.open(restored.journal_aside, 1 << 22), Journal.open(path, 1 << 22)
            for journal_id in (bytes.fromhex(old.id), JOURNAL):
                with pytest.raises(WrongJournal, match="accept-loss"):
                    await database.claim("shard-1", journal_id, "a test", wait_s=1)
            claim = await database.claim("shard-1", bytes.fromhex(new.id), "a test", wait_s=1)
            assert (new.first, claim.position, new.tail) == (1, 1, 1)
            for journal in (old, new):
                journal.close()

    asyncio.run(scenario())


def test_who_was_forgotten_stays_forgotten(url: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """One by the database, one by the journal alone; one came again before the backup was taken."""

    async def scenario() -> None:
        path = tmp_path / "journal.sqlite"
        change = some_change(4, rng)
        change.patterns.items[:] = ["film:0"] * 4
        change.patterns.item_samples[:], change.patterns.item_hours[:] = [10, 20, 40, 80], 1_000
        change.trends = TrendCells(["film:0"] * 3, *np.array([[999, 1_000, 1_001], [25, 15, 7]], np.uint32))
        stored, journaled, again, other = (device.tobytes() for device in change.devices.ids)
        key = await filled(url, empty_change(1))
        came_again = forgetting(again, key, at=NOW - 9)
        change.forgotten = came_again.forgotten
        await filled(url, change)
        backup = await backed_up(url, tmp_path / "file")
        await filled(url, forgetting(stored, key), position=8)
        journal_with(path, forgetting(journaled, key), came_again)
        restored = await put_back(url, backup, path, force=True)
        assert (restored.kept_out, restored.tombstones_lost) == (2, 0)
        assert await devices_in(url) == {again, other}
        kept = {row["hash"] for row in await execute(url, "SELECT hash FROM tombstones")}
        assert kept == {Tombstones(key).hash_of(device) for device in (stored, journaled, again)}
        cells = await execute(url, "SELECT hour, count FROM trend_counts ORDER BY hour")
        assert [tuple(cell) for cell in cells] == [(999, 10), (1_001, 7)]  # 30 less, from hour 1,000 backwards

    asyncio.run(scenario())


def test_tombstones_under_another_key_are_carried_over(
    url: str, other_url: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    async def scenario() -> None:
        change = some_change(3, rng)
        forgotten, *others = (device.tobytes() for device in change.devices.ids)
        key = await filled(url, change)
        other_key = await filled(other_url, empty_change(1))
        await filled(other_url, forgetting(forgotten, other_key), position=8)
        await filled(other_url, forgetting(UUID(int=1).bytes, other_key), position=9)
        backup = await backed_up(url, tmp_path / "file")
        restored = await put_back(other_url, backup, tmp_path / "journal.sqlite")
        assert (restored.kept_out, restored.tombstones_lost) == (1, 1)
        assert await devices_in(other_url) == set(others)
        kept = await execute(other_url, "SELECT hash, sequence FROM tombstones")
        assert [tuple(row) for row in kept] == [(Tombstones(key).hash_of(forgotten), 5)]
        assert (await execute(other_url, "SELECT tombstone_key FROM shards"))[0][0] == key

    asyncio.run(scenario())


@contextlib.contextmanager
def data_dirs() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="constellation-test-") as directory:
        yield Path(directory) / "one", Path(directory) / "two"


def constellation(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "constellation", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)


def learn(server: Server, embedding: Any) -> SyncClient:
    tv = SyncClient(server.url, uuid4())
    context = Context(time_of_day="evening", day_of_week="weekend", content_type="movie", genre_hints=("horror",))
    tv.learn(embedding, success_rate=0.9, sample_count=42, context=context)
    tv.sync()
    return tv


def test_shard_is_backed_up_while_it_serves_and_goes_on_elsewhere(tmp_path: Path, rng: np.random.Generator) -> None:
    embedding = rng.standard_normal(384).tolist()
    file = tmp_path / "file"
    with data_dirs() as (one, two):
        with serving(*SERVE, "--data-dir", str(one)) as server, learn(server, embedding):

            def is_flushed() -> bool:
                done = constellation("backup", file, "--data-dir", one, "--force")
                assert done.returncode == 0, done.stderr
                assert "journal only" in done.stdout or "no device is in it" in done.stdout
                return ", 1 devices, 1 patterns" in done.stdout

            wait_for(is_flushed, 60)
            busy = constellation("restore", file, "--data-dir", one, "--force")
            assert busy.returncode == 1 and "is owned by process" in busy.stderr
        stopped = constellation("backup", tmp_path / "stopped", "--data-dir", one)
        assert stopped.returncode == 0, stopped.stderr
        restored = constellation("restore", file, "--data-dir", two)
        assert restored.returncode == 0, restored.stderr
        with serving(*SERVE, "--data-dir", str(two)) as server, learn(server, embedding) as tv:
            assert len(tv.neighbours) == 1


def test_data_directory_without_a_database_is_not_made(tmp_path: Path) -> None:
    missing = constellation("backup", tmp_path / "file", "--data-dir", tmp_path / "missing")
    assert missing.returncode == 1 and "holds no database" in missing.stderr
    assert list(tmp_path.iterdir()) == []

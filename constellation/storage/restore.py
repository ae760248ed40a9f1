"""A backup back into the database: a file is read, refused or restored.

Constraints, what must hold:
- Before anything is changed all of the file was read and found right; then it is all or nothing: one transaction.
- Who was forgotten after the backup was taken, as far as database and journal know, stays forgotten.
- The journal from before a restore is refused by the database afterwards, wherever the restore was cut off; the
  snapshot from before is gone.
What must fail: a file that is damaged, cut off, of another kind or another shard; a database that holds something,
unless it is to be replaced.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from constellation.records import Change, Forgotten, WrongRecord, decode, empty_change, encode
from constellation.storage import frames, snapshot
from constellation.storage.backup import CHANGE, FORM, Refused, Summary, counted
from constellation.storage.database import Claim, Database
from constellation.storage.frames import LAST, Advance, Frame, WrongFile
from constellation.storage.graves import Graves
from constellation.storage.journal import Journal
from constellation.storage.keeper import owner_name
from constellation.storage.loading import Tombstone
from constellation.storage.migrating import LONG_COMMAND_S_MAX
from constellation.storage.schema import TABLES
from constellation.storage.writing import check_place, put, put_tombstones

JOURNAL_BYTES_MAX = 1 << 22


class Verified(NamedTuple):
    """A file that was read from its start to its end."""

    path: Path
    summary: Summary
    forgotten: dict[bytes, Tombstone]


class Restored(NamedTuple):
    kept_out: int
    """Devices of the backup that were forgotten after it."""
    tombstones_lost: int
    """Of devices that the backup does not know, made under another key than the backup's."""
    journal_aside: Path | None


def verify(path: Path, advance: Advance) -> Verified:
    """Read everything; `advance` is told how many bytes were read. Raises `WrongFile`."""
    counts: Counter[str] = Counter()
    forgotten: dict[bytes, Tombstone] = {}
    for read in _read(path, advance):
        if isinstance(read, Summary):
            if Counter(read.counts) != counts:
                raise WrongFile(f"{path} holds {dict(counts)} and says it holds {read.counts}")
            return Verified(path, read, forgotten)
        counts.update(counted(read))
        forgotten |= {dead.tombstone: Tombstone(*dead[1:]) for dead in read.forgotten}
    raise AssertionError("the last that is read is a summary")


async def restore(
    database: Database,
    backup: Verified,
    shard_id: str,
    journal_path: Path,
    *,
    force: bool,
    now: float,
    advance: Advance,
) -> Restored:
    """Replace what the database holds; the caller owns the data directory, whose journal is put aside.

    Its snapshot, which fits no journal any more, is deleted: it may hold who was forgotten.

    Raises `Refused`, `WrongFile`, `WrongDatabase`, `DatabaseUnavailable`, `JournalFailed`, `DamagedJournal`, OSError.
    """
    summary = backup.summary
    if summary.shard_id != shard_id:
        raise Refused(f"{backup.path} is of shard {summary.shard_id}, not of {shard_id}: say it with --shard-id")
    old = _read_journal(journal_path)
    new_path = journal_path.with_name("journal.restoring.sqlite")
    version = max(summary.version, old.version)
    new_id = _new_journal(new_path, version)
    claim = await _claim(database, shard_id, new_id)
    graves = Graves(backup.forgotten, summary.tombstone_key, claim.tombstone_key)
    try:
        async with database.connection() as connection, connection.transaction():
            await check_place(connection, claim)
            if not force:
                await _require_empty(connection, claim, old, journal_path)
            await graves.read(connection, old.forgotten)
            await connection.execute(f"TRUNCATE {', '.join(TABLES)}", timeout=LONG_COMMAND_S_MAX)
            await _put(connection, database.vector, backup, graves, advance)
            await connection.execute(
                "UPDATE shards SET journal_id = $1, position = 1, tombstone_key = $2, version = greatest(version, $3)",
                *(new_id, summary.tombstone_key, version),
            )
    except (Refused, WrongFile):  # after others it may be that the commit arrived, and this is the journal to have
        new_path.unlink()
        raise
    aside = _put_in_place(new_path, journal_path, now)
    return Restored(len(graves.kept_out), graves.lost, aside)


def _read(path: Path, advance: Advance) -> Iterator[Change | Summary]:
    """The changes, and at last the summary, once the whole file was found right. Raises `WrongFile`."""
    try:
        for frame in frames.read(path, FORM, advance):
            yield _decoded(path, frame)
    except OSError as error:  # which `Database.connection` would take for the database's
        raise WrongFile(f"{path} cannot be read: {error}") from error


def _decoded(path: Path, frame: Frame) -> Change | Summary:
    try:
        if frame.kind == LAST:
            return msgspec.msgpack.decode(frame.content, type=Summary)
        if frame.kind == CHANGE:
            return decode(frame.content)
    except (WrongRecord, msgspec.MsgspecError) as error:
        raise WrongFile(f"{path} cannot be read at byte {frame.at}: {error}") from error
    raise WrongFile(f"{path} cannot be read at byte {frame.at}: a frame of kind {frame.kind} is not known")


async def _claim(database: Database, shard_id: str, new_id: bytes) -> Claim:
    """By the journal that the database knows: so far nothing changes but the epoch."""
    async with database.connection() as connection:
        known = await connection.fetchval("SELECT journal_id FROM shards")
    return await database.claim(shard_id, known or new_id, f"{owner_name()}, restoring")


async def _require_empty(connection: Any, claim: Claim, old: "_OldJournal", journal_path: Path) -> None:
    for table in ("devices", "content"):
        if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):
            raise Refused(f"the database holds {table} already: --force replaces everything in it")
    if old.id == claim.journal_id and old.tail > claim.position:
        raise Refused(f"{journal_path} holds what is not in the database yet: --force gives it up")


async def _put(connection: Any, vector: np.dtype[Any], backup: Verified, graves: Graves, advance: Advance) -> None:
    debts: list[tuple[str, int, int]] = []
    for change in _read(backup.path, advance):
        if isinstance(change, Summary):
            if change != backup.summary:
                raise WrongFile(f"{backup.path} was replaced while it was restored")
            continue
        await put(connection, vector, graves.without(change, debts), device_position=1)
        # What a commit would have emptied.
        for (table,) in await connection.fetch(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'"
        ):
            await connection.execute(f"TRUNCATE {table}")
    await put_tombstones(connection, [*backup.forgotten.values(), *graves.known.values()])
    # As `kernels.trends.debit`: from the last hour backwards, never below zero.
    await connection.executemany(
        "UPDATE trend_counts AS cell SET count = cell.count - debt.taken FROM (SELECT item, hour, least(count,"
        " greatest(0, $2::bigint + count - sum(count) OVER (ORDER BY hour DESC))) AS taken FROM trend_counts"
        " WHERE item = $1 AND hour <= $3) AS debt WHERE cell.item = debt.item AND cell.hour = debt.hour",
        debts,
    )
    await connection.execute("DELETE FROM trend_counts WHERE count = 0")


class _OldJournal(NamedTuple):
    id: bytes
    tail: int
    version: int
    forgotten: list[Forgotten]


def _read_journal(path: Path) -> _OldJournal:
    if not path.exists():
        return _OldJournal(b"", 0, 0, [])
    journal = Journal.open(path, JOURNAL_BYTES_MAX)
    try:
        version, forgotten = 0, []
        for _, record in journal.read(0):
            change = decode(record)
            version = max(version, change.version)
            forgotten += [dead for dead in change.forgotten if dead.tombstone]
        return _OldJournal(bytes.fromhex(journal.id), journal.tail, version, forgotten)
    finally:
        journal.close()


def _new_journal(path: Path, version: int) -> bytes:
    """Its id. It holds one record, so that no other journal fits a database that stands at position 1."""
    for left in ("", "-wal", "-shm"):
        path.with_name(path.name + left).unlink(missing_ok=True)
    journal = Journal.open(path, JOURNAL_BYTES_MAX)
    try:
        journal.append(encode(empty_change(version)))
        journal.commit()
        return bytes.fromhex(journal.id)
    finally:
        journal.close()


def _put_in_place(new_path: Path, journal_path: Path, now: float) -> Path | None:
    """Where the journal from before is now, if there was one."""
    aside = journal_path.with_suffix(f".replaced-{int(now)}") if journal_path.exists() else None
    if aside is not None:
        journal_path.rename(aside)
    new_path.rename(journal_path)
    snapshot.drop(journal_path.parent)
    frames.sync_folder(journal_path.parent)
    return aside

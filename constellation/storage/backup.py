"""A shard's database as one file, and the way back: the work of the commands `backup` and `restore`.

The file: MAGIC, the format's number, frames, and xxh3 (128 bits) of all of that. A frame is its kind, the lengths of
its payload packed and unpacked, xxh64 of these and the payload, and the payload, deflated: an encoded `records.Change`,
or in the last frame the `Summary`. Tombstones are changes of their own.

Constraints, what must hold:
- A backup is one moment of the database, whoever writes meanwhile; under its name there is a whole backup or nothing.
- Before anything is changed all of the file was read and found right; then it is all or nothing: one transaction.
- Who was forgotten after the backup was taken, as far as database and journal know, stays forgotten.
- The journal from before a restore is refused by the database afterwards, wherever the restore was cut off.
What must fail: a file that is damaged, cut off, of another kind or another shard; a database that holds something,
unless it is to be replaced.
"""

import contextlib
import os
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import blake2b
from itertools import compress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlencode

import msgspec
import numpy as np
import xxhash

from constellation.records import Change, Forgotten, WrongRecord, decode, empty_change, encode
from constellation.storage import embedded, schema
from constellation.storage.copy import HALFVEC, VECTOR
from constellation.storage.database import Claim, Database
from constellation.storage.journal import Journal
from constellation.storage.keeper import owner_name
from constellation.storage.loading import CHANGE_ROWS_MAX, Tombstone, load
from constellation.storage.schema import LONG_COMMAND_S_MAX
from constellation.storage.writing import check_place, write

MAGIC = b"constellation backup"
FORMAT = 1
PAYLOAD_BYTES_MAX = 1 << 30
JOURNAL_BYTES_MAX = 1 << 22

_CHANGE, _SUMMARY = 1, 2
_FORMAT = struct.Struct("<I")
_HEAD = struct.Struct("<BII")
_SUM_BYTES, _DIGEST_BYTES = 8, 16
_TABLES = ("patterns", "devices", "content", "trend_counts")

Advance = Callable[[int], None]
"""Told how far it is: rows of a backup that is written, bytes of one that is read."""


class WrongBackup(Exception):
    """The file is no whole backup that this release reads; says what is wrong."""


class Refused(Exception):
    """It was not done, and nothing was changed; says why and what to do."""


class Summary(msgspec.Struct, frozen=True):
    """What a backup holds. Times are unix seconds; newest_sync is 0 without devices; counts are of rows by kind."""

    shard_id: str
    version: int
    tombstone_key: bytes
    taken_at: int
    newest_sync: int
    counts: dict[str, int]


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


async def write_backup(database: Database, path: Path, *, force: bool, now: float, advance: Advance) -> Summary:
    """Raises `Refused`, OSError, and `DatabaseUnavailable`."""
    if path.exists() and not force:
        raise Refused(f"{path} exists; choose another name, or --force to replace it")
    part = path.with_name(f"{path.name}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            summary = await _write_rows(database, _Writer(file), int(now), advance)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return summary


def verify(path: Path, advance: Advance) -> Verified:
    """Read everything. Raises `WrongBackup`, OSError."""
    counts: Counter[str] = Counter()
    forgotten: dict[bytes, Tombstone] = {}
    for read in _read(path, advance):
        if isinstance(read, Summary):
            if Counter(read.counts) != counts:
                raise WrongBackup(f"{path} holds {dict(counts)} and says it holds {read.counts}")
            return Verified(path, read, forgotten)
        counts.update(_counted(read))
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
    """Replace what the database holds; the caller owns the data directory. An old journal is put aside.

    Raises `Refused`, `WrongBackup`, `WrongDatabase`, `DatabaseUnavailable`, `JournalFailed`, `DamagedJournal`, OSError.
    """
    summary = backup.summary
    if summary.shard_id != shard_id:
        raise Refused(f"{backup.path} is of shard {summary.shard_id}, not of {shard_id}: say it with --shard-id")
    old = _read_journal(journal_path)
    new_path = journal_path.with_name("journal.restoring.sqlite")
    version = max(summary.version, old.version)
    new_id = _new_journal(new_path, version)
    claim = await _claim(database, shard_id, new_id)
    try:
        async with database.connection() as connection, connection.transaction():
            await check_place(connection, claim)
            if not force:
                await _require_empty(connection, claim, old, journal_path)
            graves = await _Graves.read(connection, backup, claim.tombstone_key, old.forgotten)
            await connection.execute(f"TRUNCATE {', '.join(_TABLES)}", timeout=LONG_COMMAND_S_MAX)
            await _put(_Inside(database, connection), claim, backup, graves, advance)
            await connection.execute(
                "UPDATE shards SET journal_id = $1, position = 1, tombstone_key = $2, version = greatest(version, $3)",
                *(new_id, summary.tombstone_key, version),
            )
    except Refused:  # after other failures it may be that the commit arrived, and this is the journal to have
        new_path.unlink()
        raise
    aside = _put_in_place(new_path, journal_path, now)
    return Restored(len(graves.kept_out), graves.lost, aside)


# The file.


class _Writer:
    """Raises `Refused` for a disk that does not take it, which must not be mistaken for the database's failure."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, xxhash.xxh3_128()
        self._put(MAGIC + _FORMAT.pack(FORMAT))

    def frame(self, kind: int, content: bytes) -> None:
        payload = zlib.compress(content, 1)
        assert max(len(content), len(payload)) <= PAYLOAD_BYTES_MAX
        head = _HEAD.pack(kind, len(payload), len(content))
        self._put(head + _sum(head, payload))
        self._put(payload)

    def end(self) -> None:
        self._put(self._digest.digest())

    def _put(self, piece: bytes) -> None:
        self._digest.update(piece)
        try:
            self._file.write(piece)
        except OSError as error:
            raise Refused(f"the backup cannot be written: {error}") from error


def _read(path: Path, advance: Advance) -> Iterator[Change | Summary]:
    """The changes, and at last the summary, once the digest of the whole file was compared. Raises `WrongBackup`."""
    with path.open("rb") as file:
        digest, size = xxhash.xxh3_128(), os.fstat(file.fileno()).st_size

        def take(n: int) -> bytes:
            piece = file.read(n) if n <= size - file.tell() else b""
            if len(piece) < n:
                raise WrongBackup(f"{path} ends too early: {n} bytes are missing at byte {file.tell()}, it has {size}")
            digest.update(piece)
            return piece

        _check_start(path, file.read(len(MAGIC) + _FORMAT.size), digest)
        kind = 0
        while kind != _SUMMARY:
            at = file.tell()
            kind, content = _read_frame(path, at, take)
            advance(file.tell())
            if kind == _CHANGE:
                yield _decoded(path, at, decode, content)
        found = digest.digest()
        if take(_DIGEST_BYTES) != found:
            raise WrongBackup(f"{path} is damaged: the checksum of the whole file does not match")
        if file.tell() != size:
            raise WrongBackup(f"{path} is damaged: {size - file.tell()} bytes follow its end")
        yield _decoded(path, at, msgspec.msgpack.Decoder(Summary).decode, content)


def _check_start(path: Path, start: bytes, digest: Any) -> None:
    if not start.startswith(MAGIC):
        raise WrongBackup(f"{path} is no backup: it starts with {start[: len(MAGIC)]!r}, not with {MAGIC!r}")
    if start[len(MAGIC) :] != _FORMAT.pack(FORMAT):
        raise WrongBackup(
            f"{path} has format {start[len(MAGIC) :].hex()}; this release reads {_FORMAT.pack(FORMAT).hex()}"
        )
    digest.update(start)


def _read_frame(path: Path, at: int, take: Callable[[int], bytes]) -> tuple[int, bytes]:
    head = take(_HEAD.size)
    kind, packed_bytes, content_bytes = _HEAD.unpack(head)
    expected = take(_SUM_BYTES)
    if max(packed_bytes, content_bytes) > PAYLOAD_BYTES_MAX or kind not in (_CHANGE, _SUMMARY):
        raise WrongBackup(f"{path} is damaged at byte {at}: no frame starts there")
    payload = take(packed_bytes)
    if _sum(head, payload) != expected:
        raise WrongBackup(f"{path} is damaged at byte {at}: the checksum of the frame does not match")
    content = zlib.decompressobj().decompress(payload, content_bytes) if content_bytes else b""
    if len(content) != content_bytes:
        raise WrongBackup(f"{path} is damaged at byte {at}: {len(content)} bytes instead of {content_bytes}")
    return kind, content


def _decoded(path: Path, at: int, decoder: Callable[[bytes], Any], content: bytes) -> Any:
    try:
        return decoder(content)
    except (WrongRecord, msgspec.MsgspecError) as error:
        raise WrongBackup(f"{path} cannot be read at byte {at}: {error}") from error


def _sum(head: bytes, payload: bytes) -> bytes:
    digest = xxhash.xxh64(head)
    digest.update(payload)
    return digest.digest()


def _counted(change: Change) -> dict[str, int]:
    return {
        "devices": len(change.devices),
        "patterns": len(change.patterns),
        "titles": len(change.content),
        "trend counts": len(change.trends),
        "tombstones": len(change.forgotten),
    }


# The database.


class _Inside(Database):
    """The database as one connection sees it: whatever `load` and `write` do belongs to its transaction."""

    def __init__(self, database: Database, connection: Any) -> None:
        super().__init__(database.url, None)
        self.vector = database.vector
        self._connection = connection

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        yield self._connection

    connection_apart = connection


def socket_url(data_dir: Path) -> str:
    """Of the embedded database that a running shard serves; where none runs nobody answers there."""
    where = {"host": str((data_dir / "run").resolve()), "port": embedded.PORT}
    return f"postgresql://{embedded.USER}@/{embedded.DATABASE}?{urlencode(where)}"


async def estimated_rows(database: Database) -> int:
    """About how many rows a backup will have, 0 if that is not known. Raises `Refused`, `DatabaseUnavailable`."""
    async with database.connection() as connection:
        await _vector_of(connection)
        return int(
            await connection.fetchval(
                "SELECT sum(greatest(reltuples, 0))::bigint FROM pg_class WHERE oid = ANY($1::text[]::regclass[])",
                list(_TABLES),
            )
        )


async def _write_rows(database: Database, writer: _Writer, now: int, advance: Advance) -> Summary:
    counts: Counter[str] = Counter(_counted(empty_change()))
    newest = 0

    def put(change: Change) -> None:
        writer.frame(_CHANGE, encode(change))
        counts.update(_counted(change))
        advance(counts.total())

    async with database.connection_apart() as connection:
        inside = _Inside(database, connection)
        inside.vector = await _vector_of(connection)
        async with contextlib.aclosing(load(inside)) as changes:  # it begins the transaction and leaves it open
            async for change in changes:
                newest = max(newest, int(change.devices.last_syncs.max(initial=0)))
                put(change)
        rows = await connection.fetch("SELECT hash, sequence, at FROM tombstones", timeout=LONG_COMMAND_S_MAX)
        for start in range(0, len(rows), CHANGE_ROWS_MAX):
            put(_tombstones([Tombstone(*row) for row in rows[start : start + CHANGE_ROWS_MAX]]))
        shard = await connection.fetchrow("SELECT id, version, tombstone_key FROM shards")
    if shard is None:
        raise Refused("the database holds no shard")
    summary = Summary(shard["id"], shard["version"], shard["tombstone_key"], now, newest, dict(counts))
    writer.frame(_SUMMARY, msgspec.msgpack.encode(summary))
    writer.end()
    return summary


async def _vector_of(connection: Any) -> np.dtype[Any]:
    """The kind of the columns that hold vectors, without changing anything. Raises `Refused`."""
    known = len(schema.migrations())
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        raise Refused("the database holds no shard")
    version = await connection.fetchval("SELECT max(version) FROM schema_version")
    if version != known:
        raise Refused(
            f"the database has schema version {version}, this release reads {known}: use the one that serves it"
        )
    kind = await connection.fetchval(
        "SELECT atttypid::regtype::text FROM pg_attribute"
        " WHERE attrelid = 'patterns'::regclass AND attname = 'embedding'"
    )
    return HALFVEC if kind.endswith("halfvec") else VECTOR


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


async def _put(inside: _Inside, claim: Claim, backup: Verified, graves: "_Graves", advance: Advance) -> None:
    debts: list[tuple[str, int, int]] = []
    for change in _read(backup.path, advance):
        if isinstance(change, Summary):
            if change != backup.summary:
                raise WrongBackup(f"{backup.path} was replaced while it was restored")
            continue
        await _write(inside, claim, graves.without(change, debts))
    async with inside.connection() as connection:
        await connection.executemany(
            "INSERT INTO tombstones (hash, sequence, at) VALUES ($1, $2, $3) ON CONFLICT (hash) DO UPDATE SET"
            " sequence = greatest(tombstones.sequence, excluded.sequence), at = greatest(tombstones.at, excluded.at)",
            [*backup.forgotten.values(), *graves.known.values()],
        )
        # As `kernels.trends.debit`: from the last hour backwards, never below zero.
        await connection.executemany(
            "UPDATE trend_counts AS cell SET count = cell.count - debt.taken FROM (SELECT item, hour, least(count,"
            " greatest(0, $2::bigint + count - sum(count) OVER (ORDER BY hour DESC))) AS taken FROM trend_counts"
            " WHERE item = $1 AND hour <= $3) AS debt WHERE cell.item = debt.item AND cell.hour = debt.hour",
            debts,
        )
        await connection.execute("DELETE FROM trend_counts WHERE count = 0")


async def _write(inside: _Inside, claim: Claim, change: Change) -> None:
    await write(inside, claim, change, position=1)
    async with inside.connection() as connection:
        # What a commit would have emptied.
        for (table,) in await connection.fetch(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'"
        ):
            await connection.execute(f"TRUNCATE {table}")


def _tombstones(dead: list[Tombstone]) -> Change:
    change = empty_change()
    change.forgotten = [Forgotten(b"", *tombstone) for tombstone in dead]
    return change


# Who was forgotten.


class _Graves:
    """Tombstones that the database and its journal knew, by their hashes under the backup's key (`known`).

    Hashes are those of `shard.tombstones`. Those that were made under another key are found by the devices of the
    backup that they are of.
    """

    def __init__(self, backup: Verified, old_key: bytes) -> None:
        self._own, self._key, self._old_key = backup.forgotten, backup.summary.tombstone_key, old_key
        self.known: dict[bytes, Tombstone] = {}
        self.kept_out: set[bytes] = set()
        self._foreign: dict[bytes, Tombstone] = {}

    @classmethod
    async def read(cls, connection: Any, backup: Verified, old_key: bytes, journaled: list[Forgotten]) -> "_Graves":
        """Also takes them out of the database where the key is another."""
        graves = cls(backup, old_key)
        rows = await connection.fetch("SELECT hash, sequence, at FROM tombstones", timeout=LONG_COMMAND_S_MAX)
        stored = {row["hash"]: Tombstone(*row) for row in rows}
        if graves._key == old_key:
            graves.known = stored
        else:
            graves._foreign = stored
            await connection.execute("TRUNCATE tombstones", timeout=LONG_COMMAND_S_MAX)
        for dead in journaled:
            graves._add(_hash(graves._key, dead.device_id), Tombstone(*dead[1:]))
        return graves

    @property
    def lost(self) -> int:
        return len(self._foreign)

    def without(self, change: Change, debts: list[tuple[str, int, int]]) -> Change:
        """The change without them and without tombstones; what trends credited them with is put into debts."""
        ids = [row.tobytes() for row in change.devices.ids]
        if self.known or self._foreign:
            self.kept_out.update(device for device in ids if self._is_forgotten(device))
        stays = np.array([device not in self.kept_out for device in ids], bool)
        rows = change.patterns
        remain = np.array([owner.tobytes() not in self.kept_out for owner in rows.owners], bool)
        debts += [
            (rows.items[row], int(rows.item_samples[row]), int(rows.item_hours[row]))
            for row in np.flatnonzero(~remain).tolist()
            if rows.items[row]
        ]
        return msgspec.structs.replace(
            change, forgotten=[], devices=_kept(change.devices, stays), patterns=_kept(rows, remain)
        )

    def _is_forgotten(self, device_id: bytes) -> bool:
        """Was it after the backup's own tombstone of that device, if there is one? Else it had come again since."""
        of = _hash(self._key, device_id)
        if self._foreign and (foreign := self._foreign.pop(_hash(self._old_key, device_id), None)):
            self._add(of, foreign)
        dead, own = self.known.get(of), self._own.get(of)
        return dead is not None and (own is None or (dead.at, dead.sequence) > (own.at, own.sequence))

    def _add(self, of: bytes, dead: Tombstone) -> None:
        before = self.known.get(of, dead)
        self.known[of] = Tombstone(of, max(before.sequence, dead.sequence), max(before.at, dead.at))


def _hash(key: bytes, device_id: bytes) -> bytes:
    return blake2b(device_id, digest_size=16, key=key).digest()


def _kept(rows: Any, keep: Any) -> Any:
    """The rows of a Struct of columns."""
    if isinstance(rows, np.ndarray):
        return rows[keep]
    if isinstance(rows, list):
        return list(compress(rows, keep.tolist()))
    return type(rows)(*(_kept(getattr(rows, name), keep) for name in rows.__struct_fields__))


# The journal.


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
    _sync_folder(journal_path.parent)
    return aside


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

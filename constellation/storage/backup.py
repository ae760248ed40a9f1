"""A backup: all that a shard's database holds as one file of frames, written while the shard serves.

Frames are encoded `records.Change`s, tombstones in changes of their own; the last is the `Summary`. `restore` reads it.

Constraints, what must hold:
- A backup is one moment of the database, whoever writes meanwhile; nothing is changed.
- Under its name there is a whole backup, or the one before.
What must fail: a database without a shard, or of another release; a name that is taken, unless it is to be replaced.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from constellation.records import Change, Forgotten, empty_change, encode
from constellation.storage import embedded, frames, loading
from constellation.storage.database import Database
from constellation.storage.frames import Advance, Form, Writer
from constellation.storage.schema import TABLES

FORM = Form("backup", b"constellation backup", 2)
LEVEL = 3
"""Of zstd."""
CHANGE = 1
"""The kind of every frame but the last."""


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


async def write_backup(database: Database, path: Path, *, force: bool, now: float, advance: Advance) -> Summary:
    """What the database (after `check`) holds now; `advance` is told how many rows were written.

    Raises `Refused`, OSError, `WrongDatabase` and `DatabaseUnavailable`.
    """
    if path.exists() and not force:
        raise Refused(f"{path} exists; choose another name, or --force to replace it")
    with frames.writing(path, FORM, LEVEL) as file:
        summary = await _write_rows(database, file, int(now), advance)
        with _refusing():
            file.end(msgspec.msgpack.encode(summary))
    return summary


async def estimated_rows(database: Database) -> int:
    """About how many rows a backup will have, 0 if that is not known. Raises `DatabaseUnavailable`."""
    async with database.connection() as connection:
        return int(
            await connection.fetchval(
                "SELECT sum(greatest(reltuples, 0))::bigint FROM pg_class WHERE oid = ANY($1::text[]::regclass[])",
                list(TABLES),
            )
        )


def socket_url(data_dir: Path) -> str:
    """Of the embedded database that a running shard serves; where none runs nobody answers there."""
    where = {"host": str((data_dir / "run").resolve()), "port": embedded.PORT}
    return f"postgresql://{embedded.USER}@/{embedded.DATABASE}?{urlencode(where)}"


def counted(change: Change) -> dict[str, int]:
    """Rows by kind."""
    return {
        "devices": len(change.devices),
        "patterns": len(change.patterns),
        "titles": len(change.content),
        "trend counts": len(change.trends),
        "tombstones": len(change.forgotten),
    }


async def _write_rows(database: Database, file: Writer, now: int, advance: Advance) -> Summary:
    counts: Counter[str] = Counter(counted(empty_change()))
    newest = 0
    async with loading.moment(database) as connection:
        async with contextlib.aclosing(_changes(database, connection)) as changes:
            async for change in changes:
                with _refusing():
                    file.frame(CHANGE, encode(change))
                newest = max(newest, int(change.devices.last_syncs.max(initial=0)))
                counts.update(counted(change))
                advance(counts.total())
        shard = await connection.fetchrow("SELECT id, version, tombstone_key FROM shards")
    if shard is None:
        raise Refused("the database holds no shard")
    return Summary(shard["id"], shard["version"], shard["tombstone_key"], now, newest, dict(counts))


async def _changes(database: Database, connection: Any) -> AsyncGenerator[Change]:
    async with contextlib.aclosing(loading.changes(database, connection)) as changes:
        async for change in changes:
            yield change
    dead = await loading.tombstones(connection)
    for start in range(0, len(dead), loading.CHANGE_ROWS_MAX):
        change = empty_change()
        change.forgotten = [Forgotten(b"", *each) for each in dead[start : start + loading.CHANGE_ROWS_MAX]]
        yield change


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """A disk that does not take it must not be mistaken for the database's failure."""
    try:
        yield
    except OSError as error:
        raise Refused(f"the backup cannot be written: {error}") from error

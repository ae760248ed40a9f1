"""The database -> changes that put a shard back: the way back from `writing`.

Called once at start, before the shard serves; it may hold the event loop for some tens of milliseconds at a time.

Constraints, what must hold:
- What comes is one moment of the database, whoever writes meanwhile.
- An item and a device come before the patterns that name them; content comes in the order of its numbers.
- Memory holds some pieces of the stream and one change, whatever the database holds.
Patterns come in no order; `PatternRows.entered` tells a device's own.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from constellation.model import ContentItem, Context, PatternBatch
from constellation.records import Change, DeviceRows, NumberedItem, PatternRows, TrendCells, empty_change
from constellation.storage import copy
from constellation.storage.connections import WrongDatabase
from constellation.storage.copy import DEVICES, TRENDS, Layout, Reader, content_layout, pattern_layout
from constellation.storage.database import Database
from constellation.storage.migrating import LONG_COMMAND_S_MAX
from constellation.storage.schema import TABLES

CHANGE_ROWS_MAX = 250
PIECES_QUEUED_MAX = 16
REMEMBERED_MAX = 100_000

Columns = list[list[bytes]]


class Tombstone(NamedTuple):
    """As `records.Forgotten`, without the device."""

    hash: bytes
    sequence: int
    at: int


async def load(database: Database) -> AsyncGenerator[Change]:
    """Everything that the database holds: the `changes` of this `moment`. Close it if you leave early.

    Raises `DatabaseUnavailable`, and `WrongDatabase` for a row that no release of ours wrote.
    """
    async with moment(database) as connection, contextlib.aclosing(changes(database, connection)) as stored:
        async for change in stored:
            yield change


@contextlib.asynccontextmanager
async def moment(database: Database) -> AsyncIterator[Any]:
    """A connection that sees the database as it is now. Raises `DatabaseUnavailable`."""
    async with database.connection_apart() as connection:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Before the first reading: what somebody truncates is empty for those, too, who see an earlier moment.
        await connection.execute(f"LOCK TABLE {', '.join(TABLES)} IN ACCESS SHARE MODE", timeout=LONG_COMMAND_S_MAX)
        yield connection


async def changes(database: Database, connection: Any) -> AsyncGenerator[Change]:
    """All rows that the connection sees, in changes of at most CHANGE_ROWS_MAX rows; tombstones apart.

    Each carries the largest global version that was written.
    """
    version = await connection.fetchval("SELECT max(version) FROM shards") or 0
    parts = (
        (content_layout(database.vector), " ORDER BY number", _content),
        (DEVICES, "", _devices),
        (pattern_layout(database.vector), "", _patterns),
        (TRENDS, "", _trends),
    )
    for layout, order, read in parts:
        async with contextlib.aclosing(_blocks(connection, layout, order)) as blocks:
            async for records, columns in blocks:
                change = empty_change(version)
                read(change, records, columns)
                yield change


async def positions_ahead(database: Database) -> dict[bytes, int]:
    """Devices that are in the database as they were later than the shard's position, each with its own position."""
    query = "SELECT id, position FROM devices WHERE position > (SELECT max(position) FROM shards)"
    async with database.connection() as connection:
        rows = await connection.fetch(query, timeout=LONG_COMMAND_S_MAX)
    return {row["id"].bytes: row["position"] for row in rows}


async def tombstones(connection: Any) -> list[Tombstone]:
    """Every household that was forgotten."""
    rows = await connection.fetch("SELECT hash, sequence, at FROM tombstones", timeout=LONG_COMMAND_S_MAX)
    return [Tombstone(*row) for row in rows]


def pattern_rows(records: copy.Records, columns: Columns) -> PatternRows:
    """What was read of the table of patterns."""
    contexts, items = columns
    column = functools.partial(_column, records)
    return PatternRows(
        owners=column("device_id", np.uint8),
        patterns=PatternBatch(
            ids=column("id", np.uint8),
            codes=copy.codes(records["embedding"]),
            rates=column("success_rate", np.float32),
            counts=column("sample_count", np.uint32),
            created_at=column("created_at", np.int64),
            updated_at=column("updated_at", np.int64),
            contexts=[_context(value) for value in contexts],
        ),
        entered=column("entered", np.int64),
        versions=column("version", np.int64),
        items=[item.decode() for item in items],
        item_samples=column("item_samples", np.uint32),
        item_hours=column("item_hour", np.uint32),
    )


async def _blocks(connection: Any, layout: Layout, order: str) -> AsyncGenerator[tuple[copy.Records, Columns]]:
    """The table's rows by the block."""
    reader = Reader(layout)
    records: list[npt.NDArray[np.uint8]] = []
    columns: Columns = [[] for _ in layout.varying]
    n = 0
    query = f"SELECT {', '.join(layout.columns)} FROM {layout.table}{order}"
    async with contextlib.aclosing(_pieces(connection, query)) as pieces:
        async for piece in pieces:
            for came, values in _parts(*reader.read(piece)):
                if n and n + len(came) > CHANGE_ROWS_MAX:
                    yield np.concatenate(records).view(layout.record)[:, 0], columns
                    records, columns, n = [], [[] for _ in layout.varying], 0
                records.append(came)
                for column, more in zip(columns, values, strict=True):
                    column += more
                n += len(came)
    if n:
        yield np.concatenate(records).view(layout.record)[:, 0], columns


def _parts(came: npt.NDArray[np.uint8], columns: Columns) -> Iterator[tuple[npt.NDArray[np.uint8], Columns]]:
    """Rows (n, size) that came at once, at most CHANGE_ROWS_MAX of them at a time."""
    for start in range(0, len(came), CHANGE_ROWS_MAX):
        part = slice(start, start + CHANGE_ROWS_MAX)
        yield came[part], [column[part] for column in columns]


async def _pieces(connection: Any, query: str) -> AsyncGenerator[bytearray]:
    """The answer in COPY format as it comes; the server works on while a piece is being read."""
    queue: asyncio.Queue[bytearray | Exception | None] = asyncio.Queue(PIECES_QUEUED_MAX)

    async def receive() -> None:
        try:
            await connection.copy_from_query(query, output=queue.put, format="binary", timeout=LONG_COMMAND_S_MAX)
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    receiving = asyncio.create_task(receive())
    try:
        while (piece := await queue.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


def _content(change: Change, records: copy.Records, columns: Columns) -> None:
    ids, titles, metadata = columns
    change.content = [
        NumberedItem(number, ContentItem(content_id.decode(), title.decode(), code, msgspec.json.decode(value[1:])))
        for number, content_id, title, code, value in zip(
            *(records["number"].tolist(), ids, titles, copy.codes(records["code"]), metadata), strict=True
        )
    ]


def _devices(change: Change, records: copy.Records, columns: Columns) -> None:
    column = functools.partial(_column, records)
    change.devices = DeviceRows(
        ids=column("id", np.uint8),
        sequences=column("sequence", np.int64),
        fingerprints=column("fingerprint", np.int64).view(np.uint64),
        cursors=column("cursor", np.int64),
        last_syncs=column("last_sync", np.int64),
        credit_hours=column("credit_hour", np.uint32),
        credit_used=column("credit_used", np.uint32),
    )


def _patterns(change: Change, records: copy.Records, columns: Columns) -> None:
    change.patterns = pattern_rows(records, columns)


def _trends(change: Change, records: copy.Records, columns: Columns) -> None:
    change.trends = TrendCells(
        [item.decode() for item in columns[0]],
        hours=_column(records, "hour", np.uint32),
        counts=_column(records, "count", np.uint32),
    )


def _column(records: copy.Records, name: str, kind: type) -> npt.NDArray[Any]:
    return records[name].astype(kind)


@functools.lru_cache(REMEMBERED_MAX)
def _context(value: bytes) -> Context:
    try:
        return msgspec.json.decode(memoryview(value)[1:], type=Context)
    except msgspec.MsgspecError as error:  # only somebody else can have written it
        raise WrongDatabase(f"patterns.context holds {value[1:].decode()}, which is no context: {error}") from error

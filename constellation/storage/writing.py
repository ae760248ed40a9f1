"""A change -> the database, in one transaction: PostgreSQL's half of what `records` describes.

Called by the write-behind task, on the service's event loop: rows are encoded in slices, and the loop turns between.

Constraints, what must hold:
- A change is in the database whole or not at all, with the position it brings the shard to.
- Written twice it is written once: an attempt whose end is unknown is simply repeated.
- Only the holder of the last claim writes (`Fenced`), checked in the transaction under the shard's row lock.
- Trend counts are there for the hours that trends remember, no longer.
- Keys occur at most once in a change; PostgreSQL refuses it otherwise.
- No slice holds the event loop longer than 3 ms.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
import numpy as np

from constellation.model import Context
from constellation.records import Change, DeviceRows, Forgotten, NumberedItem, PatternKeys, PatternRows, TrendCells
from constellation.storage import copy
from constellation.storage.connections import DatabaseUnavailable
from constellation.storage.copy import DEVICES, TRENDS, Layout, content_layout, field, pattern_layout, vectors
from constellation.storage.database import Claim, Database, Fenced
from constellation.storage.migrating import LONG_COMMAND_S_MAX
from kernels.trends import HOURS

SLICE_ROWS = 400
REMEMBERED_MAX = 100_000

_JSONB = b"\x01"
"""Version of jsonb's binary form; text follows."""
_GONE = Layout("patterns", ("device_id", "id"), {"device_id": copy.UUID, "id": copy.UUID})


async def write(
    database: Database,
    claim: Claim,
    change: Change,
    position: int,
    device_position: int | None = None,
    since: int = 0,
) -> None:
    """Store what the change says; the database then reflects the journal up to `position`.

    The devices of the change may be ahead of that: they are as they were at `device_position`. `since` is the position
    that the database must not be behind: one that is went back, and is to be claimed again.

    Raises `Fenced`, and `DatabaseUnavailable` when it may or may not have been stored: write it again.
    """
    async with database.connection() as connection, connection.transaction():
        await check_place(connection, claim, since)
        await put(connection, database.vector, change, device_position or position)
        await connection.execute(
            "UPDATE shards SET position = $2, version = greatest(version, $3) WHERE id = $1",
            *(claim.shard_id, position, change.version),
        )


async def put(connection: Any, vector: np.dtype[Any], change: Change, device_position: int) -> None:
    """The rows of the change, in the caller's transaction."""
    await _forget(connection, change.forgotten)
    content = content_layout(vector)
    await _put(connection, content, len(change.content), _content(content, change.content))
    await _put(connection, DEVICES, len(change.devices), _devices(change.devices, device_position))
    await _drop(connection, change.gone)
    patterns = pattern_layout(vector)
    await _put(connection, patterns, len(change.patterns), _patterns(patterns, change.patterns))
    await _put_trends(connection, change.trends)


async def check_place(connection: Any, claim: Claim, since: int = 0) -> None:
    """Lock the shard's row until the transaction ends. Raises `Fenced`; `DatabaseUnavailable` if it is an older row."""
    row = await connection.fetchrow(
        "SELECT epoch, journal_id, owner, position FROM shards WHERE id = $1 FOR UPDATE", claim.shard_id
    )
    is_ours = row is not None and row["journal_id"] == claim.journal_id
    if is_ours and (row["epoch"] < claim.epoch or (row["epoch"] == claim.epoch and row["position"] < since)):
        raise DatabaseUnavailable(
            f"the database went back to epoch {row['epoch']}, position {row['position']}: it is claimed again"
        )
    if row is None or (row["epoch"], row["journal_id"]) != (claim.epoch, claim.journal_id):
        by = f"was claimed by {row['owner']}, epoch {row['epoch']}" if row else "is not in the database any more"
        raise Fenced(f"shard {claim.shard_id} {by}; ours was epoch {claim.epoch}")


async def _forget(connection: Any, households: Sequence[Forgotten]) -> None:
    if not households:
        return
    devices = [UUID(bytes=household.device_id) for household in households if household.device_id]
    await connection.execute("DELETE FROM patterns WHERE device_id = ANY($1::uuid[])", devices)
    await connection.execute("DELETE FROM devices WHERE id = ANY($1::uuid[])", devices)
    kept = {household.tombstone: household for household in households if household.tombstone}
    await put_tombstones(connection, [household[1:] for household in kept.values()])


async def put_tombstones(connection: Any, dead: Iterable[tuple[bytes, int, int]]) -> None:
    """Hashes, each with its last sequence and when; one that is there already keeps what is later."""
    await connection.executemany(
        "INSERT INTO tombstones (hash, sequence, at) VALUES ($1, $2, $3) ON CONFLICT (hash) DO UPDATE"
        " SET sequence = greatest(tombstones.sequence, excluded.sequence), at = greatest(tombstones.at, excluded.at)",
        dead,
    )


async def _put(connection: Any, layout: Layout, n: int, rows: Iterator[bytes]) -> None:
    """Insert n rows or replace those that have their key."""
    if n:
        incoming = await _copy(connection, layout, f"incoming_{layout.table}", rows)
        columns, key = ", ".join(layout.columns), ", ".join(layout.key)
        values = [column for column in layout.columns if column not in layout.key]
        await connection.execute(
            f"INSERT INTO {layout.table} ({columns}) SELECT {columns} FROM {incoming}"
            f" ORDER BY {key} ON CONFLICT ({key}) DO UPDATE"
            f" SET {', '.join(f'{column} = excluded.{column}' for column in values)}"
        )


async def _drop(connection: Any, gone: PatternKeys) -> None:
    if len(gone):
        incoming = await _copy(connection, _GONE, "incoming_gone", _keys(gone))
        await connection.execute(
            f"DELETE FROM patterns USING {incoming} AS gone"
            " WHERE patterns.device_id = gone.device_id AND patterns.id = gone.id"
        )


async def _put_trends(connection: Any, cells: TrendCells) -> None:
    """Counts of 0 are deleted, and all that are older than the week that ends with the newest."""
    if not len(cells):
        return
    await _put(connection, TRENDS, len(cells), _trends(cells))
    if not cells.counts.all():
        await connection.execute(
            "DELETE FROM trend_counts USING pg_temp.incoming_trend_counts AS cell"
            " WHERE trend_counts.item = cell.item AND trend_counts.hour = cell.hour AND cell.count = 0"
        )
    faded = int(cells.hours.max()) - HOURS
    await connection.execute("DELETE FROM trend_counts WHERE hour <= $1", faded, timeout=LONG_COMMAND_S_MAX)


async def _copy(connection: Any, layout: Layout, name: str, rows: Iterator[bytes]) -> str:
    """Fill the table's temporary twin, which a connection makes once and every commit empties; its full name."""
    await connection.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {name} ON COMMIT DELETE ROWS"
        f" AS SELECT {', '.join(layout.columns)} FROM {layout.table} WITH NO DATA"
    )
    await connection.copy_to_table(
        name, schema_name="pg_temp", columns=layout.columns, source=_stream(rows), format="binary"
    )
    return f"pg_temp.{name}"


async def _stream(rows: Iterator[bytes]) -> AsyncIterator[bytes]:
    yield copy.HEADER
    for piece in rows:
        yield piece
        await asyncio.sleep(0)
    yield copy.END


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, start + SLICE_ROWS) for start in range(0, n, SLICE_ROWS))


def _patterns(layout: Layout, rows: PatternRows) -> Iterator[bytes]:
    batch = rows.patterns
    for part in _slices(len(rows)):
        codes = batch.codes[part]
        records = layout.records(len(codes))
        records["device_id"], records["id"] = rows.owners[part], batch.ids[part]
        records["embedding"]["values"] = vectors(codes, records["embedding"].dtype)
        records["success_rate"], records["sample_count"] = batch.rates[part], batch.counts[part]
        records["created_at"], records["updated_at"] = batch.created_at[part], batch.updated_at[part]
        records["entered"], records["version"] = rows.entered[part], rows.versions[part]
        records["item_samples"], records["item_hour"] = rows.item_samples[part], rows.item_hours[part]
        yield layout.encode(
            records, [_context(context) for context in batch.contexts[part]], [_text(item) for item in rows.items[part]]
        )


@functools.lru_cache(REMEMBERED_MAX)
def _context(context: Context) -> bytes:
    return _jsonb(context)


def _devices(rows: DeviceRows, position: int) -> Iterator[bytes]:
    for part in _slices(len(rows)):
        records = DEVICES.records(len(rows.ids[part]))
        records["id"] = rows.ids[part]
        records["sequence"], records["fingerprint"] = rows.sequences[part], rows.fingerprints[part].view(np.int64)
        records["cursor"], records["last_sync"] = rows.cursors[part], rows.last_syncs[part]
        records["credit_hour"], records["credit_used"] = rows.credit_hours[part], rows.credit_used[part]
        records["position"] = position
        yield DEVICES.encode(records)


def _keys(gone: PatternKeys) -> Iterator[bytes]:
    for part in _slices(len(gone)):
        records = _GONE.records(len(gone.ids[part]))
        records["device_id"], records["id"] = gone.owners[part], gone.ids[part]
        yield _GONE.encode(records)


def _content(layout: Layout, numbered: list[NumberedItem]) -> Iterator[bytes]:
    for part in _slices(len(numbered)):
        items = [item for _, item in numbered[part]]
        records = layout.records(len(items))
        records["number"] = [number for number, _ in numbered[part]]
        records["code"]["values"] = vectors(np.stack([item.code for item in items]), records["code"].dtype)
        yield layout.encode(
            records,
            [_text(item.content_id) for item in items],
            [_text(item.title) for item in items],
            [_jsonb(item.metadata) for item in items],
        )


def _trends(cells: TrendCells) -> Iterator[bytes]:
    for part in _slices(len(cells)):
        records = TRENDS.records(len(cells.items[part]))
        records["hour"], records["count"] = cells.hours[part], cells.counts[part]
        yield TRENDS.encode(records, [_text(item) for item in cells.items[part]])


def _text(value: str) -> bytes:
    return field(value.encode())


def _jsonb(value: object) -> bytes:
    return field(_JSONB + msgspec.json.encode(value))

"""How fast do patterns reach PostgreSQL?

As the write-behind task writes them (binary COPY into a temporary table, then one upsert, in a fenced transaction)
beside what most would write: a prepared INSERT row by row in one transaction, and executemany. Embedded server, real
rows of a loaded shard.
"""

import asyncio
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from bench import kept
from bench.loaded import load_shard
from bench.plan import Answers, Plan
from bench.report import Row, Yardstick, at_least
from constellation.records import Change, empty_change
from constellation.storage import embedded
from constellation.storage.database import connect
from constellation.storage.writing import write

PER_SECOND_MIN = 20_000
ONE_BY_ONE = 1_000
"""Rows of the peers: enough for a rate."""

_INSERT = (
    "INSERT INTO peer VALUES ($1, $2, $3::text::halfvec, $4, $5)"
    " ON CONFLICT (device_id, id) DO UPDATE SET embedding = excluded.embedding"
)


def measure(plan: Plan) -> Answers:
    changes = [change for change in kept.changes(load_shard(plan).shard) if len(change.patterns)]
    ours, inserted, many, stored = asyncio.run(_measure(changes))
    yardstick = Yardstick("INSERT row by row, one transaction", inserted)
    written = sum(len(change.patterns) for change in changes)
    yield Row(
        name="COPY and upsert, fenced",
        value=ours,
        unit="/s",
        quality=f"{stored:,} of {written:,} patterns in the table",
        yardstick=yardstick,
        target=at_least(PER_SECOND_MIN),
    )
    yield Row(name="executemany", value=many, unit="/s", quality="", yardstick=yardstick)


async def _measure(changes: list[Change]) -> tuple[float, float, float, int]:
    with tempfile.TemporaryDirectory() as directory:
        server = await embedded.start(Path(directory))
        try:
            database = await connect(server.url)
            await database.migrate()
            claim = await database.claim("bench", bytes(16), "bench")
            await write(database, claim, empty_change(), 1)
            began_at = time.perf_counter()
            for position, change in enumerate(changes):
                await write(database, claim, change, 2 + position)
            ours = sum(len(change.patterns) for change in changes) / (time.perf_counter() - began_at)
            async with database.connection() as connection:
                stored = await connection.fetchval("SELECT count(*) FROM patterns")
                inserted, many = await _peers(connection, changes[0])
            await database.close()
            return ours, inserted, many, stored
        finally:
            await server.stop()


async def _peers(connection: Any, change: Change) -> tuple[float, float]:
    """Rows a second one by one and by executemany; into a table with the columns that cost most."""
    rows = _rows(change)
    rates = []
    for by_many in (False, True):
        await connection.execute(
            "DROP TABLE IF EXISTS peer; CREATE TABLE peer (device_id uuid, id uuid, embedding halfvec(384),"
            " success_rate real, sample_count integer, PRIMARY KEY (device_id, id))"
        )
        began_at = time.perf_counter()
        async with connection.transaction():
            if by_many:
                await connection.executemany(_INSERT, rows)
            else:
                statement = await connection.prepare(_INSERT)
                for row in rows:
                    await statement.fetch(*row)
        rates.append(len(rows) / (time.perf_counter() - began_at))
    return rates[0], rates[1]


def _rows(change: Change) -> list[tuple[object, ...]]:
    patterns = change.patterns
    batch = patterns.patterns
    return [
        (
            uuid.UUID(bytes=patterns.owners[i].tobytes()),
            uuid.UUID(bytes=batch.ids[i].tobytes()),
            str(batch.codes[i].tolist()),
            float(batch.rates[i]),
            int(batch.counts[i]),
        )
        for i in range(min(ONE_BY_ONE, len(patterns)))
    ]

"""Patterns in PostgreSQL by SQL, under a claim as every writer."""

from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from constellation.limits import TREND_DECAY_PER_HOUR, TRENDING_MAX
from constellation.model import PatternBatch, Trend
from constellation.records import Change, PatternRows
from constellation.storage import copy
from constellation.storage.copy import HALFVEC, Reader, pattern_layout
from constellation.storage.database import Claim, Database
from constellation.storage.loading import pattern_rows
from constellation.storage.patterns import SERVED_RATE_MIN, added, merged, removed, shares
from constellation.storage.writing import check_place, write
from kernels.trends import HOURS

EF_SEARCH_MIN, EF_SEARCH_MAX = 160, 1_000
"""Of pgvector's HNSW: candidates a search keeps, at most as many as its setting allows."""


class PostgresPatternStore:
    """A `PatternStore`. All its calls raise `DatabaseUnavailable`, those that write `Fenced`, too.

    With the database's pattern index on, similar patterns are its approximate answer.
    """

    def __init__(self, database: Database, claim: Claim, region: str) -> None:
        self._database, self._claim, self._region = database, claim, region

    async def put(self, change: Change) -> None:
        await write(self._database, self._claim, change, self._claim.position)

    async def store_patterns(self, device_id: bytes, patterns: PatternBatch) -> None:
        async with self._database.connection() as connection:
            entered, known, version = await connection.fetchrow(
                "SELECT (SELECT coalesce(max(entered), -1) + 1 FROM patterns WHERE device_id = $1),"
                " EXISTS (SELECT FROM devices WHERE id = $1), (SELECT version + 1 FROM shards)",
                UUID(bytes=device_id),
            )
        await self.put(added(device_id, patterns, version, entered, known))

    async def update_pattern(
        self, device_id: bytes, pattern_id: bytes, new_success_rate: float, additional_samples: int
    ) -> bool:
        key = UUID(bytes=device_id), UUID(bytes=pattern_id)
        async with self._database.connection() as connection, connection.transaction():
            await check_place(connection, self._claim)
            row = await connection.fetchrow(
                "SELECT success_rate, sample_count FROM patterns WHERE device_id = $1 AND id = $2 FOR UPDATE", *key
            )
            if row is None:
                return False
            version = await connection.fetchval("UPDATE shards SET version = version + 1 RETURNING version")
            await connection.execute(
                "UPDATE patterns SET success_rate = $3, sample_count = $4, version = $5"
                " WHERE device_id = $1 AND id = $2",
                *(*key, *merged(row[0], row[1], new_success_rate, additional_samples), version),
            )
        return True

    async def remove_pattern(self, device_id: bytes, pattern_id: bytes) -> bool:
        async with self._database.connection() as connection:
            version = await connection.fetchval(
                "SELECT version + 1 FROM shards WHERE EXISTS (SELECT FROM patterns WHERE device_id = $1 AND id = $2)",
                *(UUID(bytes=device_id), UUID(bytes=pattern_id)),
            )
        if version is None:
            return False
        await self.put(removed(device_id, pattern_id, version))
        return True

    async def similar_patterns(self, device_id: bytes, code: npt.NDArray[np.int8], limit: int) -> PatternBatch:
        kind = "halfvec" if self._database.vector == HALFVEC else "vector"
        nearest = (
            "WHERE success_rate >= $1::text::real AND device_id <> $2::text::uuid"
            f" ORDER BY embedding <=> $3::text::{kind} LIMIT $4::text::bigint"
        )
        [unit] = copy.vectors(code[None], self._database.vector).astype(np.float32)
        values = (SERVED_RATE_MIN, UUID(bytes=device_id), unit.tolist(), limit)
        async with self._database.connection() as connection, connection.transaction(readonly=True):
            await _widen_search(connection, kind, limit)
            return (await self._patterns(connection, nearest, *map(str, values))).patterns

    async def trending(self, hour: int, limit: int = TRENDING_MAX) -> list[Trend]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "SELECT item, sum(count * power($3::float8, $1 - hour)) AS score FROM trend_counts"
                " WHERE hour > $1 - $4 AND hour <= $1 GROUP BY item"
                ' ORDER BY score DESC, item COLLATE "C" LIMIT $2',
                *(hour, limit, TREND_DECAY_PER_HOUR, HOURS),
            )
        return shares([tuple(row) for row in rows], self._region)

    async def total_patterns(self) -> int:
        async with self._database.connection() as connection:
            total: int = await connection.fetchval("SELECT count(*) FROM patterns")
        return total

    async def device_pattern_count(self, device_id: bytes) -> int:
        async with self._database.connection() as connection:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM patterns WHERE device_id = $1", UUID(bytes=device_id)
            )
        return count

    async def _patterns(self, connection: Any, condition: str, *values: str) -> PatternRows:
        """The rows of a query, by COPY: asyncpg cannot decode vectors."""
        layout = pattern_layout(self._database.vector)
        stream = bytearray()

        async def take(piece: bytearray) -> None:
            stream.extend(piece)

        query = f"SELECT {', '.join(layout.columns)} FROM patterns {condition}"
        await connection.copy_from_query(query, *values, output=take, format="binary")
        records, columns = Reader(layout).read(stream)
        return pattern_rows(records.view(layout.record)[:, 0], columns)


async def _widen_search(connection: Any, kind: str, limit: int) -> None:
    """Let an HNSW index look at more than the limit: rows that are not served come out of it, too."""
    await connection.execute(f"SELECT '[1]'::{kind}")  # loads the extension, and with it its settings
    wanted = {
        "hnsw.ef_search": str(min(max(EF_SEARCH_MIN, 2 * limit), EF_SEARCH_MAX)),
        "hnsw.iterative_scan": "strict_order",  # since 0.8: it goes on until the limit is reached
    }
    await connection.execute(
        "SELECT set_config(name, value, true) FROM unnest($1::text[], $2::text[]) AS wanted (name, value)"
        " JOIN pg_settings USING (name)",
        *(list(wanted), list(wanted.values())),
    )

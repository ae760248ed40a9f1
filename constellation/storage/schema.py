"""The schema: the extension it needs, its migrations, and the optional index over the patterns. Part of `database`.

What must fail: an extension that is too old, a schema newer than this release.
"""

from typing import Any

import asyncpg
import numpy as np

from constellation.storage import migrating
from constellation.storage.connections import WrongDatabase
from constellation.storage.copy import HALFVEC, VECTOR
from constellation.storage.migrating import LONG_COMMAND_S_MAX, Migrations

PGVECTOR_MIN = (0, 5)
HALFVEC_SINCE = (0, 7)
INDEX_M = 32
INDEX_EF_CONSTRUCTION = 100
TABLES = ("patterns", "devices", "content", "trend_counts")
"""Those that hold what a shard knows; beside them are `tombstones`, and one row in `shards`."""


async def migrate(connection: Any) -> np.dtype[Any]:
    """Bring the schema up to this release; the kind of the columns that hold vectors. Raises `WrongDatabase`."""
    async with migrating.alone(connection):
        extension = await _require_extension(connection)
        vector = "halfvec" if extension >= HALFVEC_SINCE else "vector"
        fitting = [(name, statements.replace("halfvec(", f"{vector}(")) for name, statements in migrations()]
        await migrating.apply(connection, fitting)
    return await _vector(connection)


async def check(connection: Any) -> np.dtype[Any]:
    """As `migrate`, where nothing may be changed: the schema is this release's already, or `WrongDatabase`."""
    await migrating.check(connection, migrations(), "shard")
    return await _vector(connection)


async def _vector(connection: Any) -> np.dtype[Any]:
    """The extension may have been updated since the tables were made: the column knows."""
    kind = await connection.fetchval(
        "SELECT atttypid::regtype::text FROM pg_attribute"
        " WHERE attrelid = 'patterns'::regclass AND attname = 'embedding'"
    )
    return HALFVEC if kind.endswith("halfvec") else VECTOR


async def build_pattern_index(connection: Any, vector: np.dtype[Any]) -> None:
    """An HNSW index over the patterns, beside whoever writes them; takes minutes a million.

    It is fast where the server's maintenance_work_mem holds the graph, about 1.3 KB a pattern.
    """
    if await connection.fetchval(
        "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass('patterns_embedding')"
    ):
        await drop_pattern_index(connection)  # a build that was cut off leaves an index that only costs
    kind = "halfvec" if vector == HALFVEC else "vector"
    await connection.execute(
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS patterns_embedding ON patterns"
        f" USING hnsw (embedding {kind}_cosine_ops) WITH (m = {INDEX_M}, ef_construction = {INDEX_EF_CONSTRUCTION})",
        timeout=LONG_COMMAND_S_MAX,
    )


async def drop_pattern_index(connection: Any) -> None:
    await connection.execute("DROP INDEX CONCURRENTLY IF EXISTS patterns_embedding", timeout=LONG_COMMAND_S_MAX)


def migrations() -> Migrations:
    return migrating.read("constellation.storage")


async def _require_extension(connection: Any) -> tuple[int, ...]:
    """Version of pgvector, installed into the database if it is not. Raises `WrongDatabase`."""
    installed = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if installed is None:
        offered = await connection.fetchval("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
        if offered is None:
            raise WrongDatabase(
                f"the server has no pgvector: install version {_dotted(PGVECTOR_MIN)} or newer of the extension there"
            )
        try:
            async with connection.transaction():
                await connection.execute("CREATE EXTENSION vector")
        except asyncpg.InsufficientPrivilegeError as error:
            raise WrongDatabase(
                "the extension pgvector is not in the database, and this user may not create it:"
                " let an administrator run CREATE EXTENSION vector; in it"
            ) from error
        installed = offered
    version = tuple(int(part) for part in installed.split(".")[:2])
    if version < PGVECTOR_MIN:
        raise WrongDatabase(
            f"the database has pgvector {installed}; {_dotted(PGVECTOR_MIN)} or newer is needed:"
            " let an administrator run ALTER EXTENSION vector UPDATE; in it"
        )
    return version


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))

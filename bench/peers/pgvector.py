"""pgvector's HNSW in an embedded PostgreSQL: what the obvious system would do with the same vectors.

Half-precision vectors, loaded by binary COPY; m=32 and ef_construction=100, as a shard's optional SQL index has them.
The server comes as a Python wheel and lives in a directory that is deleted.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import numpy.typing as npt

from bench.peers import NotInstalled
from bench.peers.exact import Rows
from constellation.model import DIM
from constellation.storage import embedded
from constellation.storage.connections import DatabaseUnavailable

M = 32
EF_CONSTRUCTION = 100
EF_SEARCH = 160
SETTINGS = {
    "shared_buffers": "4GB",
    "maintenance_work_mem": "4GB",
    "max_parallel_maintenance_workers": "1",
    "fsync": "off",
    "full_page_writes": "off",
}

_ROWS_AT_ONCE = 10_000
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
_COPIED = np.dtype(
    [("fields", ">i2"), ("id_len", ">i4"), ("id", ">i4"), ("vector_len", ">i4"), ("vector", "V", 4 + 2 * DIM)]
)
_VECTOR = np.dtype([("dim", ">u2"), ("unused", ">u2"), ("halfs", ">f2", DIM)])


class VectorDatabase:
    """One connection to a table of vectors with an HNSW index. Its methods block."""

    def __init__(self, runner: asyncio.Runner, connection: Any) -> None:
        self._run, self._connection = runner.run, connection

    def load(self, vectors: npt.NDArray[np.float32]) -> None:
        """Fill the table with unit vectors (n, 384) under the ids 0..n-1."""
        self._run(self._connection.copy_to_table("patterns", source=_copy_stream(vectors), format="binary"))

    def build(self) -> None:
        """Build the index over what is loaded, on all cores."""
        self._execute(
            f"CREATE INDEX nearest ON patterns USING hnsw (embedding halfvec_cosine_ops) "
            f"WITH (m = {M}, ef_construction = {EF_CONSTRUCTION})"
        )
        self._execute("ANALYZE patterns")

    def insert(self, row: int, vector: npt.NDArray[np.float32]) -> None:
        self._run(self._connection.execute("INSERT INTO patterns VALUES ($1, $2)", row, vector))

    def delete(self, row: int) -> None:
        self._run(self._connection.execute("DELETE FROM patterns WHERE id = $1", row))

    def search(self, query: npt.NDArray[np.generic], k: int) -> Rows:
        found = self._run(
            self._connection.fetch("SELECT id FROM patterns ORDER BY embedding <=> $1 LIMIT $2", query, k)
        )
        return np.array([record[0] for record in found], np.int64)

    def _execute(self, statement: str) -> None:
        self._run(self._connection.execute(statement, timeout=None))


@contextlib.contextmanager
def open_database() -> Iterator[VectorDatabase]:
    """An empty table in a server of its own. Raises `NotInstalled`."""
    try:
        embedded.find_binaries()
    except DatabaseUnavailable as error:
        raise NotInstalled(str(error)) from None
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner() as runner:
        server = runner.run(embedded.start(Path(directory), SETTINGS))
        try:
            connection = runner.run(asyncpg.connect(server.url))
            runner.run(_prepare(connection))
            yield VectorDatabase(runner, connection)
            runner.run(connection.close())
        finally:
            runner.run(server.stop())


async def _prepare(connection: Any) -> None:
    await connection.execute("CREATE EXTENSION vector")
    await connection.execute(f"CREATE TABLE patterns (id integer PRIMARY KEY, embedding halfvec({DIM}))")
    await connection.execute("ALTER TABLE patterns ALTER COLUMN embedding SET STORAGE plain")
    await connection.set_type_codec("halfvec", schema="public", encoder=_encode, decoder=bytes, format="binary")
    await connection.execute(f"SET hnsw.ef_search = {EF_SEARCH}")
    await connection.execute("SET enable_seqscan = off")


def _encode(vector: npt.NDArray[np.generic]) -> bytes:
    return _vectors(vector.astype(np.float32)[None]).tobytes()


def _vectors(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.void]:
    """pgvector's binary form of a halfvec: dimensions, nothing, then big-endian halfs."""
    encoded = np.zeros(len(vectors), _VECTOR)
    encoded["dim"] = DIM
    encoded["halfs"] = vectors
    return encoded


async def _copy_stream(vectors: npt.NDArray[np.float32]) -> Any:
    """PostgreSQL's binary COPY of (id, embedding)."""
    yield _COPY_HEADER
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        block = vectors[start : start + _ROWS_AT_ONCE]
        copied = np.zeros(len(block), _COPIED)
        copied["fields"], copied["id_len"], copied["vector_len"] = 2, 4, _VECTOR.itemsize
        copied["id"] = np.arange(start, start + len(block))
        copied["vector"] = _vectors(block).view(f"V{_VECTOR.itemsize}")
        yield copied.tobytes()
    yield _COPY_END

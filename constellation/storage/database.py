"""The shard's PostgreSQL database: connecting to it, and claiming it.

One database holds one shard. Whoever claims it gets an epoch; `writing.write` checks the epoch in every transaction.

Constraints, what must hold:
- One owner at a time: a second claim is refused while the first one's connection lives.
- After a claim, nothing that an earlier owner still sends is stored.
- Positions are those of the journal that the database knows; another journal is adopted only where nothing was
  written yet, or by `accept_loss`.
What must fail: a server that is too old, another shard's database.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import asyncpg
import numpy as np

from constellation.storage import schema
from constellation.storage.connections import (
    Connections,
    DatabaseUnavailable,
    WrongDatabase,
    connect_once,
    explained,
    open_pool,
)
from constellation.storage.copy import HALFVEC
from constellation.storage.migrating import LONG_COMMAND_S_MAX

CLAIM_WAIT_S = 3.0
"""How long a claim waits for the last owner's connection to end."""

_CLAIM_LOCK = 0x434C41494D


class WrongJournal(WrongDatabase):
    """The database was written from another journal."""


class DatabaseOwned(WrongDatabase):
    """Another process has claimed the database and is still connected."""


class Fenced(Exception):
    """Another process has claimed the database since: this one has lost its place and must stop."""


class Claim(NamedTuple):
    """The right to write, as long as nobody claims after it, and where the database stood when it was given."""

    shard_id: str
    journal_id: bytes
    epoch: int
    position: int
    version: int
    tombstone_key: bytes


class Database(Connections):
    """A shard's. By `connect`, then `migrate` (or `check`), then for a shard `claim`."""

    def __init__(self, url: str, pool: Any) -> None:
        super().__init__(url, pool)
        self.vector: np.dtype[Any] = HALFVEC
        """The kind of the columns that hold vectors; right after `migrate` or `check`."""
        self._claiming: Any = None

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection of the pool. Raises `DatabaseUnavailable`, also in place of what the server says in the body."""
        try:
            async with super().connection() as connection:
                yield connection
        except DatabaseUnavailable:
            # After a failover the claim's connection leads to the wrong server, too, though it seem alive.
            if self._claiming is not None:
                self._claiming.terminate()
            raise

    @contextlib.asynccontextmanager
    async def connection_apart(self) -> AsyncIterator[Any]:
        """A connection for one long reading; cut off when the body fails or is left, whatever the server is sending."""
        with explained(self.url):
            connection = await connect_once(self.url)
            try:
                yield connection
                await connection.close()
            finally:
                connection.terminate()

    async def close(self) -> None:
        """Give up the claim and every connection; what is still running is cut off."""
        if self._claiming is not None:
            self._claiming.terminate()
        await super().close()

    @property
    def claimed(self) -> bool:
        """Is the connection of the last claim still there? If not, the place can be lost: claim again."""
        return self._claiming is not None and not self._claiming.is_closed()

    async def migrate(self) -> None:
        """Bring the schema up to this release. Raises `WrongDatabase`, `DatabaseUnavailable`."""
        async with self.connection() as connection:
            self.vector = await schema.migrate(connection)

    async def check(self) -> None:
        """Instead of `migrate`, for who only reads. Raises `WrongDatabase`, `DatabaseUnavailable`."""
        async with self.connection() as connection:
            self.vector = await schema.check(connection)

    async def claim(
        self, shard_id: str, journal_id: bytes, owner: str, accept_loss: bool = False, wait_s: float = CLAIM_WAIT_S
    ) -> Claim:
        """Become the one who writes; again after the connection was lost. `owner` is text for people.

        Raises `DatabaseOwned`, `WrongJournal`, `WrongDatabase`, `DatabaseUnavailable`.
        """
        with explained(self.url):
            if not self.claimed:
                self._claiming = await connect_once(self.url)
            try:
                await _take_lock(self._claiming, shard_id, wait_s)
                async with self._claiming.transaction():
                    return await _take_place(self._claiming, shard_id, journal_id, owner, accept_loss)
            except BaseException:
                self._claiming.terminate()
                raise

    async def pattern_index(self, on: bool) -> None:
        """Build or drop the HNSW index over the patterns. Raises `DatabaseUnavailable`."""
        async with self.connection() as connection:
            await (schema.build_pattern_index(connection, self.vector) if on else schema.drop_pattern_index(connection))


async def connect(url: str) -> Database:
    """Raises as `open_pool`."""
    return Database(url, await open_pool(url))


async def _take_lock(connection: Any, shard_id: str, wait_s: float) -> None:
    """The session's lock, which ends with the connection. Raises `DatabaseOwned`."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {max(1, round(wait_s * 1e3))}")
            await connection.execute(f"SELECT pg_advisory_lock({_CLAIM_LOCK})")
    except asyncpg.LockNotAvailableError as error:
        row = await connection.fetchrow("SELECT id, owner, claimed_at FROM shards")
        holder = f"{row['owner']} for shard {row['id']} since {row['claimed_at']:%F %T%z}" if row else "somebody"
        raise DatabaseOwned(
            f"shard {shard_id} cannot have the database: {holder} has claimed it and is still connected"
        ) from error


async def _take_place(connection: Any, shard_id: str, journal_id: bytes, owner: str, accept_loss: bool) -> Claim:
    """The next epoch. Waits for a transaction of the last owner that is still writing."""
    row = await connection.fetchrow("SELECT * FROM shards FOR UPDATE")
    if row is None:
        row = await connection.fetchrow(
            "INSERT INTO shards VALUES ($1, 0, $2, 0, 0, $3,"
            " sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), now()) RETURNING *",
            *(shard_id, journal_id, owner),
        )
    if row["id"] != shard_id:
        raise WrongDatabase(f"the database is that of shard {row['id']}, not of {shard_id}: each shard has its own")
    position = row["position"]
    if row["journal_id"] != journal_id:
        if position and not accept_loss:
            raise WrongJournal(
                f"the database was written up to position {position} of journal {row['journal_id'].hex()}, the data"
                f" directory has journal {journal_id.hex()}: start with that journal's directory, or with --accept-loss"
                " to go on from the database alone; what was acknowledged after that position is then lost"
            )
        position = 0
        await connection.execute("UPDATE devices SET position = 0 WHERE position <> 0", timeout=LONG_COMMAND_S_MAX)
    await connection.execute(
        "UPDATE shards SET epoch = $1, journal_id = $2, position = $3, owner = $4, claimed_at = now()",
        *(row["epoch"] + 1, journal_id, position, owner),
    )
    return Claim(shard_id, journal_id, row["epoch"] + 1, position, row["version"], row["tombstone_key"])

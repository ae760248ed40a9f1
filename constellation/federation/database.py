"""The coordinator database, as shards use it: who they are, whose each slot is, codebooks, and rounds to report to.

Every method is one transaction and may be repeated: after an error nobody knows whether it was the first time. All
times are the database's. The worker's side is `leading`.

Constraints, what must hold:
- A partial is kept while its round collects, once, of the round's map epoch and codebook version.
- The map epoch grows with every change of who is a shard and where, or of whose a slot is. A slot keeps the one of its
  last change, and shards remember the map: where they know better than the database, the higher epoch wins.
- A published codebook or round never changes.
What must fail: a shard in two regions, another codebook of the same version, a database of something else.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import msgspec

from constellation import codebook as codebooks
from constellation.codebook import Codebook
from constellation.federation.terms import RefusedPartial, RoundTerms
from constellation.limits import SHARD_LIVE_S
from constellation.rounds import GLOBAL, Partial, Sharing, encode
from constellation.slots import SLOTS
from constellation.storage import migrating
from constellation.storage.connections import Connections, DatabaseUnavailable, open_pool


class Refused(Exception):
    """The federation does not take this; says what to do."""


class Unregistered(Exception):
    """The database does not know the shard, or is older than it was: register (again)."""


class Member(NamedTuple):
    """A shard as it registers. `sharing`: what it gives to rounds."""

    shard_id: str
    region: str
    url: str
    sharing: Sharing = "patterns"


class Held(NamedTuple):
    """What a shard remembers of the map that it served by last: its epoch, and the slots that it had."""

    epoch: int
    slots: list[int]


class MapEntry(NamedTuple):
    """A shard of the map; `slots` are first and last of each of its ranges. `epoch`: of the map that it serves by."""

    shard_id: str
    region: str
    url: str
    slots: list[tuple[int, int]]
    devices: int
    patterns: int
    live: bool
    epoch: int
    heartbeat_age_s: float


class ShardMap(NamedTuple):
    """All regions, by region and shard."""

    epoch: int
    shards: list[MapEntry]


class OpenRound(NamedTuple):
    """What a shard is asked for: `Federating.partial` takes the same."""

    number: int
    map_epoch: int
    codebook_version: int
    group_key: bytes = b""
    """`RoundTerms.group_key`."""


class Published(NamedTuple):
    """A round for `rounds.decode_result`, and the partial of one shard in it, empty if it reported none."""

    result: bytes
    given: bytes


class RoundRow(NamedTuple):
    """A round as people and metrics see it. `age_s` is since it was opened, `took_s` until it ended, or until now."""

    number: int
    state: str
    age_s: float
    took_s: float
    codebook_version: int
    expected: int
    reported: int
    devices: int
    patterns: int
    prototypes: int
    trends: int
    epsilon: float | None
    """Privacy of its noise, None if it has none."""
    spent: float | None
    """Epsilon of all rounds of the window that ends with it; None too if its worker had no budget."""
    why: str


ROUND_ROW = """
    number, state, extract(epoch FROM clock_timestamp() - opened_at)::float8,
    extract(epoch FROM coalesce(ended_at, clock_timestamp()) - opened_at)::float8,
    codebook_version, expected, reported, devices, patterns, prototypes, trends,
    (SELECT epsilon FROM releases WHERE round = number), (SELECT spent FROM releases WHERE round = number), why
"""
"""Columns of `rounds` that make a `RoundRow`."""


class CoordinatorDatabase(Connections):
    """By `connect`, then `migrate` or `check`. Every method also raises `DatabaseUnavailable`."""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """As `Connections.connection`; also where another, empty database has taken the place of this one."""
        try:
            async with super().connection() as connection:
                yield connection
        except asyncpg.UndefinedTableError as error:
            raise DatabaseUnavailable(f"the coordinator database was emptied: {error}") from error

    async def migrate(self) -> None:
        """Bring the schema up to this release. Raises `WrongDatabase`."""
        async with self.connection() as connection, migrating.alone(connection):
            await migrating.apply(connection, _migrations())

    async def check(self) -> None:
        """Instead of `migrate`, for who only reads. Raises `WrongDatabase`."""
        async with self.connection() as connection:
            await migrating.check(connection, _migrations(), "federation")

    async def register(self, shard: Member, share: int = 0, shares: int = 1, held: Held | None = None) -> None:
        """Be a shard of the map. A new one has those slots of the given share of the region that are nobody's yet: the
        first of a region all of them and a later one none, or shards 0..n-1 that start together an n-th each.

        What a shard `held` counts where it is newer than what the database says of a slot: the database was lost, or
        is a backup from before moves. Raises `Refused` for a shard that is another region's.
        """
        if shard.region == GLOBAL:
            raise Refused(f"region {GLOBAL!r} is that of trends over all regions: choose another --region")
        async with self.connection() as connection, connection.transaction():
            await connection.execute("SELECT FROM map FOR UPDATE")
            known = await connection.fetchrow("SELECT region, url FROM shards WHERE shard_id = $1", shard.shard_id)
            if known is not None and known["region"] != shard.region:
                raise Refused(
                    f"shard {shard.shard_id} is one of region {known['region']}, not of {shard.region}:"
                    " give its --region, or another --shard-id"
                )
            await connection.execute(
                "INSERT INTO shards VALUES ($1, $2, $3, $4, 0, now(), 0, 0, 0) ON CONFLICT (shard_id) DO UPDATE"
                " SET url = excluded.url, sharing = excluded.sharing, heartbeat = excluded.heartbeat",
                *shard,
            )
            changed = known is None or known["url"] != shard.url
            if held is not None:
                changed |= await _bring(connection, shard, held)
            elif known is None:
                free = range(share * SLOTS // shares, (share + 1) * SLOTS // shares)
                await _take(connection, shard, Held(0, list(free)))
            if changed:
                await connection.execute("UPDATE map SET epoch = epoch + 1")

    async def heartbeat(self, shard_id: str, map_epoch: int, devices: int, patterns: int, codebook_version: int) -> int:
        """Still there, and how it stands; the newest epoch of the map. Raises `Unregistered`."""
        async with self.connection() as connection:
            epoch: int | None = await connection.fetchval(
                "UPDATE shards SET heartbeat = now(), epoch = $2, devices = $3, patterns = $4, codebook_version = $5"
                " WHERE shard_id = $1 RETURNING (SELECT epoch FROM map)",
                *(shard_id, map_epoch, devices, patterns, codebook_version),
            )
        if epoch is None:
            raise Unregistered(shard_id)
        return epoch

    async def shard_map(self) -> ShardMap:
        async with self.connection() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            epoch = await connection.fetchval("SELECT epoch FROM map")
            ranges = await connection.fetch(
                "SELECT shard_id, min(slot), max(slot) FROM (SELECT shard_id, slot, slot - row_number() OVER"
                " (PARTITION BY shard_id ORDER BY slot) AS run FROM slots) AS numbered"
                " GROUP BY shard_id, run ORDER BY shard_id, run"
            )
            rows = await connection.fetch(
                "SELECT shard_id, region, url, devices, patterns, epoch,"
                " heartbeat > now() - make_interval(secs => $1) AS live,"
                " extract(epoch FROM now() - heartbeat)::float8 AS heartbeat_age_s"
                " FROM shards ORDER BY region, shard_id",
                SHARD_LIVE_S,
            )
        slots: dict[str, list[tuple[int, int]]] = {row["shard_id"]: [] for row in rows}
        for shard_id, first, last in ranges:
            slots[shard_id].append((first, last))
        return ShardMap(epoch, [MapEntry(slots=slots[row["shard_id"]], **row) for row in rows])

    async def publish_codebook(self, codebook: Codebook) -> None:
        """Raises `Refused` if the version is there already, with other content."""
        content = codebooks.encode(codebook)
        async with self.connection() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO codebooks VALUES ($1, $2, $3, now()) ON CONFLICT DO NOTHING",
                *(codebook.version, content, codebooks.checksum(codebook)),
            )
            there = await connection.fetchval("SELECT content FROM codebooks WHERE version = $1", codebook.version)
        if there != content:
            raise Refused(
                f"codebook {codebook.version} is published with other centroids, and a version never changes:"
                " give this one a higher version"
            )

    async def codebook(self, after_version: int) -> Codebook | None:
        """The newest one, if it is newer. Raises `WrongCodebook` if it is damaged."""
        content = await self._value(
            "SELECT content FROM codebooks WHERE version > $1 ORDER BY version DESC LIMIT 1", after_version
        )
        return None if content is None else codebooks.decode(content)

    async def open_round(self, shard_id: str) -> OpenRound | None:
        """The round that collects and lacks this shard's partial.

        None while the shard holds devices that are another's: such as it takes in, has to drop again, or gave away.
        """
        content = await self._value(
            "SELECT terms FROM rounds JOIN partials ON round = rounds.number"
            " WHERE state = 'collecting' AND shard_id = $1 AND content IS NULL AND NOT EXISTS (SELECT FROM moves"
            " WHERE to_shard = $1 AND moves.state IN ('copied', 'cancelled')"
            " OR from_shard = $1 AND moves.state = 'owned')",
            shard_id,
        )
        if content is None:
            return None
        terms = msgspec.msgpack.decode(content, type=RoundTerms)
        return OpenRound(terms.round, terms.map_epoch, terms.codebook_version, terms.group_key)

    async def report(self, partial: Partial) -> None:
        """Give a round its partial; once it is kept, giving it again changes nothing. Raises `RefusedPartial`."""
        content = await asyncio.to_thread(encode, partial)
        async with self.connection() as connection, connection.transaction():
            row = await connection.fetchrow(
                "SELECT state, map_epoch, codebook_version, shard_id FROM rounds LEFT JOIN partials"
                " ON round = number AND shard_id = $2 WHERE number = $1 FOR SHARE OF rounds",
                *(partial.round, partial.shard_id),
            )
            if why := _why_not(partial, row):
                raise RefusedPartial(partial.shard_id, why)
            await connection.execute(
                "UPDATE partials SET content = $3, reported_at = now()"
                " WHERE round = $1 AND shard_id = $2 AND content IS NULL",
                *(partial.round, partial.shard_id, content),
            )

    async def published(self, known: int, shard_id: str) -> Published | None:
        """The newest published round, unless it is the known one, with what this shard gave to it.

        It may have a lower number: that of a database which was lost and began anew.
        """
        async with self.connection() as connection:
            row = await connection.fetchrow(
                "SELECT result, coalesce(content, '') FROM rounds"
                " LEFT JOIN partials ON round = number AND shard_id = $2"
                " WHERE number = (SELECT max(number) FROM rounds WHERE state = 'published') AND number <> $1",
                *(known, shard_id),
            )
        return None if row is None else Published(*row)

    async def last_rounds(self, limit: int) -> list[RoundRow]:
        """The newest first."""
        async with self.connection() as connection:
            rows = await connection.fetch(f"SELECT {ROUND_ROW} FROM rounds ORDER BY number DESC LIMIT $1", limit)
        return [RoundRow(*row) for row in rows]

    async def _value(self, query: str, *values: object) -> Any:
        async with self.connection() as connection:
            return await connection.fetchval(query, *values)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[CoordinatorDatabase]:
    """As `connect`, closed at the end."""
    database = await connect(url)
    try:
        yield database
    finally:
        await database.close()


async def connect(url: str) -> CoordinatorDatabase:
    """Raises as `open_pool`."""
    return CoordinatorDatabase(url, await open_pool(url))


async def _bring(connection: Any, shard: Member, held: Held) -> bool:
    """What the shard knows better than the database. Did that change whose a slot is?"""
    if await connection.fetchval("SELECT epoch < $1 FROM map", held.epoch):
        # Moves of a backup went on since, or were taken back: what they say is not so any more.
        await connection.execute(
            "UPDATE moves SET state = 'undone', why = 'it is one of a backup' WHERE state NOT IN ('done', 'undone')"
        )
        await connection.execute("DELETE FROM moving")
        await connection.execute("UPDATE map SET epoch = $1", held.epoch)
    gone = await connection.execute(
        "DELETE FROM slots WHERE shard_id = $1 AND epoch < $2 AND slot <> ALL ($3::int[])",
        *(shard.shard_id, held.epoch, held.slots),
    )
    return await _take(connection, shard, held) or gone != "DELETE 0"


async def _take(connection: Any, shard: Member, held: Held) -> bool:
    """Those of these slots that are nobody's, or whose owner is known of an earlier epoch. Are there any?"""
    taken: str = await connection.execute(
        "INSERT INTO slots SELECT $1, slot, $2, $3::bigint FROM unnest($4::int[]) AS held (slot)"
        " ON CONFLICT (region, slot) DO UPDATE SET shard_id = excluded.shard_id, epoch = excluded.epoch"
        " WHERE slots.epoch < excluded.epoch AND slots.shard_id <> excluded.shard_id",
        *(shard.region, shard.shard_id, *held),
    )
    return taken != "INSERT 0 0"


def _migrations() -> migrating.Migrations:
    return migrating.read("constellation.federation")


def _why_not(partial: Partial, row: Any) -> str:
    """Why the round of this row, None if there is none, does not take the partial; '' if it does."""
    if row is None:
        return f"there is no round {partial.round}"
    if row["state"] != "collecting":
        return f"round {partial.round} is {row['state']}, it came too late"
    for name in ("map_epoch", "codebook_version"):
        if (given := getattr(partial, name)) != row[name]:
            return f"{name}: round {partial.round} has {row[name]}, got {given}"
    return "" if row["shard_id"] else f"round {partial.round} did not ask this shard"

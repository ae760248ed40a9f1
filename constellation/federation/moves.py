"""Moves of slots between two shards of a region, as they stand in the coordinator database.

    planned -> copying -> copied -> owned -> done
                             `-> cancelled -> undone       (one that nothing was copied of is undone at once)

A *planned* move waits for its turn. While it is *copying* the shard that has the slots takes no change of their devices
and tells them in pieces; *copied*: the other one takes them in; *owned*: they are its own from one map epoch, and the
first one drops what it holds of them; then the move is *done*. What a *cancelled* one brought is dropped where it came.

Constraints, what must hold:
- A slot has one owner, and is in at most one move that is neither done, undone nor cancelled. A shard's moves to others
  go one after the other.
- Slots change owner in one transaction with the map epoch, and never while a round goes on.
- No round counts a device twice or leaves it out: see `open_round`. None is opened while a living shard takes them in.
- Every method is one transaction that does nothing unless the move is in the state that it begins in; after an error it
  may be repeated.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from constellation.federation import planning
from constellation.federation.database import CoordinatorDatabase
from constellation.federation.planning import ENDED
from constellation.limits import MOVE_GIVEN_UP_S

ROUND_GOES_ON = "EXISTS (SELECT FROM rounds WHERE state IN ('collecting', 'merging'))"


class Move(NamedTuple):
    """`devices`: in its slots, about; `copied`: told so far; `imported`: taken in so far."""

    number: int
    from_shard: str
    to_shard: str
    slots: list[int]
    state: str
    devices: int
    copied: int
    imported: int
    why: str


class Piece(NamedTuple):
    """Some devices of a move: `content` is an encoded `records.Change`."""

    number: int
    devices: int
    content: bytes


COLUMNS = ", ".join(Move._fields)


class Moves:
    """All moves of a federation. Every method also raises `DatabaseUnavailable`."""

    def __init__(self, database: CoordinatorDatabase) -> None:
        self._database = database

    async def plan(self, from_shard: str, to_shard: str, slots: Iterable[int] | None, share: float = 1.0) -> list[int]:
        """As `planning.plan`. Raises `Refused`."""
        async with self._database.connection() as connection, connection.transaction():
            return await planning.plan(connection, from_shard, to_shard, slots, share)

    async def drain(self, shard_id: str, to_shards: Sequence[str] = ()) -> list[int]:
        """As `planning.drain`. Raises `Refused`."""
        async with self._database.connection() as connection, connection.transaction():
            return await planning.drain(connection, shard_id, to_shards)

    async def cancel(self, from_shard: str, to_shard: str, why: str) -> list[int]:
        """Take back what has not changed owner yet; the numbers of these moves."""
        async with self._database.connection() as connection, connection.transaction():
            return await _cancel(connection, from_shard, to_shard, why)

    async def give_up(self, from_shard: str) -> None:
        """Take back what nobody takes in: moves to shards that were not heard of for MOVE_GIVEN_UP_S."""
        async with self._database.connection() as connection, connection.transaction():
            gone = await connection.fetch(
                "SELECT DISTINCT to_shard FROM moves JOIN shards ON shard_id = to_shard"
                " WHERE from_shard = $1 AND state = 'copied' AND heartbeat < now() - make_interval(secs => $2)",
                *(from_shard, MOVE_GIVEN_UP_S),
            )
            for (to_shard,) in gone:
                why = f"{to_shard} was not heard of for {MOVE_GIVEN_UP_S} s"
                await _cancel(connection, from_shard, to_shard, why)

    async def of(self, shard_id: str) -> list[Move]:
        """Those that this shard has to do with and that are not over, in their order."""
        return await self._moves(
            "state <> ALL ($1::text[]) AND (from_shard = $2 OR to_shard = $2) ORDER BY number", ENDED, shard_id
        )

    async def unfinished(self) -> list[Move]:
        return await self._moves("state <> ALL ($1::text[]) ORDER BY number", ENDED)

    async def numbered(self, numbers: Sequence[int]) -> list[Move]:
        return await self._moves("number = ANY ($1::bigint[]) ORDER BY number", numbers)

    async def begin(self, number: int) -> None:
        """planned -> copying, or copying anew; not while a round goes on."""
        async with self._database.connection() as connection, connection.transaction():
            if await _updated(
                connection,
                "UPDATE moves SET state = 'copying', copied = 0 WHERE number = $1"
                f" AND (state = 'copying' OR state = 'planned' AND NOT {ROUND_GOES_ON})",
                number,
            ):
                await connection.execute("DELETE FROM moving WHERE move = $1", number)

    async def tell(self, number: int, pieces: list[Piece]) -> bool:
        """The next pieces. Is it still copying?"""
        async with self._database.connection() as connection, connection.transaction():
            if await _updated(
                connection,
                "UPDATE moves SET copied = copied + $2 WHERE number = $1 AND state = 'copying'",
                *(number, sum(piece.devices for piece in pieces)),
            ):
                await connection.executemany(
                    "INSERT INTO moving VALUES ($1, $2, $3, $4)", [(number, *piece) for piece in pieces]
                )
                return True
        return False

    async def copied(self, number: int) -> None:
        """copying -> copied: all pieces are told."""
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE moves SET state = 'copied' WHERE number = $1 AND state = 'copying'", number
            )

    async def pieces(self, number: int, limit: int) -> list[Piece] | None:
        """The next to be taken in, none after the last; None while that has to wait for a round, or for good."""
        async with self._database.connection() as connection, connection.transaction():
            # Whoever opens a round locks the map, too: one sees the other.
            await connection.execute("SELECT FROM map FOR UPDATE")
            if not await connection.fetchval(
                f"SELECT EXISTS (SELECT FROM moves WHERE number = $1 AND state = 'copied') AND NOT {ROUND_GOES_ON}",
                number,
            ):
                return None
            rows = await connection.fetch(
                "SELECT number, devices, content FROM moving WHERE move = $1 ORDER BY number LIMIT $2", number, limit
            )
        return [Piece(*row) for row in rows]

    async def imported(self, number: int, pieces: list[Piece]) -> None:
        """These are kept by the shard that they came to."""
        async with self._database.connection() as connection, connection.transaction():
            gone = await connection.fetch(
                "DELETE FROM moving WHERE move = $1 AND number <= $2 RETURNING devices",
                *(number, pieces[-1].number),
            )
            await connection.execute(
                "UPDATE moves SET imported = imported + $2 WHERE number = $1", number, sum(n for (n,) in gone)
            )

    async def own(self, number: int) -> None:
        """copied -> owned, if every piece was taken in; not while a round goes on."""
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute("SELECT FROM map FOR UPDATE")
            if await _updated(
                connection,
                "UPDATE moves SET state = 'owned' WHERE number = $1 AND state = 'copied'"
                f" AND NOT EXISTS (SELECT FROM moving WHERE move = $1) AND NOT {ROUND_GOES_ON}",
                number,
            ):
                epoch = await connection.fetchval("UPDATE map SET epoch = epoch + 1 RETURNING epoch")
                await connection.execute(
                    "UPDATE slots SET shard_id = to_shard, epoch = $2 FROM moves"
                    " WHERE number = $1 AND slots.shard_id = from_shard AND slot = ANY (moves.slots)",
                    *(number, epoch),
                )

    async def end(self, number: int) -> None:
        """owned -> done, cancelled -> undone: what was to be dropped is."""
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE moves SET state = CASE state WHEN 'owned' THEN 'done' ELSE 'undone' END"
                " WHERE number = $1 AND state IN ('owned', 'cancelled')",
                number,
            )

    async def _moves(self, condition: str, *values: object) -> list[Move]:
        async with self._database.connection() as connection:
            return [
                Move(*row) for row in await connection.fetch(f"SELECT {COLUMNS} FROM moves WHERE {condition}", *values)
            ]


async def _cancel(connection: Any, from_shard: str, to_shard: str, why: str) -> list[int]:
    rows = await connection.fetch(
        "UPDATE moves SET state = CASE state WHEN 'copied' THEN 'cancelled' ELSE 'undone' END, why = $3"
        " WHERE from_shard = $1 AND to_shard = $2 AND state IN ('planned', 'copying', 'copied') RETURNING number",
        *(from_shard, to_shard, why),
    )
    numbers = sorted(number for (number,) in rows)
    await connection.execute("DELETE FROM moving WHERE move = ANY ($1::bigint[])", numbers)
    return numbers


async def _updated(connection: Any, statement: str, *values: object) -> bool:
    updated: str = await connection.execute(statement, *values)
    return updated != "UPDATE 0"

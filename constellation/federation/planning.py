"""Which slots are to move from which shard to which: what `moves` begins with, and why it may not begin.

Everything here is part of one transaction of the caller, which locks the map first: of two plans one sees the other.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from constellation.federation.database import Refused
from constellation.limits import MOVE_DEVICES_MAX, MOVES_KEPT, SHARD_LIVE_S
from constellation.slots import told

ENDED = ("done", "undone")
BEFORE_OWNED = ("planned", "copying", "copied")
"""States of a move whose slots are still those of the shard that they leave."""


async def plan(
    connection: Any, from_shard: str, to_shard: str, slots: Iterable[int] | None, share: float = 1.0
) -> list[int]:
    """Plan moves of these slots, or of the last `share` of those that the shard has; the numbers of the moves.

    Each is of so few slots that about MOVE_DEVICES_MAX devices wait for it. Raises `Refused`.
    """
    await connection.execute("SELECT FROM map FOR UPDATE")
    await _check_pair(connection, from_shard, to_shard)
    mine = await _owned(connection, from_shard)
    wanted = sorted(slots) if slots is not None else mine[len(mine) - round(len(mine) * share) :]
    if foreign := set(wanted) - set(mine):
        raise Refused(f"shard {from_shard} does not have {told(foreign)}; it has {told(mine)}")
    if not wanted:
        raise Refused(f"there is nothing to move: shard {from_shard} has {told(mine)}")
    return await _insert(connection, from_shard, to_shard, wanted, len(mine))


async def drain(connection: Any, shard_id: str, to_shards: Sequence[str] = ()) -> list[int]:
    """Plan moves of all slots of a shard, in equal parts to these, or to every other one of the region that lives and
    gives none away itself; the numbers of all moves after which the shard has nothing.

    Slots that are leaving it already stay in their moves: after an error it may be repeated. Raises `Refused`.
    """
    await connection.execute("SELECT FROM map FOR UPDATE")
    region = await _region_of_live(connection, shard_id)
    coming = await connection.fetchval(
        "SELECT min(number) FROM moves WHERE to_shard = $1 AND state = ANY ($2::text[])", shard_id, BEFORE_OWNED
    )
    if coming is not None:
        raise Refused(f"slots are on their way to shard {shard_id} in move {coming}: wait for it, or --cancel it")
    going = await connection.fetch(
        "SELECT number, state, slots FROM moves WHERE from_shard = $1 AND state <> ALL ($2::text[])"
        " AND state <> 'cancelled' ORDER BY number",
        *(shard_id, ENDED),
    )
    leaving = {slot for move in going for slot in move["slots"] if move["state"] != "owned"}
    mine = await _owned(connection, shard_id)
    rest = [slot for slot in mine if slot not in leaving]
    numbers = [move["number"] for move in going]
    if rest:
        targets = list(dict.fromkeys(to_shards)) or await _others(connection, shard_id, region)
        for i, to_shard in enumerate(targets):
            await _check_pair(connection, shard_id, to_shard)
            if part := rest[i * len(rest) // len(targets) : (i + 1) * len(rest) // len(targets)]:
                numbers += await _insert(connection, shard_id, to_shard, part, len(mine))
    return numbers


async def _others(connection: Any, shard_id: str, region: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT shard_id FROM shards WHERE region = $1 AND shard_id <> $2 AND heartbeat > now() -"
        " make_interval(secs => $3) AND NOT EXISTS (SELECT FROM moves"
        " WHERE from_shard = shards.shard_id AND state = ANY ($4::text[])) ORDER BY shard_id",
        *(region, shard_id, SHARD_LIVE_S, BEFORE_OWNED),
    )
    if not rows:
        raise Refused(
            f"no other shard of region {region} was heard of in the last {SHARD_LIVE_S} s and keeps the slots that it"
            f" has: start one that takes over what shard {shard_id} has"
        )
    return [other for (other,) in rows]


async def _insert(connection: Any, from_shard: str, to_shard: str, wanted: list[int], owned: int) -> list[int]:
    """Moves of the wanted slots, of all those that the shard owns. Raises `Refused` where one is on its way."""
    busy = await connection.fetch(
        "SELECT number, slots FROM moves WHERE state <> ALL ($1::text[]) AND slots && $2::int[]"
        " AND (state <> 'cancelled' OR to_shard = $3)",
        *(ENDED, wanted, to_shard),
    )
    if busy:
        raise Refused(f"move {busy[0]['number']} of {told(set(busy[0]['slots']) & set(wanted))} is not over")
    number = await connection.fetchval("SELECT coalesce(max(number), 0) + 1 FROM moves")
    await connection.execute(
        "DELETE FROM moves WHERE number < $1 AND state = ANY ($2::text[])", number - MOVES_KEPT, ENDED
    )
    devices = await connection.fetchval("SELECT devices FROM shards WHERE shard_id = $1", from_shard)
    at_once = max(1, owned * MOVE_DEVICES_MAX // max(1, devices))
    parts = [wanted[start : start + at_once] for start in range(0, len(wanted), at_once)]
    await connection.executemany(
        "INSERT INTO moves (number, from_shard, to_shard, slots, devices, state)"
        " VALUES ($1, $2, $3, $4, $5, 'planned')",
        [(number + i, from_shard, to_shard, part, devices * len(part) // owned) for i, part in enumerate(parts)],
    )
    return list(range(number, number + len(parts)))


async def _owned(connection: Any, shard_id: str) -> list[int]:
    rows = await connection.fetch("SELECT slot FROM slots WHERE shard_id = $1 ORDER BY slot", shard_id)
    return [slot for (slot,) in rows]


async def _check_pair(connection: Any, from_shard: str, to_shard: str) -> None:
    """Raises `Refused`."""
    regions = [await _region_of_live(connection, shard_id) for shard_id in (from_shard, to_shard)]
    if from_shard == to_shard:
        raise Refused(f"shard {from_shard} has them already: give another shard to move to")
    if len(set(regions)) > 1:
        raise Refused(
            f"shard {from_shard} is one of region {regions[0]}, {to_shard} of {regions[1]}; slots do not cross"
        )


async def _region_of_live(connection: Any, shard_id: str) -> str:
    """Raises `Refused` for one that is not there, or was not heard of lately."""
    row = await connection.fetchrow(
        "SELECT region, heartbeat > now() - make_interval(secs => $2) AS live FROM shards WHERE shard_id = $1",
        *(shard_id, SHARD_LIVE_S),
    )
    if row is None:
        raise Refused(f"there is no shard {shard_id}: `shards list` shows all")
    if not row["live"]:
        raise Refused(f"shard {shard_id} was not heard of in the last {SHARD_LIVE_S} s: start it first")
    region: str = row["region"]
    return region

"""`constellation shards list | move | drain`: the shards of a federation, and slots on their way from one to another.

Planning moves is all that the command does; the shards do the work, also when the command is gone.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from constellation import config
from constellation.cli.backup import INTERRUPTED, bar
from constellation.cli.options import add_options, given
from constellation.config import WorkerSettings
from constellation.slots import SLOTS

if TYPE_CHECKING:
    from constellation.federation.database import MapEntry
    from constellation.federation.moves import Move, Moves

COLUMNS = ("shard", "region", "url", "slots", "ranges", "devices", "patterns", "status", "heard of", "moves")
RANGES_SHOWN = 4
POLL_S = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | move | drain")
    listing = actions.add_parser("list", help="every shard of the map", allow_abbrev=False)
    add_options(listing, _options())
    listing.set_defaults(act=_list)
    move = actions.add_parser("move", help="give slots to another shard, while both serve", allow_abbrev=False)
    add_options(move, _options())
    move.add_argument("--from", dest="from_shard", required=True, metavar="SHARD", help="that has the slots")
    move.add_argument("--to", dest="to_shard", required=True, metavar="SHARD", help="that gets them")
    what = move.add_mutually_exclusive_group()
    what.add_argument("--slots", type=slot_ranges, metavar="RANGES", help="such as 0-4095,8192 (default: all)")
    what.add_argument("--share", type=_share, default=1.0, metavar="X", help="of the slots that it has, such as 0.5")
    what.add_argument("--cancel", action="store_true", help="take back what has not arrived of earlier moves")
    move.set_defaults(act=_move)
    drain = actions.add_parser(
        "drain", help="give all slots of a shard to others, so that it can go", allow_abbrev=False
    )
    add_options(drain, _options())
    drain.add_argument("shard", metavar="SHARD", help="that gives all it has")
    text = "that gets an equal part, may be given again (default: every other one of the region)"
    drain.add_argument("--to", dest="to_shards", action="append", default=[], metavar="SHARD", help=text)
    drain.set_defaults(act=_drain)


def run(arguments: argparse.Namespace) -> int:
    from constellation.federation.database import Refused
    from constellation.storage.connections import DatabaseUnavailable, WrongDatabase

    settings = config.load_worker(given(arguments, _options()), config_file=arguments.config)
    try:
        code: int = asyncio.run(arguments.act(settings.coordinator_url, arguments))
    except (DatabaseUnavailable, WrongDatabase, Refused) as error:
        print(f"constellation shards {arguments.action}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def slot_ranges(text: str) -> list[int]:
    """Slots of `0-4095,8192`, ascending."""
    slots: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else not last)):
            raise argparse.ArgumentTypeError(f"got {text!r}; allowed: slots and ranges such as 0-4095,8192")
        slots.update(range(int(first), int(last or first) + 1))
    if not slots or max(slots) >= SLOTS:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: from 0 to {SLOTS - 1}, the lower first")
    return sorted(slots)


def _share(text: str) -> float:
    from constellation.cli.fleet import number

    return number(0, 1)(text)


def _options() -> tuple[config.Option, ...]:
    return tuple(option for option in config.options(WorkerSettings) if option.field == "coordinator_url")


async def _list(url: str, arguments: argparse.Namespace) -> int:
    from constellation.federation.database import connected
    from constellation.federation.moves import Moves

    async with connected(url) as database:
        await database.check()
        shards = (await database.shard_map()).shards
        moves = await Moves(database).unfinished()
    Console().print(_table(shards, moves))
    return 0


async def _move(url: str, arguments: argparse.Namespace) -> int:
    from constellation.federation.database import connected
    from constellation.federation.moves import Moves

    pair = arguments.from_shard, arguments.to_shard
    async with connected(url) as database:
        await database.check()
        moves = Moves(database)
        if arguments.cancel:
            numbers = await moves.cancel(*pair, "it was cancelled")
            print(f"{len(numbers)} moves from {pair[0]} to {pair[1]} are taken back")
            return 0
        numbers = await moves.plan(*pair, arguments.slots, arguments.share)
        return _told("move", await _shown(moves, numbers))


async def _drain(url: str, arguments: argparse.Namespace) -> int:
    from constellation.federation.database import connected
    from constellation.federation.moves import Moves

    async with connected(url) as database:
        await database.check()
        moves = Moves(database)
        code = _told("drain", await _shown(moves, await moves.drain(arguments.shard, arguments.to_shards)))
    if code == 0:
        print(f"shard {arguments.shard} has no slots: it may be stopped")
    return code


def _told(action: str, ended: "list[Move]") -> int:
    """What became of the moves, for a person and as exit code."""
    for from_shard, to_shard in dict.fromkeys((move.from_shard, move.to_shard) for move in ended):
        mine = [move for move in ended if (move.from_shard, move.to_shard) == (from_shard, to_shard)]
        done = [move for move in mine if move.state == "done"]
        slots, devices = sum(len(move.slots) for move in done), sum(move.imported for move in done)
        print(f"{slots:,} slots with {devices:,} devices went from {from_shard} to {to_shard}")
        for why in sorted({move.why for move in mine if move.why}):
            print(f"constellation shards {action}: the rest stays with {from_shard}: {why}", file=sys.stderr)
    return 0 if all(move.state == "done" for move in ended) else 1


async def _shown(moves: "Moves", numbers: list[int]) -> "list[Move]":
    with bar() as part:
        return await _watched(moves, numbers, part) if numbers else []


async def _watched(
    moves: "Moves", numbers: list[int], part: Callable[[str, int | None], Callable[[int], None]]
) -> "list[Move]":
    """The moves, once all of them are over."""
    advance = None
    while True:
        found = await moves.numbered(numbers)
        total = sum(max(1, 2 * move.devices) for move in found)
        advance = advance or part("moving", total)
        advance(sum(_progress(move) for move in found))
        if all(move.state in ("done", "undone", "cancelled") for move in found):
            return found
        await asyncio.sleep(POLL_S)


def _progress(move: "Move") -> int:
    """Devices told and devices taken in; what is over is all there."""
    whole = max(1, 2 * move.devices)
    return whole if move.state in ("done", "undone") else min(whole, move.copied + move.imported)


def _table(shards: "Iterable[MapEntry]", moves: "list[Move]") -> Table:
    table = Table(*COLUMNS)
    for shard in shards:
        ranges = [f"{first}-{last}" for first, last in shard.slots]
        shown = ranges[:RANGES_SHOWN] + ["…"] * (len(ranges) > RANGES_SHOWN)
        going = [f"{len(m.slots)} to {m.to_shard}, {m.state}" for m in moves if m.from_shard == shard.shard_id]
        table.add_row(
            *(shard.shard_id, shard.region, shard.url),
            *(f"{sum(last - first + 1 for first, last in shard.slots):,}", " ".join(shown)),
            *(f"{shard.devices:,}", f"{shard.patterns:,}", "ready" if shard.live else "gone"),
            *(f"{shard.heartbeat_age_s:.0f} s ago", "; ".join(going)),
        )
    return table

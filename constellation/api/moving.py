"""The shard's part in moves of slots: it tells the devices of those that leave it, and takes in those that come.

What is done next follows from the coordinator database and the shard alone, so that after any error, or in the next
life, it goes on from there. One step between two heartbeats.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice

from constellation import limits
from constellation.api.service import Service
from constellation.errors import ShardFull
from constellation.federation.moves import Move, Moves, Piece
from constellation.records import Change, WrongRecord, decode, encode
from constellation.shard import Shard
from constellation.slots import mask_of

LEAVING = ("copying", "copied", "owned")
"""States in which the shard that has, or had, the slots takes no change of their devices."""


class Mover:
    """Works for one shard on its moves. Its calls raise `DatabaseUnavailable` and `Unavailable`."""

    def __init__(self, service: Service, moves: Moves) -> None:
        self._service, self._moves = service, moves
        self._shard_id = service.settings.shard_id
        self._telling: Telling | None = None

    async def of(self) -> list[Move]:
        """The moves that the shard has to do with and that are not over."""
        return await self._moves.of(self._shard_id)

    def leaving(self, moves: list[Move]) -> list[int]:
        """Slots whose devices must not change any more."""
        mine = [move for move in moves if move.from_shard == self._shard_id and move.state in LEAVING]
        return sorted(slot for move in mine for slot in move.slots)

    async def step(self, moves: list[Move]) -> bool:
        """One step of each that can go on, `leaving` being refused; should the next one follow at once?"""
        self._service.admit_change()
        going = [move for move in moves if move.from_shard == self._shard_id and move.state != "cancelled"]
        coming = [move for move in moves if move.to_shard == self._shard_id]
        return any([await self._give(move) for move in going[:1]] + [await self._take(move) for move in coming])

    async def _give(self, move: Move) -> bool:
        match move.state:
            case "planned":
                await self._moves.begin(move.number)
            case "copying":
                return await self._tell(move)
            case "copied":
                await self._moves.give_up(self._shard_id)
            case "owned":
                await self._drop(move)
        return False

    async def _take(self, move: Move) -> bool:
        match move.state:
            case "copied":
                return await self._take_in(move)
            case "cancelled":
                await self._drop(move)
        return False

    async def _tell(self, move: Move) -> bool:
        service = self._service
        telling = self._telling
        if telling is None or telling.number != move.number or telling.shard is not service.shard:
            # What is told stays so: all of it is on disk, and from now on nothing of it changes.
            await service.keeper.kept(service.keeper.keep(None))
            await self._moves.begin(move.number)
            telling = self._telling = Telling(move, service.shard)
        pieces = await telling.next(limits.MOVE_PIECES_PER_STEP)
        if not await self._moves.tell(move.number, pieces):
            self._telling = None
        elif telling.over:
            await self._moves.copied(move.number)
        return True

    async def _take_in(self, move: Move) -> bool:
        service = self._service
        pieces = await self._moves.pieces(move.number, limits.MOVE_PIECES_PER_STEP)
        if pieces is None:
            return False
        position = 0
        try:
            for piece in pieces:
                service.admit_change()
                try:
                    service.shard.take_in(decode(piece.content), service.clock())
                finally:
                    position = service.keep()
                await asyncio.sleep(0)
        except (ShardFull, WrongRecord) as error:
            await self._moves.cancel(move.from_shard, move.to_shard, f"{move.to_shard}: {error}")
            return True
        await service.keeper.kept(position)
        if pieces:
            await self._moves.imported(move.number, pieces)
        else:
            await self._moves.own(move.number)
        return True

    async def _drop(self, move: Move) -> None:
        """The devices of these slots are another shard's."""
        service, slots, row = self._service, mask_of(move.slots), 0
        while row >= 0:
            service.admit_change()
            row = service.shard.drop(slots, row, service.clock())
            await service.keeper.kept(service.keep())
            await asyncio.sleep(0)
        await self._moves.end(move.number)


class Telling:
    """How far one move is told; what comes after an error begins anew."""

    def __init__(self, move: Move, shard: Shard) -> None:
        self.number, self.shard = move.number, shard
        self.over = False
        self._pieces = 0
        self._changes: Iterator[Change] = shard.tell(mask_of(move.slots), limits.MOVE_PATTERNS_PER_PIECE)

    async def next(self, most: int) -> list[Piece]:
        """What the next so many steps tell; the loop turns between them."""
        steps, pieces = 0, []
        for change in islice(self._changes, most):
            steps += 1
            if len(change.devices) or change.forgotten:
                self._pieces += 1
                pieces.append(Piece(self._pieces, len(change.devices), encode(change)))
            await asyncio.sleep(0)
        self.over = steps < most
        return pieces

"""The shard's part in the federation: it says that it is there, gives partials to rounds, and serves what they find.

One look at the coordinator database after the other, each of which may fail: syncs need none of it. What a look finds
is newer than what is here, or nothing; so one may be left out, be late, or be repeated.
"""

import asyncio
import logging
import random
import time
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import msgspec

from constellation import limits
from constellation.api.moving import Mover
from constellation.api.service import Service
from constellation.api.slot_map import Place, SlotMap
from constellation.codebook import WrongCodebook
from constellation.config import NONE
from constellation.errors import Unavailable
from constellation.federation import RefusedPartial
from constellation.federation import database as coordinator
from constellation.federation.database import CoordinatorDatabase, Member, Refused, Unregistered
from constellation.federation.moves import Moves
from constellation.rounds import FederationResult, Partial, WrongRound, decode_partial, decode_result
from constellation.spans import reporting
from constellation.storage import last_round
from constellation.storage.connections import DatabaseUnavailable, WrongDatabase, retry_after_s

PASSING = (DatabaseUnavailable, Refused, WrongDatabase, WrongCodebook, WrongRound, Unregistered, Unavailable)
"""What a look may raise: said in `/health/detailed`, and tried again."""

_PLACE = "place"
_log = logging.getLogger(__name__)


class Round(NamedTuple):
    """One that was published, and what this shard gave to it, if it gave anything in time."""

    result: FederationResult
    given: Partial | None


async def federate(service: Service) -> None:
    """Look at the coordinator database for ever; nothing to do without one."""
    if service.settings.coordinator_url == NONE:
        return
    failures, rng = 0, random.Random()
    while True:
        try:
            async with coordinator.connected(service.settings.coordinator_url) as database:
                await _join(service, database)
                mover = Mover(service, Moves(database))
                while True:
                    pause_s = await _look(service, database, mover)
                    failures, service.federation.failing = 0, ""
                    await asyncio.sleep(pause_s)
        except PASSING as error:
            if service.federation.failing != (why := str(error)):
                _log.warning("the federation goes on without this shard", extra={"why": why})
            service.federation.failing = why
        failures += 1
        await asyncio.sleep(retry_after_s(failures, rng))


def restore_place(service: Service) -> None:
    """Serve by the map of an earlier life, and refuse what was leaving then, until the first look."""
    kept = None if service.settings.coordinator_url == NONE else service.keeper.recall(_PLACE)
    try:
        if kept is not None:
            service.map = SlotMap(msgspec.msgpack.decode(kept, type=Place), service.settings.region)
    except msgspec.MsgspecError as error:
        _log.warning("the map of an earlier life cannot be read", extra={"why": str(error)})


async def restore_round(service: Service) -> None:
    """Serve the last round that was taken over in an earlier life, if there was one."""
    parts = await last_round.find(_folder(service)) if _kept(service) else []
    try:
        if parts:
            _serve(service, await asyncio.to_thread(_decoded, *parts))
    except (WrongRound, TypeError) as error:
        _log.warning("the last round cannot be served", extra={"why": str(error)})


async def _join(service: Service, database: CoordinatorDatabase) -> None:
    settings = service.settings
    await database.migrate()
    await database.publish_codebook(service.codebook)
    share, _, shares = settings.share.partition("/")
    member = Member(settings.shard_id, settings.region, service.url, settings.shares)
    await database.register(member, int(share), int(shares), service.map.held(settings.shard_id))
    service.federation.map_epoch = 0  # that of a database which began anew says nothing about the map


async def _look(service: Service, database: CoordinatorDatabase, mover: Mover) -> float:
    """Seconds after which the next look is due."""
    began_at = time.perf_counter()
    await service.opened.wait()
    settings, shard, stats = service.settings, service.shard, service.stats()
    moves = await mover.of()  # before the map: a move that is over is in the map that follows
    known = service.federation.map_epoch
    epoch = await database.heartbeat(
        settings.shard_id, known, stats.total_devices, stats.patterns_stored, shard.codebook_version
    )
    if epoch < known:
        raise Unregistered(settings.shard_id)
    epoch, shards = await database.shard_map() if epoch != known else (epoch, service.map.shards)
    _take_place(service, Place(epoch, shards, mover.leaving(moves)))
    service.federation.map_epoch = epoch
    more = await mover.step(moves)
    if newer := await database.codebook(service.codebook.version):
        service.codebook = newer
        shard.use(newer)
    if asked := await database.open_round(settings.shard_id):
        with reporting(service.tracer.report, "federation.partial") as told:
            told["federation.round"] = asked[0]
            await _report(database, await _returned(shard.partial(*asked)))
    if published := await database.published(service.federation.round, settings.shard_id):
        with reporting(service.tracer.report, "federation.publish") as told:
            _serve(service, await asyncio.to_thread(_decoded, published.result, published.given))
            told["federation.round"] = service.federation.round
        if _kept(service):
            await last_round.keep(_folder(service), (published.result, published.given))
    if service.live.watched.is_set():
        service.live.rounds = await database.last_rounds(limits.ROUNDS_SHOWN)
    service.federation.looked_s = time.perf_counter() - began_at
    if more:
        return 0.0
    return limits.MOVE_POLL_S if moves else limits.SHARD_HEARTBEAT_S


def _take_place(service: Service, place: Place) -> None:
    """Serve by it from now on, also in the next life. Raises `StorageFailed`."""
    if place != service.map.place:
        service.keeper.remember(_PLACE, msgspec.msgpack.encode(place))
        service.map = SlotMap(place, service.settings.region)


async def _report(database: CoordinatorDatabase, partial: Partial | None) -> None:
    try:
        if partial is not None:
            await database.report(partial)
    except RefusedPartial as refused:
        _log.warning("a round goes on without this shard", extra={"why": str(refused)})


async def _returned(steps: Generator[None, None, Partial | None]) -> Partial | None:
    """What the steps return; the loop turns between them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            partial: Partial | None = end.value
            return partial
        await asyncio.sleep(0)


def _decoded(result: bytes, given: bytes) -> Round:
    return Round(decode_result(result), decode_partial(given) if given else None)


def _serve(service: Service, found: Round) -> None:
    result = found.result
    service.shard.publish(result, found.given)
    service.federation.round = result.number
    service.metrics.federation.round(result.patterns, sum(map(len, result.trends)))
    _log.info("round", extra={"number": result.number, "prototypes": len(result.prototypes)})


def _kept(service: Service) -> bool:
    return service.settings.storage != "memory"


def _folder(service: Service) -> Path:
    return Path(service.settings.data_dir)

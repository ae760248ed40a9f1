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

from constellation import limits
from constellation.api.service import Service
from constellation.api.slot_map import SlotMap
from constellation.codebook import WrongCodebook
from constellation.config import NONE
from constellation.federation import RefusedPartial
from constellation.federation import database as coordinator
from constellation.federation.database import CoordinatorDatabase, Member, Refused, Unregistered
from constellation.rounds import FederationResult, Partial, WrongRound, decode_partial, decode_result
from constellation.storage import last_round
from constellation.storage.connections import DatabaseUnavailable, WrongDatabase, retry_after_s

PASSING = (DatabaseUnavailable, Refused, WrongDatabase, WrongCodebook, WrongRound, Unregistered)
"""What a look may raise: said in `/health/detailed`, and tried again."""

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
                while True:
                    await _look(service, database)
                    failures, service.federation.failing = 0, ""
                    await asyncio.sleep(limits.SHARD_HEARTBEAT_S)
        except PASSING as error:
            if service.federation.failing != (why := str(error)):
                _log.warning("the federation goes on without this shard", extra={"why": why})
            service.federation.failing = why
        failures += 1
        await asyncio.sleep(retry_after_s(failures, rng))


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
    await database.register(member, int(share), int(shares))


async def _look(service: Service, database: CoordinatorDatabase) -> None:
    began_at = time.perf_counter()
    await service.opened.wait()
    settings, shard, stats = service.settings, service.shard, service.stats()
    known = service.federation.map_epoch
    epoch = await database.heartbeat(
        settings.shard_id, known, stats.total_devices, stats.patterns_stored, shard.codebook_version
    )
    if epoch != known:
        service.map = SlotMap(*await database.shard_map(), region=settings.region)
        service.federation.map_epoch = service.map.epoch
    if newer := await database.codebook(service.codebook.version):
        service.codebook = newer
        shard.use(newer)
    if asked := await database.open_round(settings.shard_id):
        await _report(database, await _returned(shard.partial(*asked)))
    if published := await database.published(service.federation.round, settings.shard_id):
        _serve(service, await asyncio.to_thread(_decoded, published.result, published.given))
        if _kept(service):
            await last_round.keep(_folder(service), (published.result, published.given))
    service.federation.looked_s = time.perf_counter() - began_at


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

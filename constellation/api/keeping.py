"""The shard and what keeps it: restored before the first answer, and anew whenever the disk failed it.

A failed commit leaves a state that nobody may see, because it may not be on disk: the shard is dropped and restored
from what is, as soon as disk and database let it. Until then the service is not ready (503 `storage`).
"""

import asyncio
import gc
import logging
import time

from constellation import limits
from constellation.api.federating import restore_place, restore_round
from constellation.api.service import Service
from constellation.errors import StorageFailed
from constellation.shard import Shard
from constellation.storage.journal import JournalFailed
from constellation.storage.keeper import PASSING

_log = logging.getLogger(__name__)


async def load(service: Service) -> None:
    """Restore the service's shard from its storage and open the service. The loop turns meanwhile."""
    began_at = time.perf_counter()
    shard = Shard(service.settings, service.clock(), service.keeper.tombstone_key, service.codebook)
    await service.keeper.restore(shard)
    for _ in shard.restored():
        await asyncio.sleep(0)
    service.keeper.begin(shard)
    service.shard = shard
    restore_place(service)
    await restore_round(service)
    gc.collect()
    gc.freeze()
    service.open()
    seconds = round(time.perf_counter() - began_at, 2)
    _log.info("loaded", extra={"seconds": seconds, "patterns": shard.stats(service.clock()).patterns_stored})


async def keep(service: Service) -> None:
    """The storage's work in the background, for ever; a failed journal is got over. Raises what ends this process."""
    while True:
        try:
            await service.keeper.run()
        except JournalFailed as error:
            _log.error("the journal failed, the shard is restored from disk", extra={"why": str(error)})
            service.close(StorageFailed)
            await _load_anew(service)


async def _load_anew(service: Service) -> None:
    """Attempt after attempt, until the disk can be written and the database be read."""
    said = ""
    while True:
        try:
            await service.keeper.reopen()
            return await load(service)
        except PASSING as error:
            if said != (said := str(error)):
                _log.warning("the shard cannot be restored yet", extra={"why": said})
        await asyncio.sleep(limits.FLUSH_EVERY_S)

"""What a process does beside answering: upkeep and expiry in small steps, keeping, and watching how late the loop runs.

All are tasks that `running` owns: cancelled and awaited at the end; one that fails turns readiness off.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

from constellation import limits
from constellation.api.federating import federate
from constellation.api.keeping import keep
from constellation.api.page.drawing import draw
from constellation.api.page.watching import watch
from constellation.api.service import STORAGE, Service
from constellation.errors import Unavailable
from constellation.identity import Identity, Tls

_LAG_SAMPLE_S = 0.05

_log = logging.getLogger(__name__)


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """The background of a service, for as long as the block lasts."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_guard(service, "upkeep", _maintain(service))),
            group.create_task(_guard(service, "expiry", _expire(service))),
            group.create_task(_guard(service, "loop watch", _watch_lag(service))),
            group.create_task(_guard(service, STORAGE, _keep(service))),
            group.create_task(_guard(service, "federation", federate(service))),
            group.create_task(_guard(service, "page", watch(service))),
            group.create_task(_guard(service, "map", draw(service))),
            group.create_task(_guard(service, "identity", _watch_files(service))),
        ]
        if service.access_log is not None:
            service.access_log.start()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            if service.access_log is not None:
                service.access_log.stop()


async def _guard(service: Service, part: str, work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except Exception as error:
        _log.exception("background task failed", extra={"part": part})
        service.fail(part, repr(error))


async def _maintain(service: Service) -> None:
    while True:
        began_s = time.thread_time()
        more = service.shard.maintain()
        service.admission.spare_s += time.thread_time() - began_s
        # One step of at most LOOP_TURN_MS_MAX, then every request that has come is answered before the next one.
        await asyncio.sleep(0 if more else limits.MAINTAIN_EVERY_MS / 1e3)


async def _keep(service: Service) -> None:
    await service.opened.wait()
    await keep(service)


async def _expire(service: Service) -> None:
    """Forget devices that did not come for long: a look at all of them now and then, in small steps."""
    while True:
        await asyncio.sleep(limits.EXPIRE_EVERY_S)
        await service.opened.wait()
        with suppress(Unavailable):  # then it goes on another time
            more = True
            while more and not service.map.leaving:  # what was told to another shard stays as it is
                service.admit_change()
                began_s = time.thread_time()
                more = service.shard.expire(service.clock())
                took_s = time.thread_time() - began_s
                await service.keeper.kept(service.keep())
                await asyncio.sleep(limits.EXPIRE_RESTS * took_s)


async def _watch_files(service: Service) -> None:
    """Keys, revocations and certificates, as they are written; in a thread, because disks make one wait."""
    watched: list[Identity | Tls] = [service.identity, *([service.tls] if service.tls else [])]
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(service.files_written.wait(), limits.FILES_LOOKED_AT_EVERY_S)
        service.files_written.clear()
        for each in watched:
            await asyncio.to_thread(each.look)


async def _watch_lag(service: Service) -> None:
    while True:
        began_at, began_s = time.perf_counter(), time.thread_time()
        await asyncio.sleep(_LAG_SAMPLE_S)
        elapsed_s, worked_s = time.perf_counter() - began_at, time.thread_time() - began_s
        service.loop_lag_s = max(0.0, elapsed_s - _LAG_SAMPLE_S)
        service.loop_lag_s_max = max(service.loop_lag_s_max, service.loop_lag_s)
        service.live.lag_s_max = max(service.live.lag_s_max, service.loop_lag_s)
        if service.opened.is_set():  # loading works as hard as it can
            service.admission.sample(elapsed_s, worked_s, service.loop_lag_s)

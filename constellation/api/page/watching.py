"""Once a second a look at the service: a row of the history, and events while somebody listens. Task of `background`.

What takes longer than a row is made in turns of its own, and only while somebody watches.
"""

import asyncio
import time

from constellation.api.page import events
from constellation.api.service import Service

EVERY_S = 1.0
SLOW_EVERY = 5
"""Seconds between two events of the kinds that change slowly."""


async def watch(service: Service) -> None:
    live, latencies = service.live, service.latencies
    due_at = began_at = time.monotonic()
    syncs, turn = latencies.count, 0
    while True:
        due_at = max(due_at + EVERY_S, time.monotonic() + EVERY_S / 2)  # a rate is of no shorter time
        await asyncio.sleep(due_at - time.monotonic())
        at = time.monotonic()
        moment = events.now(service, syncs, at - began_at)
        syncs, began_at, turn = latencies.count, at, turn + 1
        live.history.add(events.row(moment))
        if not live.watched.is_set():
            continue
        live.tell("now", moment)
        if live.joined or turn % SLOW_EVERY == 0:
            live.joined = False
            for kind, build in (("taste", events.taste), ("trends", events.trends), ("rounds", events.rounds)):
                await asyncio.sleep(0)
                live.keep(kind, build(service))

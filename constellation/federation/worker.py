"""The worker: walks one round after another through its states, a transaction a step.

It keeps nothing itself: killed anywhere, whoever leads next reads the state from the database and goes on; merging is
deterministic but for noise, of which only what is published was ever seen, so it is simply done again. Of many workers
one leads, the others wait for its lease to run out.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import NamedTuple

from constellation.federation.database import CoordinatorDatabase, RoundRow, connect
from constellation.federation.leading import PLAIN, Leadership, LeaseLost, NoRound, Wanted, take_lead
from constellation.federation.merging import FederationCoordinator
from constellation.federation.terms import RefusedPartial, RoundTerms
from constellation.limits import WORKER_POLL_S
from constellation.rounds import FederationResult, Partial, WrongRound, decode_partial, encode
from constellation.storage.connections import DatabaseUnavailable, retry_after_s

_log = logging.getLogger(__name__)

RELEASE_S_MAX = 2
"""A database that does not answer by then finds out by itself that this worker is gone."""

Refuse = Callable[[RefusedPartial], None]


class Schedule(NamedTuple):
    """A round begins at every multiple of the interval, at once if that is 0, and waits until the deadline at most."""

    interval_s: float
    deadline_s: float


class Worker:
    """`holder` says to people who leads. Bound to the event loop that runs `rounds`."""

    def __init__(self, url: str, holder: str, schedule: Schedule, wanted: Wanted = PLAIN) -> None:
        self._url, self._holder, self._schedule, self._wanted = url, holder, schedule, wanted
        self._database: CoordinatorDatabase | None = None
        self._lead: Leadership | None = None
        self._rng = random.Random()
        self._failures = 0
        self._said = ""
        self.unavailable = ""
        """Why the database cannot be used at the moment, '' if it can."""

    @property
    def leading(self) -> bool:
        return self._lead is not None

    async def rounds(self) -> AsyncGenerator[RoundRow, None]:
        """Each round that this worker has ended, for ever. Raises `WrongDatabase`.

        While the database is away it waits, longer and longer.
        """
        while True:
            pause_s = 0.0
            try:
                row = await self.step()
                self._failures, self.unavailable = 0, ""
                if row is None:
                    pause_s = WORKER_POLL_S
                elif row.state in ("published", "abandoned"):
                    _log.info("round ended", extra=row._asdict())
                    yield row
            except NoRound as error:
                self._say("no round can be opened", str(error))
                pause_s = WORKER_POLL_S
            except DatabaseUnavailable as error:
                self._failures += 1
                self.unavailable = str(error)
                self._say("the coordinator database cannot be used", str(error))
                pause_s = retry_after_s(self._failures, self._rng)
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Let another worker lead, and give up every connection; what is still running is cut off."""
        if self._lead is not None:
            with contextlib.suppress(DatabaseUnavailable, LeaseLost, TimeoutError):
                async with asyncio.timeout(RELEASE_S_MAX):
                    await self._lead.release()
        if self._database is not None:
            await self._database.close()

    async def step(self) -> RoundRow | None:
        """One step of the round that goes on, or the opening of the next; None if there is nothing to do yet.

        Raises `NoRound`, `DatabaseUnavailable`, `WrongDatabase`.
        """
        lead = await self._led()
        if lead is None:
            return None
        try:
            return await self._advance(lead)
        except LeaseLost:
            _log.warning("another worker leads")
            self._lead = None
            return None

    async def _advance(self, lead: Leadership) -> RoundRow | None:
        current = await lead.current()
        if current is None:
            return await lead.open(*self._schedule, self._wanted)
        if current.state == "collecting":
            return await lead.close_collecting(current.terms.round)
        return await self._merge(lead, current.terms)

    async def _merge(self, lead: Leadership, terms: RoundTerms) -> RoundRow:
        refused: list[RefusedPartial] = []
        partials = _partials(lead, terms.round, asyncio.get_running_loop(), refused.append)
        result, content = await asyncio.to_thread(_merged, terms, partials, refused.append)
        why = "; ".join(map(str, refused))
        if not result.shards_reported:
            return await lead.abandon(terms.round, why)
        return await lead.publish(result, content, why, self._wanted.noised and self._wanted.noised.budget)

    async def _led(self) -> Leadership | None:
        if self._database is None:
            self._database = await _opened(self._url)
        if self._lead is None:
            self._lead = await take_lead(self._database, self._holder)
        return self._lead

    def _say(self, what: str, why: str) -> None:
        """Once, until something else is to be said."""
        if self._said != why:
            self._said = why
            _log.warning(what, extra={"why": why})


async def _opened(url: str) -> CoordinatorDatabase:
    database = await connect(url)
    try:
        await database.migrate()
    except BaseException:
        await database.close()
        raise
    return database


def _merged(terms: RoundTerms, partials: Iterator[Partial], refuse: Refuse) -> tuple[FederationResult, bytes]:
    """In a thread: the loop turns meanwhile."""
    result = FederationCoordinator(terms).run_federation(partials, refuse)
    return result, encode(result)


def _partials(lead: Leadership, number: int, loop: asyncio.AbstractEventLoop, refuse: Refuse) -> Iterator[Partial]:
    """For the thread: one at a time is read from the database and let go."""
    after = ""
    while found := asyncio.run_coroutine_threadsafe(lead.next_partial(number, after), loop).result():
        after, content = found
        try:
            partial = decode_partial(content)
        except WrongRound as error:
            refuse(RefusedPartial(after, str(error)))
            continue
        if partial.shard_id == after:
            yield partial
        else:
            refuse(RefusedPartial(after, f"it says that it is of shard {partial.shard_id!r}"))

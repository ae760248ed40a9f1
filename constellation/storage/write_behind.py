"""Write-behind: what the journal made durable goes to PostgreSQL a little later, coalesced, in fenced transactions.

One task; PostgreSQL may be slow, away or failed over, and nothing that is acknowledged waits for it. Only what the
journal has on disk is written. The stored position is that before which everything is in the database. A circuit
breaker (Nygard, Release It!, 2007) leaves a database alone that failed, and tries it again after a while.

Constraints, what must hold:
- A batch that may not have been written is dirty again, together with what changed since.
- After every new connection the database's position is read: where it went back, all since is dirty again; where the
  journal does not reach back so far, this shard stops (`Behind`).
- A process that lost its place (`Fenced`) writes nothing more.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from constellation import limits
from constellation.records import Change, TrendCells, decode
from constellation.spans import Report, reporting, unreported
from constellation.storage.connections import DatabaseUnavailable, retry_after_s
from constellation.storage.database import Claim, Database
from constellation.storage.dirty import Dirty
from constellation.storage.journal import Journal
from constellation.storage.writing import write

_log = logging.getLogger(__name__)

Read = Callable[[dict[bytes, set[bytes]], list[int], TrendCells], Change]
"""`Shard.read`: what is there now under these keys."""


Circuit = Literal["closed", "open", "half-open"]
"""The database takes what is written; it did not and is left alone until the next attempt; that attempt goes on."""


class Behind(Exception):
    """The database lacks what the journal no longer has: it was restored, or failed over to a standby too far back."""


class Backlog(NamedTuple):
    """What is not in the database yet."""

    records: int
    age_s: float


class WriteBehind:
    """The way of a shard's changes into its database.

    `commit` makes durable all that `read` would give, or raises `JournalFailed`; `claim` reconnects and returns where
    the database stands.
    """

    def __init__(
        self,
        database: Database,
        journal: Journal,
        commit: Callable[[], None],
        claim: Callable[[], Awaitable[Claim]],
        read: Read,
        report: Report = unreported,
    ) -> None:
        self._database, self._journal, self._read = database, journal, read
        self._commit, self._claim_again, self._report = commit, claim, report
        self._claim: Claim | None = None
        self._dirty = Dirty()
        self._wake = asyncio.Event()
        self._rng = random.Random()
        self._failures = 0
        self._writing = False
        self._clean_at = time.monotonic()
        self.flushed = 0
        """Everything up to this position is in the database."""
        self.last_flush_s = 0.0
        self.flushes = 0
        self.circuit: Circuit = "closed"
        self.unavailable = ""
        """Why the database cannot be written at the moment, '' if it can."""

    def begin(self, claim: Claim) -> None:
        """The database was claimed, and the shard restored from it and from the journal behind it."""
        self._claim = claim
        self.flushed = claim.position

    def note(self, change: Change, position: int) -> None:
        """A change was appended to the journal; called in the turn of the loop in which it was."""
        if not len(self._dirty):
            self._clean_at = time.monotonic()
        self._dirty.note(change, position)
        if len(self._dirty) >= limits.FLUSH_PATTERNS_MAX:
            self._wake.set()

    def backlog(self) -> Backlog:
        if not len(self._dirty) and not self._writing:
            return Backlog(0, 0.0)
        return Backlog(self._journal.tail - self.flushed, time.monotonic() - self._clean_at)

    async def run(self) -> None:
        """Write for ever. Raises `JournalFailed`; `Fenced` and `Behind`, when this process must stop."""
        while True:
            await self._pause()
            try:
                await self.flush()
            except DatabaseUnavailable as error:
                self._open_circuit(error)

    async def flush(self) -> None:
        """Write all that is dirty now. Raises `DatabaseUnavailable`, `JournalFailed`, `Fenced`, `Behind`."""
        claim = await self._claimed()
        end = self._journal.tail
        while len(self._dirty) and (self._dirty.since() or 0) <= end:
            await self._write_batch(claim)
        self._close_circuit()

    async def _write_batch(self, claim: Claim) -> None:
        self._commit()  # only what is on disk may be written; what the read sees is no newer than this
        batch = self._dirty.take(limits.FLUSH_PATTERNS_MAX, limits.FLUSH_TITLES_MAX, limits.FLUSH_CELLS_MAX)
        position = self._journal.tail
        since = self._dirty.since()
        began_at = time.monotonic()
        self._writing = True
        try:
            change = self._read(batch.patterns(), list(batch.titles), batch.trend_cells())
            change.forgotten = [forgotten for _, forgotten in batch.forgotten.values()]
            stored = position if since is None else since - 1
            with reporting(self._report, "flush") as told:
                told |= {"flush.devices": len(change.devices), "flush.patterns": len(change.patterns)}
                await write(self._database, claim, change, stored, device_position=position, since=self.flushed)
        except BaseException:
            self._dirty.put_back(batch)
            raise
        finally:
            self._writing = False
        self.flushed = max(self.flushed, stored)
        self.last_flush_s = time.monotonic() - began_at
        self.flushes += 1
        self._clean_at = began_at
        self._close_circuit()

    async def _claimed(self) -> Claim:
        """The claim, given anew after the connection was lost, with what the database lacks dirty again."""
        if self._claim is not None and self._database.claimed:
            return self._claim
        claim = await self._claim_again()
        if claim.position < self.flushed:
            await self._mark_since(claim.position)
        self._claim = claim
        return claim

    async def _mark_since(self, position: int) -> None:
        """The database went back to this position: whatever the journal has behind it is dirty."""
        if position + 1 < self._journal.first:
            raise Behind(
                f"the database stands at position {position}, the journal begins at {self._journal.first}: what lies "
                "between is in neither; restore a newer backup, or start with --accept-loss"
            )
        _log.warning("the database went back", extra={"from": self.flushed, "to": position})
        self.flushed = position
        self._commit()
        end = self._journal.tail
        lacking = Dirty()
        for at, record in self._journal.read(position):
            if at > end:
                break  # what came meanwhile is dirty already
            lacking.note(decode(record), at)
            if at % limits.RECORDS_READ_PER_TURN_MAX == 0:
                await asyncio.sleep(0)
        self._dirty.put_back(lacking.take_all())

    def _close_circuit(self) -> None:
        self._failures, self.circuit, self.unavailable = 0, "closed", ""

    def _open_circuit(self, error: DatabaseUnavailable) -> None:
        if not self.unavailable:
            _log.warning("the database cannot be written, the journal keeps what comes", extra={"why": str(error)})
        self._failures += 1
        self.circuit, self.unavailable = "open", str(error)

    async def _pause(self) -> None:
        """Until the next flush is due; after failures longer and longer, jittered: shards shall not come at once."""
        if self._failures:
            await asyncio.sleep(retry_after_s(self._failures, self._rng))
            self.circuit = "half-open"
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(limits.FLUSH_EVERY_S):
                await self._wake.wait()
        except TimeoutError:
            pass

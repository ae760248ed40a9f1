"""Keeping what a shard acknowledges: the data directory, the journal, the database behind it, and the way back.

`open_keeper` takes what the settings name, or refuses with a sentence for the operator. It restores a shard; from then
on every change goes through `keep`, and its reply waits for `kept`.

Constraints, what must hold:
- One process per data directory (`OwnerLock`) and per database (`Database.claim`).
- `kept` returns only for what is on disk; where that failed, this keeper keeps nothing more until it is `reopened` and
  a shard is restored anew, because nobody knows what of the failed commit is on disk.
- What a shard holds that could not be kept goes nowhere: neither into the database nor into a snapshot.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from constellation import limits
from constellation.config import EMBEDDED, Settings
from constellation.errors import StorageFailed
from constellation.records import Change, Forgotten, TrendCells, decode, empty_change, encode
from constellation.spans import Report, unreported
from constellation.storage import database as databases
from constellation.storage import embedded
from constellation.storage.connections import DatabaseUnavailable, WrongDatabase
from constellation.storage.database import Claim, Database, DatabaseOwned, WrongJournal
from constellation.storage.embedded import EmbeddedServer
from constellation.storage.journal import DamagedJournal, Journal, JournalFailed, JournalFull
from constellation.storage.loading import load, positions_ahead, tombstones
from constellation.storage.lock import AlreadyOwned, OwnerLock
from constellation.storage.snapshot import Snapshots, Told
from constellation.storage.write_behind import Behind, Circuit, WriteBehind

JOURNAL_FILE = "journal.sqlite"

_log = logging.getLogger(__name__)


class Measures(NamedTuple):
    """How the storage does: what is not in the database yet, and what the last commit and flush took."""

    journal_bytes: int
    position: int
    """Of the last record in the journal."""
    commit_s: float
    commit_s_max: float
    backlog_records: int
    backlog_age_s: float
    flush_s: float
    flushes: int
    circuit: Circuit
    """Of the way to the database."""
    failing: dict[str, str]
    """Parts that do not work at the moment -> why. Syncs go on without the database, not without the journal."""


class Kept(Told, Protocol):
    """A shard, as its keeper sees it."""

    def expect(self, layout: bytes) -> None: ...

    def restore(self, change: Change, places: bytes = b"") -> None: ...

    def read(self, keys: dict[bytes, set[bytes]], titles: list[int], cells: TrendCells) -> Change: ...


class Keeper(Protocol):
    """What the service needs of its storage."""

    @property
    def tombstone_key(self) -> bytes | None: ...

    def admit(self) -> None:
        """Raises `StorageFailed` when nothing can be kept at the moment."""

    async def restore(self, shard: Kept) -> None:
        """Put all that was kept into an empty shard; the loop turns meanwhile."""

    def begin(self, shard: Kept) -> None:
        """The shard is restored; it tells what it holds from now on."""

    def keep(self, change: Change | None) -> int:
        """Write down what a call changed; the position for `kept`. Without a change that of the last one."""

    async def kept(self, position: int) -> None:
        """Returns when all up to the position is on disk. Raises `StorageFailed`."""

    def recall(self, key: str) -> bytes | None:
        """What was remembered last. Raises `DamagedJournal`."""

    def remember(self, key: str, value: bytes) -> None:
        """Beside the changes; on disk on return. Raises `StorageFailed`."""

    async def run(self) -> None:
        """The work in the background, for ever. Raises `JournalFailed` when the shard must be restored anew."""

    async def reopen(self) -> None:
        """After `JournalFailed`: open the journal and claim the database anew, for a shard to be restored.

        Raises what `open_keeper` does; `PASSING` of it may be over at the next attempt.
        """

    async def close(self) -> None: ...

    def measures(self) -> Measures | None:
        """None where nothing is kept."""


class NothingKept:
    """`--storage memory`: the same behaviour, with nothing on disk."""

    tombstone_key: bytes | None = None

    def admit(self) -> None:
        pass

    async def restore(self, shard: Kept) -> None:
        pass

    def begin(self, shard: Kept) -> None:
        pass

    def keep(self, change: Change | None) -> int:
        return 0

    async def kept(self, position: int) -> None:
        pass

    def recall(self, key: str) -> bytes | None:
        return None

    def remember(self, key: str, value: bytes) -> None:
        pass

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def reopen(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def measures(self) -> Measures | None:
        return None


class JournaledKeeper:
    """A journal in the data directory, and PostgreSQL behind it."""

    def __init__(
        self,
        lock: OwnerLock,
        server: EmbeddedServer | None,
        database: Database,
        journal: Journal,
        claim: Claim,
        settings: Settings,
        clock: Callable[[], float],
        report: Report,
    ) -> None:
        self._report = report
        self._lock, self._server, self._database, self.journal = lock, server, database, journal
        self._claim, self._settings, self._clock = claim, settings, clock
        self._journal_failed = asyncio.Event()
        self.write_behind: WriteBehind | None = None
        self._shard: Kept | None = None
        self._snapshots = self._snapshots_of(journal)

    @property
    def tombstone_key(self) -> bytes | None:
        return self._claim.tombstone_key

    def admit(self) -> None:
        if self._shard is None or self._journal_failed.is_set() or self.journal.failed:
            raise StorageFailed("the journal cannot be written", retry_after_s=limits.RETRY_AFTER_S)
        if not self.journal.room_for(limits.BODY_BYTES_MAX):
            raise StorageFailed(
                "the journal is full: the database has not taken its records for too long",
                retry_after_s=limits.RETRY_AFTER_S,
            )

    async def restore(self, shard: Kept) -> None:
        found = await self._snapshots.find()
        _log.info("restoring", extra={"source": "the database" if found is None else "the snapshot"})
        if found is None:
            await self._restore_from_database(shard)
            return
        shard.expect(found.header.layout)
        for change, places in found.pieces():
            shard.restore(change, places)
            await asyncio.sleep(0)
        for _, record in self.journal.read(found.header.position):
            shard.restore(decode(record))
            await asyncio.sleep(0)

    async def _restore_from_database(self, shard: Kept) -> None:
        async with contextlib.aclosing(load(self._database)) as stored:
            async for change in stored:
                shard.restore(change)
                await asyncio.sleep(0)
        dead = empty_change()
        async with self._database.connection() as connection:
            dead.forgotten = [Forgotten(b"", *tombstone) for tombstone in await tombstones(connection)]
        shard.restore(dead)
        ahead = await positions_ahead(self._database)
        for position, record in self.journal.read(self._claim.position):
            shard.restore(_behind(decode(record), position, ahead))
            await asyncio.sleep(0)

    def begin(self, shard: Kept) -> None:
        self._shard = shard
        self.write_behind = WriteBehind(
            self._database, self.journal, self._commit, self._claim_again, shard.read, self._report
        )
        self.write_behind.begin(self._claim)
        for position, record in self.journal.read(self._claim.position):
            self.write_behind.note(decode(record), position)

    def keep(self, change: Change | None) -> int:
        assert self.write_behind is not None
        try:
            self._must_work()
            if change is None:
                return self.journal.tail
            position = self.journal.append(encode(change))
        except (JournalFull, JournalFailed) as error:
            self._journal_failed.set()
            raise StorageFailed(str(error), retry_after_s=limits.RETRY_AFTER_S) from error
        self.write_behind.note(change, position)
        return position

    async def kept(self, position: int) -> None:
        try:
            await self.journal.wait_durable(position)
        except JournalFailed as error:
            self._journal_failed.set()
            raise StorageFailed("the journal cannot be written", retry_after_s=limits.RETRY_AFTER_S) from error

    def recall(self, key: str) -> bytes | None:
        return self.journal.get(key)

    def remember(self, key: str, value: bytes) -> None:
        try:
            self._must_work()
            self.journal.put(key, value)
        except JournalFailed as error:
            self._journal_failed.set()
            raise StorageFailed("the journal cannot be written", retry_after_s=limits.RETRY_AFTER_S) from error

    async def run(self) -> None:
        assert self.write_behind is not None and self._shard is not None
        snapshots = self._snapshots.run(self._shard)
        work = [self.write_behind.run(), self._tend_journal(), snapshots, self._watch_journal()]
        tasks = [asyncio.create_task(part) for part in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def reopen(self) -> None:
        self._shard = None
        self.journal.close()
        path = Path(self._settings.data_dir) / JOURNAL_FILE
        self.journal = Journal.open(path, self._settings.journal_max_bytes, self._clock)
        self._journal_failed.clear()
        self._snapshots = self._snapshots_of(self.journal)
        _check_continues(await self._claim_again(), self.journal)

    async def close(self) -> None:
        """Write what is left, as far as the database takes it soon; the rest is in the journal and in a snapshot."""
        try:
            if self.write_behind is not None and self._shard is not None and not self._journal_failed.is_set():
                await self._flush_last(self.write_behind)
                await self._snapshots.take(self._shard)
        except JournalFailed as error:
            _log.warning("the journal failed while stopping", extra={"why": str(error)})
        finally:
            await self._database.close()
            if self._server is not None:
                await self._server.stop()
            self.journal.close()
            self._lock.release()

    def measures(self) -> Measures | None:
        journal, behind = self.journal, self.write_behind
        if behind is None:
            return None
        records, age_s = behind.backlog()
        failing = {"database": behind.unavailable} if behind.unavailable else {}
        if journal.failed:
            failing["journal"] = "it cannot be written"
        return Measures(
            journal_bytes=journal.bytes_stored,
            position=journal.tail,
            commit_s=journal.last_commit_s,
            commit_s_max=journal.max_commit_s,
            backlog_records=records,
            backlog_age_s=age_s,
            flush_s=behind.last_flush_s,
            flushes=behind.flushes,
            circuit=behind.circuit,
            failing=failing,
        )

    async def _claim_again(self) -> Claim:
        if self._server is not None:
            await self._server.ensure_running()
        try:
            self._claim = await self._database.claim(
                self._settings.shard_id, bytes.fromhex(self.journal.id), owner_name(), accept_loss=False
            )
        except DatabaseOwned as error:
            async with self._database.connection() as connection:
                epoch = await connection.fetchval("SELECT epoch FROM shards")
            if epoch != self._claim.epoch:
                raise
            # Our own session, which the server has not found dead yet.
            raise DatabaseUnavailable(str(error)) from error
        return self._claim

    async def _flush_last(self, write_behind: WriteBehind) -> None:
        try:
            async with asyncio.timeout(limits.LAST_FLUSH_S_MAX):
                await write_behind.flush()
        except (
            DatabaseUnavailable,
            WrongDatabase,
            databases.Fenced,
            Behind,
            TimeoutError,
        ) as error:
            _log.warning("the last changes are not in the database yet", extra={"why": str(error)})

    def _snapshots_of(self, journal: Journal) -> Snapshots:
        return Snapshots(
            Path(self._settings.data_dir), journal, self._settings.snapshot_every_s, self._commit, self._report
        )

    def _commit(self) -> None:
        """What the shard holds is on disk afterwards. Raises `JournalFailed`."""
        self._must_work()
        self.journal.commit()

    async def _watch_journal(self) -> None:
        await self._journal_failed.wait()
        self._must_work()

    def _must_work(self) -> None:
        """Raises `JournalFailed` when the shard holds what was refused, or is not there."""
        if self._shard is None or self._journal_failed.is_set():
            raise JournalFailed("the journal could not be written")

    def _keep_after(self) -> int:
        """What is behind this position is needed: by the database, or to go on from the snapshot."""
        assert self.write_behind is not None
        flushed, snapshot = self.write_behind.flushed, self._snapshots.position
        return flushed if snapshot is None else min(flushed, snapshot)

    async def _tend_journal(self) -> None:
        """Take away what is long in the database, and move the log into its file; both in the background's own time."""
        while True:
            await asyncio.sleep(limits.JOURNAL_KEEP_EVERY_S)
            before_s = self._clock() - limits.JOURNAL_KEPT_S
            while self.journal.trim(self._keep_after(), before_s, limits.JOURNAL_TRIMMED_PER_STEP_MAX):
                await asyncio.sleep(0)
            await asyncio.to_thread(self.journal.checkpoint)


REFUSALS = (AlreadyOwned, DatabaseUnavailable, WrongDatabase, JournalFailed, DamagedJournal)
"""What `open_keeper` and the loading may raise; each says what an operator can do."""
PASSING = (DatabaseUnavailable, JournalFailed)
"""Those of them that a shard that served waits for to be over."""


async def open_keeper(
    settings: Settings, clock: Callable[[], float] = time.time, report: Report = unreported
) -> Keeper:
    """The storage that the settings name. Raises one of `REFUSALS`."""
    if settings.storage == "memory":
        return NothingKept()
    lock = OwnerLock(Path(settings.data_dir))
    lock.acquire()
    server: EmbeddedServer | None = None
    database: Database | None = None
    try:
        url = settings.database_url
        if url == EMBEDDED:
            server = await embedded.start(Path(settings.data_dir))
            url = server.url
        database = await databases.connect(url)
        await database.migrate()
        journal, claim = await _open_journal(settings, database, clock)
        return JournaledKeeper(lock, server, database, journal, claim, settings, clock, report)
    except BaseException:
        if database is not None:
            await database.close()
        if server is not None:
            await server.stop()
        lock.release()
        raise


async def _open_journal(settings: Settings, database: Database, clock: Callable[[], float]) -> tuple[Journal, Claim]:
    """The journal and the claim that fit together; with `--accept-loss` a journal that does not fit is put aside."""
    path = Path(settings.data_dir) / JOURNAL_FILE
    journal = Journal.open(path, settings.journal_max_bytes, clock)
    try:
        return journal, await _claim_for(settings, database, journal)
    except WrongJournal:
        journal.close()
        if not settings.accept_loss:
            raise
    except BaseException:
        journal.close()
        raise
    path.rename(path.with_suffix(f".lost-{int(clock())}"))
    journal = Journal.open(path, settings.journal_max_bytes, clock)
    return journal, await _claim(settings, database, journal, accept_loss=True)


async def _claim_for(settings: Settings, database: Database, journal: Journal) -> Claim:
    """The claim, if the journal goes on where the database ends. Raises `WrongJournal`."""
    claim = await _claim(settings, database, journal, accept_loss=False)
    _check_continues(claim, journal)
    return claim


def _check_continues(claim: Claim, journal: Journal) -> None:
    """Raises `WrongJournal` where the journal does not go on from the database's position."""
    if claim.position > journal.tail or claim.position + 1 < journal.first:
        raise WrongJournal(
            f"the database stands at position {claim.position}, the journal holds {journal.first} to {journal.tail}: "
            "what lies between is lost. Put the right journal back, or start with --accept-loss"
        )


async def _claim(settings: Settings, database: Database, journal: Journal, *, accept_loss: bool) -> Claim:
    return await database.claim(settings.shard_id, bytes.fromhex(journal.id), owner_name(), accept_loss=accept_loss)


def _behind(change: Change, position: int, ahead: dict[bytes, int]) -> Change:
    """The change without the devices that the database already has as they were later."""
    if all(ahead.get(device_id.tobytes(), 0) >= position for device_id in change.devices.ids):
        empty = empty_change()
        return msgspec.structs.replace(change, devices=empty.devices, gone=empty.gone, patterns=empty.patterns)
    return change


def owner_name() -> str:
    """Who owns the shard, for people."""
    return f"process {os.getpid()} on {socket.gethostname()}"

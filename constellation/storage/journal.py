"""The journal: a durable, ordered log of byte records in one SQLite file, written before anything is acknowledged.

Record n is the n-th ever appended; what is stored is always one unbroken run of positions, `first` to `durable`.
Used inline on the event loop by whoever acknowledges (a commit is one write and one fsync of the write-ahead log);
only `checkpoint`, which moves the log into the file, is for a worker thread.

Constraints, what must hold:
- A position that `commit` or `wait_durable` returned for is read back after a crash of the process or the system.
- What `open` shows is on disk: it moves the log into the file and syncs both, because a log that a dead process left
  may only be in the page cache. So it also proves that the disk can be written.
- After a failed write the journal takes nothing until it is opened again. Whether the failed commit is on disk is
  unknown; the acknowledged ones are.
- The position of a committed record is never given to another one, also when all were trimmed. One that was appended
  and not committed may be given again after the next `open`.
- A record that is given was stored like this: a checksum covers each row, and positions have no gaps.
What must fail: a damaged row, a gap, a file that is not a journal or of another format, more than `max_bytes`.
What cannot be noticed here: bytes lost from the middle of the write-ahead log. SQLite ends the log there, as it does
for a torn tail; who knows a later position must compare it with `tail`.
One process uses a journal at a time (`lock.OwnerLock`), and one thread at a time, `checkpoint` excepted.
"""

import asyncio
import secrets
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import xxhash

from constellation.storage.frames import sync_folder

FORMAT = 1
"""Of the file, in its user_version."""
ID_BYTES = 16
LOG_BYTES_MAX = 16 << 20
"""From here on a checkpoint keeps the writer out for its last, short round rather than let the log grow."""
LOG_FILE_BYTES_MAX = 4 * LOG_BYTES_MAX
"""What the file of the log is cut back to when the log starts afresh; up to there, writing over it is faster."""
CHECKPOINT_ROUNDS_MAX = 8
BUSY_S_MAX = 5.0
"""How long one connection waits for another's lock."""
READ_RECORDS_MAX = 64
"""Fetched at once by `read`."""
TRIMMED_BYTES_MAX = 1 << 20
"""At once, but for a record that is larger by itself: a page takes some 2 us to free."""

_APPLICATION_ID = 0x434A4E4C
_ROW = struct.Struct("<qdq")
_ROW_TYPES = (int, float, int, bytes, bytes)
# The last: a message of SQLite that quotes damaged bytes.
_SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
_SCHEMA = (
    "CREATE TABLE header (id BLOB NOT NULL, trimmed INTEGER NOT NULL, trimmed_bytes INTEGER NOT NULL)",
    # ends_at: bytes of all records ever appended, this one included; two of them give the size of what lies between.
    "CREATE TABLE records (position INTEGER PRIMARY KEY, committed_at REAL NOT NULL, ends_at INTEGER NOT NULL,"
    " checksum BLOB NOT NULL, record BLOB NOT NULL)",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID",
    f"PRAGMA user_version = {FORMAT}",
    f"PRAGMA application_id = {_APPLICATION_ID}",
)


class JournalFull(Exception):
    """The record does not fit below `max_bytes`; nothing was appended."""


class JournalFailed(Exception):
    """A write failed. The journal must be opened again, which fails until the disk can be written."""


class DamagedJournal(Exception):
    """What is stored is not what was written. `position` is the first record that cannot be given, 0 if unknown."""

    def __init__(self, path: Path, position: int, what: str) -> None:
        super().__init__(
            f"{path} is damaged at position {position}: {what}. The records before it are good. Stop the shard and"
            f" restore the file with its -wal from a copy, or move both away: it then starts from what is in the"
            f" database and what was acknowledged but not yet flushed is lost"
        )
        self.position = position


class Checkpoint(NamedTuple):
    """What a checkpoint did. If `whole`, all of the log is in the file and the next commit starts the log afresh."""

    whole: bool
    rounds: int
    log_bytes: int
    """How long the log was."""
    held_s: float
    """How long the writer was kept out."""
    seconds: float


class Journal:
    """Made by `open`. Counts and times are since then.

    `commits`, `records` (committed), `last_commit_s` and `max_commit_s` are for metrics. The clock, unix seconds,
    dates the records for `trim`.
    """

    def __init__(self, path: Path, max_bytes: int, clock: Callable[[], float], db: sqlite3.Connection) -> None:
        self.max_bytes = max_bytes
        self.commits = 0
        self.records = 0
        self.last_commit_s = 0.0
        self.max_commit_s = 0.0
        self._path = path
        self._clock = clock
        self._db = db
        self._failure: Exception | None = None
        self._closed = False
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._checkpointing = threading.Lock()
        # Held by every transaction, and by a checkpoint that needs the log to stand still.
        self._writing = threading.Lock()
        self._turns = 0  # Of that lock; by them the checkpoint's thread sees that the log stood still.
        self._id, self._trimmed, self._trimmed_bytes, self._durable, self._ends_at = self._state()

    @classmethod
    def open(cls, path: Path, max_bytes: int, clock: Callable[[], float] = time.time) -> "Journal":
        """The journal at path, made if there is none. Raises `JournalFailed` and `DamagedJournal`."""
        try:
            db = _connect(path)
            try:
                _prepare(db, path)
                return cls(path, max_bytes, clock, db)
            except BaseException:
                db.close()
                raise
        except (*_SQLITE_ERRORS, OSError) as error:
            raise _opening_error(path, error) from error

    @property
    def id(self) -> str:
        """Random, 32 hex digits, given when the file was made: tells one journal from another at the same path."""
        return self._id.hex()

    @property
    def first(self) -> int:
        """Position of the oldest record still there, or tail + 1."""
        return self._trimmed + 1

    @property
    def durable(self) -> int:
        """The last position that is safe."""
        return self._durable

    @property
    def tail(self) -> int:
        """The last position appended."""
        return self._durable + len(self._pending)

    @property
    def bytes_stored(self) -> int:
        """Of the committed records that are still there, without what SQLite adds."""
        return self._ends_at - self._trimmed_bytes

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def room_for(self, n_bytes: int) -> bool:
        return self.bytes_stored + self._pending_bytes + n_bytes <= self.max_bytes

    def append(self, record: bytes) -> int:
        """Its position. It is only in memory until committed. Raises `JournalFull` and `JournalFailed`."""
        self._must_work()
        if not self.room_for(len(record)):
            raise JournalFull(
                f"{len(record)} bytes do not fit: {self.bytes_stored + self._pending_bytes} of at most"
                f" {self.max_bytes} are used"
            )
        self._pending.append(record)
        self._pending_bytes += len(record)
        return self.tail

    def commit(self) -> None:
        """Makes all that was appended durable, in one transaction. Raises `JournalFailed`."""
        self._must_work()
        if not self._pending:
            return
        began_at = time.perf_counter()
        with self._transaction():
            self._db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", self._rows())
        self.commits += 1
        self.records += len(self._pending)
        self._durable += len(self._pending)
        self._ends_at += self._pending_bytes
        self._pending, self._pending_bytes = [], 0
        self.last_commit_s = time.perf_counter() - began_at
        self.max_commit_s = max(self.max_commit_s, self.last_commit_s)

    async def wait_durable(self, position: int) -> None:
        """Returns when position is durable; whoever waits in one turn of the loop shares a commit.

        Raises `JournalFailed` if that commit failed or the journal was closed before it.
        """
        assert position <= self.tail, f"position {position} was never appended, the last is {self.tail}"
        if position <= self._durable:
            return
        self._must_work()
        loop = asyncio.get_running_loop()
        if not self._waiters:
            loop.call_soon(self._commit_for_waiters)
        waiter = loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def read(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Committed records behind position `after`, in order; from `first` on where `after` is before it.

        Holds no lock between records: what is committed meanwhile is read too, what is trimmed is left out.
        Raises `DamagedJournal` at the first record that is not as it was written, after giving those before it.
        """
        while (after := max(after, self._trimmed)) < self._durable:
            for position, record in self._read_some(after):
                yield position, record
                after = position

    def trim(self, keep_after: int, before_s: float, limit: int) -> int:
        """Deletes the oldest records, and says how many: at most `limit`, or TRIMMED_BYTES_MAX if that is less, up to
        position `keep_after`, and only such as were committed before unix time `before_s`. Raises `JournalFailed`.

        Costs one commit and a few microseconds a record; the space is used again by later records.
        """
        self._must_work()
        with self._reading(self._trimmed + 1):
            oldest = self._db.execute(
                "SELECT position, committed_at, ends_at FROM records WHERE position <= ? ORDER BY position LIMIT ?",
                (keep_after, limit),
            ).fetchall()
        trimmed, trimmed_bytes = self._trimmed, self._trimmed_bytes
        for position, committed_at, ends_at in oldest:
            too_many = ends_at - self._trimmed_bytes > TRIMMED_BYTES_MAX and trimmed > self._trimmed
            if committed_at >= before_s or too_many:
                break
            trimmed, trimmed_bytes = position, ends_at
        if trimmed == self._trimmed:
            return 0
        with self._transaction():
            self._db.execute("DELETE FROM records WHERE position <= ?", (trimmed,))
            self._db.execute("UPDATE header SET trimmed = ?, trimmed_bytes = ?", (trimmed, trimmed_bytes))
        gone = trimmed - self._trimmed
        self._trimmed, self._trimmed_bytes = trimmed, trimmed_bytes
        return gone

    def get(self, key: str) -> bytes | None:
        """What was put under the key. Raises `DamagedJournal`."""
        self._must_work()
        with self._reading(0):
            row = self._db.execute("SELECT value, checksum FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        value, checksum = row
        if not isinstance(value, bytes) or checksum != _meta_checksum(key, value):
            raise DamagedJournal(self._path, 0, f"the value of {key!r} does not match its checksum")
        return value

    def put(self, key: str, value: bytes) -> None:
        """Durable on return, in a transaction of its own; records that wait for a commit go on waiting.

        Raises `JournalFailed`.
        """
        self._must_work()
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (key, value, _meta_checksum(key, value)))

    def checkpoint(self) -> Checkpoint:
        """Moves the write-ahead log into the file. For a worker thread; commits go on meanwhile.

        Each round moves what the one before left, so rounds get short; one in which no commit began has moved and
        synced everything, and the log starts afresh. Only when there was none and the log is over `LOG_BYTES_MAX` does
        one more round, of a few pages, keep the writer out. Raises `JournalFailed`; what was committed stays in the
        log then, and the journal goes on.
        """
        with self._checkpointing:
            self._must_work()
            try:
                return self._move_log()
            except (*_SQLITE_ERRORS, OSError) as error:
                raise JournalFailed(f"the log of {self._path} cannot be moved into it: {error}") from error

    def close(self) -> None:
        """Drops what was not committed; who waits for it gets `JournalFailed`. Waits for a running checkpoint."""
        with self._checkpointing:
            self._closed = True
            # The last connection moves the log into the file; where it cannot, the log stays for the next `open`.
            self._db.close()
        self._fail_waiters()

    def _state(self) -> tuple[bytes, int, int, int, int]:
        """Id, last trimmed position and its ends_at, last position and its ends_at."""
        headers = self._db.execute("SELECT id, trimmed, trimmed_bytes FROM header").fetchall()
        if len(headers) != 1:
            raise DamagedJournal(self._path, 0, f"{len(headers)} headers instead of one")
        id_, trimmed, trimmed_bytes = headers[0]
        oldest = self._db.execute("SELECT position FROM records ORDER BY position LIMIT 1").fetchone()
        if oldest is None:
            return id_, trimmed, trimmed_bytes, trimmed, trimmed_bytes
        if oldest[0] != trimmed + 1:
            raise DamagedJournal(self._path, trimmed + 1, f"the oldest record is {oldest[0]}")
        last = self._db.execute("SELECT position, ends_at FROM records ORDER BY position DESC LIMIT 1").fetchone()
        return id_, trimmed, trimmed_bytes, *last

    def _rows(self) -> Iterator[tuple[int, float, int, bytes, bytes]]:
        committed_at, ends_at = self._clock(), self._ends_at
        for position, record in enumerate(self._pending, self._durable + 1):
            ends_at += len(record)
            yield position, committed_at, ends_at, _checksum(position, committed_at, ends_at, record), record

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, and synced; whatever goes wrong in it fails the journal."""
        with self._writing:
            self._turns += 1
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except Exception as error:
                with suppress(*_SQLITE_ERRORS):
                    self._db.execute("ROLLBACK")
                raise self._fail(error) from error
            finally:
                self._turns += 1

    def _fail(self, error: Exception) -> JournalFailed:
        self._failure = error
        return self._failed_error()

    def _failed_error(self) -> JournalFailed:
        if self._failure is None:
            return JournalFailed(f"{self._path} is closed")
        failed = JournalFailed(f"{self._path} failed and must be opened again: {self._failure}")
        failed.__cause__ = self._failure
        return failed

    def _must_work(self) -> None:
        if self._closed or self._failure is not None:
            raise self._failed_error()

    def _commit_for_waiters(self) -> None:
        if not self._waiters:
            return  # It was closed in between.
        try:
            self.commit()
        except JournalFailed:
            self._fail_waiters()
        else:
            for waiter in self._take_waiters():
                waiter.set_result(None)

    def _fail_waiters(self) -> None:
        for waiter in self._take_waiters():
            # An error of its own for each: raising one object in many tasks would mix their tracebacks.
            waiter.set_exception(self._failed_error())

    def _take_waiters(self) -> list[asyncio.Future[None]]:
        """Those that were not cancelled; the list starts afresh."""
        waiters, self._waiters = self._waiters, []
        return [waiter for waiter in waiters if not waiter.done()]

    def _read_some(self, after: int) -> Iterator[tuple[int, bytes]]:
        self._must_work()
        try:
            rows = self._rows_behind(after, READ_RECORDS_MAX)
        except DamagedJournal:
            rows = self._rows_behind(after, 1)  # Those before the damaged one are good.
        if not rows:
            raise DamagedJournal(self._path, after + 1, f"nothing is stored from there to position {self._durable}")
        for expected, row in enumerate(rows, after + 1):
            position, committed_at, ends_at, checksum, record = row
            if position != expected:
                raise DamagedJournal(self._path, expected, f"the next record is {position}")
            if tuple(map(type, row)) != _ROW_TYPES or checksum != _checksum(position, committed_at, ends_at, record):
                raise DamagedJournal(self._path, position, "the record does not match its checksum")
            yield position, record

    def _rows_behind(self, after: int, limit: int) -> list[tuple[int, float, int, bytes, bytes]]:
        with self._reading(after + 1):
            return self._db.execute(
                "SELECT position, committed_at, ends_at, checksum, record FROM records"
                " WHERE position > ? ORDER BY position LIMIT ?",
                (after, limit),
            ).fetchall()

    @contextmanager
    def _reading(self, position: int) -> Iterator[None]:
        """A disk that cannot be read fails the journal; what SQLite cannot make sense of is damage at position."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise self._fail(error) from error
        except _SQLITE_ERRORS as error:
            raise DamagedJournal(self._path, position, str(error)) from error

    def _move_log(self) -> Checkpoint:
        began_at = time.perf_counter()
        with closing(_connect(self._path)) as db:
            (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
            db.execute("SELECT id FROM header").fetchone()  # SQLite looks for the log only when it reads.
            rounds, whole, log_bytes, held_s = 0, False, 0, 0.0
            while not whole and rounds < CHECKPOINT_ROUNDS_MAX:
                rounds += 1
                turns = self._turns
                log_pages = _checkpoint(db, "PASSIVE")
                if log_pages is None:
                    continue  # It met a commit that was just ending.
                log_bytes = page_bytes * log_pages
                whole = turns % 2 == 0 and self._turns == turns
            if not whole and log_bytes > LOG_BYTES_MAX:
                whole, held_s = self._hold_and_move(db)
        return Checkpoint(whole, rounds, log_bytes, held_s, time.perf_counter() - began_at)

    def _hold_and_move(self, db: sqlite3.Connection) -> tuple[bool, float]:
        """Whether all was moved, which only another process could prevent, and for how long no commit could begin."""
        with self._writing:
            began_at = time.perf_counter()
            log_pages = _checkpoint(db, "PASSIVE")
            return log_pages is not None, time.perf_counter() - began_at


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that syncs every commit and leaves the log alone otherwise."""
    db = sqlite3.connect(path, timeout=BUSY_S_MAX, isolation_level=None, check_same_thread=False)
    db.text_factory = bytes  # Damage can turn bytes into text that is none.
    try:
        db.execute("PRAGMA synchronous = FULL")
        # Only macOS has it: a sync that reaches the disk and not only its cache.
        db.execute("PRAGMA fullfsync = ON")
        db.execute("PRAGMA checkpoint_fullfsync = ON")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(f"PRAGMA journal_size_limit = {LOG_FILE_BYTES_MAX}").fetchone()
        # Some builds overwrite what is deleted, which makes a trim write as much as was ever appended.
        db.execute("PRAGMA secure_delete = OFF").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Makes the tables if there are none, and brings all that the log holds into the file."""
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != b"wal":
        raise JournalFailed(f"{path} cannot have a write-ahead log, only {mode.decode()}: it must be on a local disk")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version == 0 and tables == 0:
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            db.execute(statement)
        db.execute("INSERT INTO header VALUES (?, 0, 0)", (secrets.token_bytes(ID_BYTES),))
        db.execute("COMMIT")
        sync_folder(path.parent)
    elif (application := db.execute("PRAGMA application_id").fetchone()[0]) != _APPLICATION_ID:
        raise JournalFailed(f"{path} is not a journal: its application id is {application}, not {_APPLICATION_ID}")
    elif version != FORMAT:
        raise JournalFailed(f"{path} is a journal of format {version}; this release reads format {FORMAT}")
    if _checkpoint(db, "TRUNCATE") is None:
        raise JournalFailed(f"{path} is in use: another process, or a journal that was not closed, has it open")


def _checkpoint(db: sqlite3.Connection, mode: str) -> int | None:
    """How many pages the log had; None if another connection was in the way."""
    busy, log_pages, _ = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    if busy:
        return None
    assert log_pages >= 0, "not a connection with a write-ahead log"
    return int(log_pages)


def _opening_error(path: Path, error: Exception) -> JournalFailed | DamagedJournal:
    if isinstance(error, sqlite3.OperationalError | OSError):
        return JournalFailed(f"{path} cannot be opened for writing: {error}")
    return DamagedJournal(path, 0, str(error))


def _checksum(position: int, committed_at: float, ends_at: int, record: bytes) -> bytes:
    """xxh64 of everything in the row."""
    digest = xxhash.xxh64(_ROW.pack(position, committed_at, ends_at))
    digest.update(record)
    return digest.digest()


def _meta_checksum(key: str, value: bytes) -> bytes:
    name = key.encode()
    digest = xxhash.xxh64(struct.pack("<q", len(name)) + name)
    digest.update(value)
    return digest.digest()

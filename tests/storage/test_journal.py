"""The journal: order, room, group commit, trims and checkpoints. What breaks it is in test_journal_faults.

`record_of` makes the record of a position, so that a ledger is only numbers.
"""

import asyncio
import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from constellation.storage import journal as module
from constellation.storage.journal import TRIMMED_BYTES_MAX, Journal, JournalFailed, JournalFull

ROOMY = 1 << 30


def record_of(position: int) -> bytes:
    """5 to about 12,000 bytes that only this position has: within a page and over several."""
    return b"%d:" % position + hashlib.shake_128(b"%d" % position).digest(3 + position * 7919 % 12_000)


def fill(journal: Journal, count: int) -> None:
    for _ in range(count):
        position = journal.tail + 1
        assert journal.append(record_of(position)) == position
    journal.commit()


def assert_holds(journal: Journal, first: int, last: int) -> None:
    """Exactly the records first to last, each as it was appended."""
    found = list(journal.read(0))
    assert [position for position, _ in found] == list(range(first, last + 1))
    assert all(record == record_of(position) for position, record in found)
    assert (journal.first, journal.durable, journal.tail) == (first, last, last)
    assert journal.bytes_stored == sum(len(record) for _, record in found)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = Journal.open(path, ROOMY)
    yield opened
    opened.close()


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def test_new_journal_is_empty_and_has_an_id_that_stays(path: Path, tmp_path: Path) -> None:
    journal = Journal.open(path, ROOMY)
    assert_holds(journal, 1, 0)
    assert len(bytes.fromhex(journal.id)) == 16
    journal.close()
    again, other = Journal.open(path, ROOMY), Journal.open(tmp_path / "other.db", ROOMY)
    assert again.id == journal.id != other.id
    again.close()
    other.close()


def test_appended_is_only_in_memory_until_committed(journal: Journal, path: Path) -> None:
    assert journal.append(record_of(1)) == 1
    assert (journal.tail, journal.durable, journal.bytes_stored) == (1, 0, 0)
    assert list(journal.read(0)) == []
    journal.commit()
    assert_holds(journal, 1, 1)


def test_records_come_back_after_reopening_and_positions_go_on(path: Path) -> None:
    for generation in range(3):
        journal = Journal.open(path, ROOMY)
        assert_holds(journal, 1, generation * 100)
        fill(journal, 100)
        journal.append(b"never committed")
        journal.close()


def test_reading_begins_behind_the_position_given(journal: Journal) -> None:
    fill(journal, 200)
    assert [position for position, _ in journal.read(150)] == list(range(151, 201))
    assert list(journal.read(200)) == list(journal.read(500)) == []


def test_reading_goes_on_with_what_is_committed_and_leaves_out_what_is_trimmed(journal: Journal) -> None:
    fill(journal, 200)
    reader = journal.read(0)
    assert next(reader)[0] == 1
    fill(journal, 50)
    journal.trim(220, float("inf"), 1000)
    rest = [position for position, _ in reader]
    assert rest[-1] == 250 and rest == sorted(set(rest)) and set(range(221, 251)) <= set(rest)


def test_full_journal_refuses_and_has_appended_nothing(path: Path) -> None:
    journal = Journal.open(path, 100)
    journal.append(bytes(60))
    assert journal.room_for(40) and not journal.room_for(41)
    with pytest.raises(JournalFull, match="41 bytes do not fit: 60 of at most 100 are used"):
        journal.append(bytes(41))
    journal.commit()
    assert journal.append(bytes(40)) == 2
    journal.commit()
    with pytest.raises(JournalFull):
        journal.append(b"1")
    assert journal.trim(1, float("inf"), 10) == 1
    assert journal.append(bytes(60)) == 3
    journal.close()


def test_trim_deletes_what_is_old_and_released_and_no_more_than_the_limit(path: Path) -> None:
    now = 1000.0
    journal = Journal.open(path, ROOMY, clock=lambda: now)
    for now in (1000.0, 1010.0, 1020.0):  # noqa: B007  the clock reads it
        fill(journal, 10)
    assert journal.trim(keep_after=30, before_s=1000.0, limit=100) == 0
    assert journal.trim(keep_after=5, before_s=1020.0, limit=100) == 5
    assert_holds(journal, 6, 30)
    assert journal.trim(keep_after=30, before_s=1020.0, limit=4) == 4
    assert_holds(journal, 10, 30)
    assert journal.trim(keep_after=30, before_s=1020.0, limit=100) == 11
    assert_holds(journal, 21, 30)
    journal.close()


def test_trim_deletes_only_so_many_bytes_at_once_but_at_least_a_record(path: Path) -> None:
    journal = Journal.open(path, ROOMY)
    for _ in range(3):
        journal.append(bytes(TRIMMED_BYTES_MAX // 2))
    journal.append(bytes(2 * TRIMMED_BYTES_MAX))
    journal.append(b"small")
    journal.commit()
    assert [journal.trim(5, float("inf"), 100) for _ in range(5)] == [2, 1, 1, 1, 0]
    journal.close()


def test_positions_are_not_used_again_after_everything_was_trimmed(path: Path) -> None:
    journal = Journal.open(path, ROOMY)
    fill(journal, 20)
    assert journal.trim(20, float("inf"), 100) == 20
    assert_holds(journal, 21, 20)
    journal.close()
    journal = Journal.open(path, ROOMY)
    assert_holds(journal, 21, 20)
    fill(journal, 1)
    assert_holds(journal, 21, 21)
    journal.close()


def test_space_of_trimmed_records_is_used_again(journal: Journal, path: Path) -> None:
    sizes = []
    for _ in range(12):
        fill(journal, 100)
        journal.trim(journal.durable - 100, float("inf"), 1000)
        journal.checkpoint()
        sizes.append(path.stat().st_size)
    assert max(sizes[2:]) <= 1.2 * sizes[2]


def test_meta_values_are_durable_and_apart_from_waiting_records(journal: Journal, path: Path) -> None:
    assert journal.get("flushed") is None
    journal.append(b"waits")
    journal.put("flushed", b"1")
    journal.put("flushed", b"\x00\xff")
    assert journal.get("flushed") == b"\x00\xff"
    assert (journal.durable, journal.tail) == (0, 1)
    journal.close()
    again = Journal.open(path, ROOMY)
    assert again.get("flushed") == b"\x00\xff" and again.tail == 0
    again.close()


def test_commits_are_counted_and_timed(journal: Journal) -> None:
    fill(journal, 3)
    fill(journal, 4)
    journal.commit()
    assert (journal.commits, journal.records) == (2, 7)
    assert 0 < journal.last_commit_s <= journal.max_commit_s


def test_waiters_of_one_turn_share_one_commit(journal: Journal) -> None:
    async def one() -> int:
        position = journal.append(record_of(journal.tail + 1))
        await journal.wait_durable(position)
        assert journal.durable >= position
        return position

    async def run() -> list[int]:
        return await asyncio.gather(*(one() for _ in range(50)))

    assert sorted(asyncio.run(run())) == list(range(1, 51))
    assert journal.commits == 1
    assert_holds(journal, 1, 50)


def test_waiting_for_what_is_durable_returns_at_once(journal: Journal) -> None:
    fill(journal, 1)
    waiting = journal.wait_durable(1)
    with pytest.raises(StopIteration):
        waiting.send(None)


def test_cancelled_waiter_leaves_the_others_and_the_commit_alone(journal: Journal) -> None:
    async def run() -> list[BaseException | None]:
        for position in (1, 2, 3):
            journal.append(record_of(position))
        tasks = [asyncio.create_task(journal.wait_durable(position)) for position in (1, 2, 3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = asyncio.run(run())
    assert isinstance(first, asyncio.CancelledError) and others == [None, None]
    assert_holds(journal, 1, 3)


def test_all_waiters_get_the_failure_and_the_journal_takes_nothing_until_reopened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_S_MAX", 0.001)
    journal = Journal.open(path, ROOMY)
    fill(journal, 5)
    intruder = sqlite3.connect(path, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")

    async def run() -> list[BaseException | None]:
        positions = [journal.append(b"x") for _ in range(3)]
        return await asyncio.gather(*map(journal.wait_durable, positions), return_exceptions=True)

    failures = asyncio.run(run())
    assert len({id(failure) for failure in failures}) == 3
    for failure in failures:
        assert isinstance(failure, JournalFailed) and "database is locked" in str(failure)
        assert isinstance(failure.__cause__, sqlite3.OperationalError)
    assert journal.failed and journal.durable == 5
    refused: list[Callable[[], object]] = [
        lambda: journal.append(b"x"),
        journal.commit,
        lambda: journal.put("key", b""),
        lambda: journal.trim(5, 0, 1),
        journal.checkpoint,
        lambda: asyncio.run(journal.wait_durable(6)),
    ]
    for call in refused:
        with pytest.raises(JournalFailed, match="must be opened again"):
            call()
    asyncio.run(journal.wait_durable(5))
    intruder.close()
    journal.close()
    again = Journal.open(path, ROOMY)
    assert_holds(again, 1, 5)
    again.close()


def test_closing_fails_who_still_waits(journal: Journal) -> None:
    async def run() -> None:
        journal.append(b"x")
        waiting = asyncio.create_task(journal.wait_durable(1))
        asyncio.get_running_loop().call_soon(journal.close)
        # The close above runs before the commit that the waiter schedules when it first runs.
        with pytest.raises(JournalFailed):
            await waiting

    asyncio.run(run())


def test_checkpoint_moves_the_whole_log_and_the_log_file_does_not_grow_for_ever(journal: Journal, path: Path) -> None:
    sizes = []
    for _ in range(10):
        fill(journal, 50)
        done = journal.checkpoint()
        assert done.whole and done.rounds == 1 and done.log_bytes > 0
        sizes.append(wal_of(path).stat().st_size)
    assert max(sizes) < 2 * sizes[0] < journal.bytes_stored


def test_large_log_file_is_cut_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_FILE_BYTES_MAX", 100_000)
    journal = Journal.open(path, ROOMY)
    fill(journal, 100)
    assert wal_of(path).stat().st_size > 500_000
    journal.checkpoint()
    fill(journal, 1)
    assert wal_of(path).stat().st_size <= 100_000
    journal.close()


def test_log_over_its_bound_that_never_stands_still_is_moved_with_the_writer_kept_out(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_turns", 1)  # As if a transaction ran all the time.
    fill(journal, 50)
    size = wal_of(path).stat().st_size
    left = journal.checkpoint()
    assert not left.whole and left.rounds == module.CHECKPOINT_ROUNDS_MAX and left.held_s == 0
    monkeypatch.setattr(module, "LOG_BYTES_MAX", size // 2)
    moved = journal.checkpoint()
    assert moved.whole and moved.held_s > 0
    fill(journal, 1)
    assert wal_of(path).stat().st_size == size, "the log did not start afresh"
    assert_holds(journal, 1, 51)


def test_checkpoint_that_meets_the_end_of_a_commit_tries_again(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(journal, 10)
    checkpoint, met = module._checkpoint, [None, None]
    monkeypatch.setattr(module, "_checkpoint", lambda db, mode: met.pop() if met else checkpoint(db, mode))
    done = journal.checkpoint()
    assert done.whole and done.rounds == 3


def test_commits_go_on_while_a_thread_checkpoints(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_BYTES_MAX", 100_000)
    journal = Journal.open(path, ROOMY)

    async def run() -> None:
        for _ in range(20):
            checkpoint = asyncio.create_task(asyncio.to_thread(journal.checkpoint))
            while not checkpoint.done():
                await journal.wait_durable(journal.append(record_of(journal.tail + 1)))
            await checkpoint

    asyncio.run(run())
    last = journal.tail
    assert last >= 20
    assert_holds(journal, 1, last)
    journal.close()
    journal = Journal.open(path, ROOMY)
    assert_holds(journal, 1, last)
    journal.close()


class Against(RuleBasedStateMachine):
    """A journal against a dict, through commits, trims, clean ends and ends without one."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.journal = Journal.open(self.folder / "journal.db", ROOMY)
        self.stored: dict[int, bytes] = {}
        self.pending: dict[int, bytes] = {}
        self.last = 0

    @rule(records=st.lists(st.binary(max_size=9000), max_size=5))
    def append(self, records: list[bytes]) -> None:
        for record in records:
            position = self.journal.append(record)
            assert position == self.last + len(self.pending) + 1
            self.pending[position] = record

    @rule()
    def commit(self) -> None:
        self.journal.commit()
        self.stored |= self.pending
        self.last += len(self.pending)
        self.pending = {}

    @rule(keep_after=st.integers(0, 40), limit=st.integers(0, 10))
    def trim(self, keep_after: int, limit: int) -> None:
        expected = [position for position in sorted(self.stored) if position <= keep_after][:limit]
        assert self.journal.trim(keep_after, float("inf"), limit) == len(expected)
        for position in expected:
            del self.stored[position]

    @rule()
    def checkpoint(self) -> None:
        assert self.journal.checkpoint().whole

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self._opened_at(self.folder)

    @rule()
    def crash(self) -> None:
        """Goes on with a copy of the files as they lie there."""
        folder = Path(tempfile.mkdtemp())
        for name in ("journal.db", "journal.db-wal"):
            shutil.copy(self.folder / name, folder / name)
        self.journal.close()
        shutil.rmtree(self.folder)
        self._opened_at(folder)

    def _opened_at(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal.open(folder / "journal.db", ROOMY)
        self.pending = {}

    @invariant()
    def is_the_same(self) -> None:
        assert dict(self.journal.read(0)) == self.stored
        assert self.journal.first == min(self.stored, default=self.last + 1)
        assert self.journal.durable == self.last
        assert self.journal.tail == self.last + len(self.pending)
        assert self.journal.bytes_stored == sum(map(len, self.stored.values()))

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.folder)


TestAgainstADict = Against.TestCase
TestAgainstADict.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)

"""The journal when things break: what was acknowledged is there, whatever happens to the process, the disk, the bytes.

Crashes are real: children are killed, limited, or lose their fsync.
"""

import ctypes
import errno
import os
import platform
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from constellation.storage import journal as module
from constellation.storage.journal import DamagedJournal, Journal, JournalFailed
from tests.storage.test_journal import ROOMY, assert_holds, fill, record_of, wal_of

ROOT = Path(__file__).resolve().parents[2]
IN_CHILD = (
    "import sys; from pathlib import Path; from tests.storage import test_journal_faults as t; t.{}(Path(sys.argv[1]))"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


class Log:
    """A journal of 40 commits that are only in its log, and where in the log each ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ends: list[tuple[int, int]] = [(0, 0)]
        journal = Journal.open(path, ROOMY)
        for count in range(1, 41):
            fill(journal, 1 + count % 4)
            self.ends.append((wal_of(path).stat().st_size, journal.durable))
        # Copied while open: closing would move the log into the file.
        self.file, self.log = path.read_bytes(), wal_of(path).read_bytes()
        journal.close()

    def whole_before(self, offset: int) -> int:
        """The last position of the last commit that lies before the byte."""
        return max(position for end, position in self.ends if end <= offset)

    def tail_with(self, log: bytes, path: Path) -> int:
        """What a copy with another log holds: checks every record, and that it can go on."""
        path.write_bytes(self.file)
        wal_of(path).write_bytes(log)
        journal = Journal.open(path, ROOMY)
        tail = journal.tail
        assert_holds(journal, 1, tail)
        fill(journal, 3)
        assert_holds(journal, 1, tail + 3)
        journal.close()
        path.unlink()
        return tail


def test_log_cut_off_anywhere_holds_the_commits_before_the_cut(path: Path, rng: np.random.Generator) -> None:
    log = Log(path)
    size = len(log.log)
    copy = path.with_name("copy.db")
    for cut in {0, 1, 32, size - 1, size, *rng.integers(0, size, 40).tolist()}:
        assert log.tail_with(log.log[:cut], copy) == log.whole_before(cut)


def test_log_garbled_anywhere_holds_the_commits_before_the_damage(path: Path, rng: np.random.Generator) -> None:
    log = Log(path)
    copy = path.with_name("copy.db")
    for offset in rng.integers(0, len(log.log), 40).tolist():
        flipped = bytearray(log.log)
        flipped[offset] ^= 1 << int(rng.integers(8))
        assert log.tail_with(bytes(flipped), copy) == log.whole_before(offset)
        noise = log.log[:offset] + rng.bytes(len(log.log) - offset)
        assert log.tail_with(noise, copy) == log.whole_before(offset)


def test_flipped_bit_in_a_stored_record_is_noticed_at_its_position(path: Path, rng: np.random.Generator) -> None:
    journal = Journal.open(path, ROOMY)
    fill(journal, 150)
    journal.close()
    stored = path.read_bytes()
    for position in (1, 75, 149, 150):
        # The first bytes of a record lie together in the file. SQLite leaves copies of what it moved, so all are hit.
        head = record_of(position)[:20]
        damaged = bytearray(head)
        damaged[int(rng.integers(20))] ^= 1 << int(rng.integers(8))
        path.write_bytes(stored.replace(head, damaged))
        journal = Journal.open(path, ROOMY)
        given: list[tuple[int, bytes]] = []
        with pytest.raises(DamagedJournal, match=rf"at position {position}: .*checksum.* restore") as error:
            for entry in journal.read(0):
                given.append(entry)
        assert given == [(before, record_of(before)) for before in range(1, position)]
        assert error.value.position == position
        journal.close()


def test_no_flipped_bit_anywhere_in_the_file_gives_a_wrong_record(path: Path, rng: np.random.Generator) -> None:
    journal = Journal.open(path, ROOMY)
    for _ in range(80):
        journal.append(b"%d" % (journal.tail + 1) * 5)
    journal.commit()
    journal.close()
    stored = path.read_bytes()
    noticed = 0
    for offset in rng.integers(0, len(stored), 300).tolist():
        damaged = bytearray(stored)
        damaged[offset] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        given: list[tuple[int, bytes]] = []
        try:
            opened = Journal.open(path, ROOMY)
            try:
                for position, record in opened.read(0):
                    given.append((position, record))
                assert len(given) == opened.tail
            finally:
                opened.close()
        except (DamagedJournal, JournalFailed):
            noticed += 1
        assert given == [(position, b"%d" % position * 5) for position in range(1, len(given) + 1)]
    assert noticed > 30


@pytest.mark.parametrize("sql", ["DELETE FROM records WHERE position = 100", "DELETE FROM records WHERE position > 99"])
def test_missing_record_is_noticed(path: Path, sql: str) -> None:
    journal = Journal.open(path, ROOMY)
    fill(journal, 150)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(sql)
    other.close()
    given = []
    with pytest.raises(DamagedJournal, match="at position 100"):
        for position, _ in journal.read(0):
            given.append(position)
    assert given == list(range(1, 100))
    journal.close()


def test_missing_start_and_damaged_value_are_noticed(path: Path) -> None:
    journal = Journal.open(path, ROOMY)
    fill(journal, 10)
    journal.put("key", b"value")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE meta SET value = x'00'")
    with pytest.raises(DamagedJournal, match="'key'"):
        journal.get("key")
    other.execute("DELETE FROM records WHERE position < 5")
    other.close()
    journal.close()
    with pytest.raises(DamagedJournal, match="at position 1: the oldest record is 5"):
        Journal.open(path, ROOMY)


def test_foreign_files_are_refused(path: Path) -> None:
    path.write_bytes(b"not a database, and longer than the header of one is" * 10)
    with pytest.raises(DamagedJournal, match="not a database"):
        Journal.open(path, ROOMY)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE films (title)")
    other.close()
    with pytest.raises(JournalFailed, match="is not a journal"):
        Journal.open(path, ROOMY)
    path.unlink()
    Journal.open(path, ROOMY).close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 2")
    other.close()
    with pytest.raises(JournalFailed, match="format 2; this release reads format 1"):
        Journal.open(path, ROOMY)
    with pytest.raises(JournalFailed, match="cannot be opened"):
        Journal.open(path / "no folder", ROOMY)


def child(function: Callable[[Path], None], path: Path, *prefix: str) -> "subprocess.Popen[bytes]":
    """A process that runs a function of this file on the path, and says on standard output what it did."""
    command = [*prefix, sys.executable, "-c", IN_CHILD.format(function.__name__), str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def ran(function: Callable[[Path], None], path: Path, *prefix: str) -> list[str]:
    """What the child said, once it has ended."""
    process = child(function, path, *prefix)
    said, _ = process.communicate(timeout=60)
    return said.decode().splitlines()


def say(*words: object) -> None:
    print(*words, flush=True)


def acknowledge_for_ever(path: Path) -> None:
    """Appends, commits and acknowledges, with checkpoints in a thread and trims in between."""
    journal = Journal.open(path, ROOMY)
    module.LOG_BYTES_MAX = 200_000
    module.CHECKPOINT_ROUNDS_MAX = 2

    def checkpoints() -> None:
        while True:
            journal.checkpoint()

    threading.Thread(target=checkpoints, daemon=True).start()
    while True:
        fill(journal, 1 + journal.tail % 5)
        say(journal.durable)
        if journal.commits % 10 == 0:
            journal.trim(journal.durable - 100, float("inf"), 50)


def test_killed_process_loses_nothing_it_acknowledged(path: Path, rng: np.random.Generator) -> None:
    acknowledged = 0
    for _ in range(6):
        process = child(acknowledge_for_ever, path)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(int(rng.integers(1, 150)))]
        process.kill()
        said += process.communicate()[0].splitlines(keepends=True)
        # The last line may be cut off, and then is not an acknowledgement.
        acknowledged = max([acknowledged, *(int(line) for line in said if line.endswith(b"\n"))])
        journal = Journal.open(path, ROOMY)
        assert journal.durable >= acknowledged
        assert_holds(journal, journal.first, journal.durable)
        # A trim of the last commit's records may have come after the last acknowledgement that was heard.
        assert journal.first == 1 or journal.first <= journal.durable - 100 + 1
        journal.close()
    assert acknowledged > 6


def fill_the_disk(path: Path) -> None:
    """Commits until the disk takes no more; then nothing must be acknowledged, and after making room all goes on."""
    journal = Journal.open(path, ROOMY)
    try:
        while True:
            fill(journal, 3)
            say("acknowledged", journal.durable)
    except JournalFailed as error:
        say("failed", error)
    try:
        journal.append(b"")
    except JournalFailed:
        say("refuses")
    acknowledged = journal.durable
    journal.close()
    make_room(path)
    journal = Journal.open(path, ROOMY)
    assert acknowledged <= journal.durable <= acknowledged + 3
    assert_holds(journal, 1, journal.durable)
    fill(journal, 3)
    say("acknowledged", journal.durable)
    os.kill(os.getpid(), signal.SIGKILL)


def fill_a_limited_disk(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    fill_the_disk(path)


def make_room(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    path.with_name("ballast").unlink(missing_ok=True)


def assert_survived(said: list[str]) -> int:
    """That it failed, refused, and went on; the last position that was acknowledged."""
    kinds = [line.split()[0] for line in said]
    assert kinds[-3:] == ["failed", "refuses", "acknowledged"] and set(kinds[:-3]) == {"acknowledged"}
    return int(said[-1].split()[1])


def test_write_that_fails_loses_nothing_acknowledged(path: Path) -> None:
    said = ran(fill_a_limited_disk, path)
    assert "must be opened again: disk I/O error" in said[-3]
    journal = Journal.open(path, ROOMY)
    assert_holds(journal, 1, assert_survived(said))
    journal.close()


def fill_a_small_disk(path: Path) -> None:
    """On a file system of 4 MB of its own, half taken by what can be deleted."""
    path.with_name("ballast").write_bytes(bytes(2 << 20))
    fill_the_disk(path)


ON_A_SMALL_DISK = ("unshare", "--map-root-user", "--mount", "sh", "-c")
MOUNT = 'mount -t tmpfs -o size=4m none "$0" && exec "$@"'


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*ON_A_SMALL_DISK, MOUNT, folder, "true"], capture_output=True).returncode == 0


def test_full_disk_loses_nothing_acknowledged(path: Path) -> None:
    if not can_mount(path.parent):
        pytest.skip("this user may not mount a file system of its own; the limit above takes the same way")
    said = ran(fill_a_small_disk, path, *ON_A_SMALL_DISK, MOUNT, str(path.parent))
    assert "must be opened again: database or disk is full" in said[-3]
    assert_survived(said)


SYNC_CALLS = {"x86_64": (74, 75), "aarch64": (82, 83)}
"""fsync and fdatasync."""


def lose_fsync() -> None:
    """From here on the kernel answers every fsync of this process with EIO, by a seccomp filter."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    fsync, fdatasync = SYNC_CALLS[platform.machine()]
    load, jump_if_equal, give = 0x20, 0x15, 0x06
    instruction = np.dtype([("code", "u2"), ("jt", "u1"), ("jf", "u1"), ("k", "u4")])
    steps = np.array(
        [
            (load, 0, 0, 0),
            (jump_if_equal, 1, 0, fsync),
            (jump_if_equal, 0, 1, fdatasync),
            (give, 0, 0, 0x0005_0000 | errno.EIO),
            (give, 0, 0, 0x7FFF_0000),
        ],
        instruction,
    ).tobytes()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "no new privileges"
    assert libc.prctl(22, 2, ctypes.byref(Program(5, steps)), 0, 0) == 0, "seccomp"


def commit_without_fsync(path: Path) -> None:
    journal = Journal.open(path, ROOMY)
    fill(journal, 10)
    say("acknowledged", journal.durable)
    lose_fsync()
    try:
        fill(journal, 1)
        say("acknowledged", journal.durable)
    except JournalFailed as error:
        say("failed", error)
    try:
        Journal.open(path, ROOMY)
    except JournalFailed as error:
        say("cannot open", error)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in SYNC_CALLS, reason="the kernel's filter is Linux's"
)
def test_fsync_that_fails_is_no_acknowledgement_and_the_journal_does_not_open_before_it_works(path: Path) -> None:
    acknowledged, failed, cannot_open = ran(commit_without_fsync, path)
    assert acknowledged == "acknowledged 10"
    assert failed.startswith("failed") and "disk I/O error" in failed
    assert cannot_open.startswith("cannot open")
    journal = Journal.open(path, ROOMY)
    assert journal.durable in (10, 11)
    assert_holds(journal, 1, journal.durable)
    journal.close()

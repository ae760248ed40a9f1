"""The owner's lock: one at a time, held by real processes, free again however the owner ended."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from constellation.storage.lock import FILE_NAME, AlreadyOwned, OwnerLock

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from pathlib import Path
from constellation.storage.lock import OwnerLock
with OwnerLock(Path(sys.argv[1])):
    print("taken", flush=True)
    sys.stdin.read()
"""


@contextmanager
def owner(data_dir: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that has taken the directory, until its standard input ends."""
    command = [sys.executable, "-c", HOLD, str(data_dir)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"taken\n"
            yield process
        finally:
            process.kill()


def test_second_process_is_refused_and_told_who_owns_it(tmp_path: Path) -> None:
    with owner(tmp_path) as process, pytest.raises(AlreadyOwned) as refused:
        OwnerLock(tmp_path).acquire()
    message = str(refused.value)
    assert f"{tmp_path} is owned by process {process.pid} on host {socket.gethostname()} since 20" in message
    assert "stop that process, or give this one another data directory" in message


def test_killed_owner_holds_nothing(tmp_path: Path) -> None:
    with owner(tmp_path) as process:
        process.kill()
        process.wait()
        with OwnerLock(tmp_path):
            assert f'"pid": {os.getpid()}' in (tmp_path / FILE_NAME).read_text()


def test_owner_that_ended_well_holds_nothing_and_leaves_no_name(tmp_path: Path) -> None:
    with owner(tmp_path) as process:
        process.communicate()
        assert (tmp_path / FILE_NAME).read_text() == ""
        OwnerLock(tmp_path).acquire()


def test_second_lock_in_one_process_is_refused_until_the_first_is_released(tmp_path: Path) -> None:
    first, second = OwnerLock(tmp_path / "made" / "here"), OwnerLock(tmp_path / "made" / "here")
    first.acquire()
    with pytest.raises(AlreadyOwned, match=f"process {os.getpid()} "):
        second.acquire()
    first.release()
    first.release()
    with second, pytest.raises(AlreadyOwned):
        first.acquire()
    with first:
        pass


def test_released_lock_is_free_though_a_child_was_just_started(tmp_path: Path) -> None:
    lock = OwnerLock(tmp_path)
    lock.acquire()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as process:
        lock.release()
        with OwnerLock(tmp_path):
            process.communicate(b"\n")


def test_owner_without_a_name_yet_is_refused_all_the_same(tmp_path: Path) -> None:
    with owner(tmp_path):
        (tmp_path / FILE_NAME).write_text("")
        with pytest.raises(AlreadyOwned, match="has not yet written who it is"):
            OwnerLock(tmp_path).acquire()


def test_directory_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        OwnerLock(tmp_path / "file" / "below").acquire()

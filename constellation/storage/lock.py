"""Who owns a data directory: one process at a time, by a lock that the system takes back when the process dies.

Taken before anything in the directory is opened, released after everything is closed.

Constraints, what must hold:
- At most one holder, also when two start at the same moment.
- A dead owner holds nothing: no file has to be removed by hand, however it ended.
- The file itself is never deleted: two processes could otherwise lock two files of one name.
What must fail: taking a directory that has an owner, in this process or another.
"""

import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

FILE_NAME = "owner.lock"
FILE_BYTES_MAX = 4096


class AlreadyOwned(Exception):
    """Another process, or another lock in this one, has the data directory."""


class OwnerLock:
    """The lock on `data_dir/owner.lock`, by `acquire` and `release` or by `with`. The directory is made if missing.

    If its owner is killed, a child that it made by a bare fork holds it on; one made by `subprocess` does not.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises `AlreadyOwned` at once, without waiting, and OSError where the directory cannot be written."""
        assert self._descriptor is None, "acquired twice"
        self._data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._data_dir / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(descriptor, _own_entry())
        except BlockingIOError:
            entry = os.pread(descriptor, FILE_BYTES_MAX, 0)
            os.close(descriptor)
            raise AlreadyOwned(_owned_message(self._data_dir, entry)) from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """The next one can take it. Nothing happens if it is not held."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                _write(descriptor, b"")
                # Closing alone would leave it with a child that is between its fork and its exec.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _own_entry() -> bytes:
    since = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode() + b"\n"


def _write(descriptor: int, entry: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, entry, 0)


def _owned_message(data_dir: Path, entry: bytes) -> str:
    try:
        owner = json.loads(entry)
        who = f"process {owner['pid']} on host {owner['host']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        who = "a process that has not yet written who it is"
    return f"{data_dir} is owned by {who}: stop that process, or give this one another data directory"

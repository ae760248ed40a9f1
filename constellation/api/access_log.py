"""The access log, off the hot path: the loop appends a record, a thread formats and writes it.

The queue is bounded: when standard output cannot keep up, records are dropped and counted, and no request waits.
"""

import sys
import threading
from collections import deque
from typing import TextIO

import msgspec

from constellation import limits
from constellation.api.hiding import Hiding

_WRITE_EVERY_S = 0.2


class AccessRecord(msgspec.Struct, gc=False):
    """One answered request."""

    at: float
    request_id: str
    method: str
    path: str
    status: int
    duration_ms: float
    bytes_in: int
    bytes_out: int
    trace_id: str = ""
    device_id: bytes = b""
    """Empty where there is none, or where it was not read."""


class _Line(msgspec.Struct, gc=False, omit_defaults=True):
    """A record as it is written: with the hash of a device, never with its id."""

    at: float
    request_id: str
    method: str
    path: str
    status: int
    duration_ms: float
    bytes_in: int
    bytes_out: int
    trace_id: str = ""
    device: str = ""


class AccessLog:
    """JSON lines. `write` is for the loop only and costs less than a microsecond; `start` and `stop` own the thread."""

    def __init__(
        self,
        hiding: Hiding,
        out: TextIO | None = None,
        queue_len_max: int = limits.ACCESS_LOG_QUEUE_LEN_MAX,
    ) -> None:
        self.dropped = 0
        self._hiding = hiding
        self._out = out or sys.stdout
        self._queue: deque[AccessRecord] = deque()
        self._queue_len_max = queue_len_max
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)

    def write(self, record: AccessRecord) -> None:
        if len(self._queue) >= self._queue_len_max:
            self.dropped += 1
        else:
            self._queue.append(record)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Writes what is queued and ends the thread."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        # Woken by time and not by every record: a wake-up per request would fight the loop for the interpreter lock.
        while not self._stopping.wait(_WRITE_EVERY_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = []
        while self._queue:
            lines.append(msgspec.json.encode(self._line(self._queue.popleft())).decode())
        if not lines:
            return
        try:
            self._out.write("\n".join(lines) + "\n")
            self._out.flush()
        except OSError:
            # A closed or full output must not stop the service; the loss is counted.
            self.dropped += len(lines)

    def _line(self, record: AccessRecord) -> _Line:
        hiding = self._hiding
        return _Line(
            record.at, hiding.request_id(record.request_id, record.device_id), record.method, hiding.text(record.path),
            record.status, record.duration_ms, record.bytes_in, record.bytes_out, record.trace_id,
            hiding.device(record.device_id) if record.device_id else "",
        )  # fmt: skip

"""What is counted and logged of a request, whichever door it came by, and the id that it goes by."""

import itertools
import re
import secrets
import time

from constellation import limits
from constellation.api.access_log import AccessRecord
from constellation.api.service import Service

CLIENT_GONE = 499
"""The status of a request whose client went away before there was a reply (as nginx logs it)."""

_SANE_ID = re.compile(rb"[!-~]{1,%d}" % limits.REQUEST_ID_CHARS_MAX)


class RequestIds:
    """Of one door. Unique without a system call per request: a random prefix for the process, then a count."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def of(self, sent: bytes | None) -> bytes:
        """What the caller sent, if it is sane, else one of our own."""
        if sent is not None and _SANE_ID.fullmatch(sent):
            return sent
        return self.new()

    def new(self) -> bytes:
        return f"{self._prefix}{next(self._numbers):08x}".encode()


class Account:
    """One request and its reply, counted as they pass. The status is that of HTTP by both doors."""

    __slots__ = ("bytes_in", "bytes_out", "request_id", "started_at", "status")

    def __init__(self, request_id: bytes, started_at: float | None = None) -> None:
        self.request_id = request_id
        self.started_at = time.perf_counter() if started_at is None else started_at
        self.bytes_in = 0
        self.bytes_out = 0
        self.status = CLIENT_GONE

    def close(self, service: Service, method: str, path: str, is_sync: bool) -> None:
        """Once it is answered."""
        ended_at = time.perf_counter()
        duration_s = ended_at - self.started_at
        service.metrics.transferred(self.bytes_in, self.bytes_out)
        if is_sync:
            service.metrics.sync(self.status, duration_s)
            if self.status == 200:
                service.latencies.record(ended_at, duration_s)
        if service.access_log is not None:
            service.access_log.write(
                AccessRecord(
                    service.clock(), self.request_id.decode(), method, path, self.status,
                    duration_s * 1e3, self.bytes_in, self.bytes_out,
                )
            )  # fmt: skip

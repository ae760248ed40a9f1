"""What is counted and logged of a request, whichever door it came by, and the id that it goes by."""

import itertools
import re
import secrets
import time

from constellation import limits
from constellation.api.access_log import AccessRecord
from constellation.api.service import Service
from constellation.api.tracing import Untraced
from constellation.spans import Value

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

    __slots__ = ("bytes_in", "bytes_out", "device_id", "request_id", "started_at", "status", "trace")

    def __init__(self, request_id: bytes, trace: Untraced, started_at: float | None = None) -> None:
        self.request_id = request_id
        self.trace = trace
        self.device_id = b""
        """Of a sync, once it is read."""
        self.started_at = time.perf_counter() if started_at is None else started_at
        self.bytes_in = 0
        self.bytes_out = 0
        self.status = CLIENT_GONE

    def told(self, service: Service) -> dict[str, str]:
        """What a line of the log about the request says of it."""
        said = {"request_id": service.hiding.request_id(self.request_id.decode(), self.device_id)}
        if self.trace.trace_id:
            said["trace_id"] = self.trace.trace_id
        if self.device_id:
            said["device"] = service.hiding.device(self.device_id)
        return said

    def close(self, service: Service, method: str, path: str, route: str, is_sync: bool) -> None:
        """Once it is answered. The route is the path without what is in it of a device."""
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
                    duration_s * 1e3, self.bytes_in, self.bytes_out, self.trace.trace_id, self.device_id,
                )
            )  # fmt: skip
        if self.trace.trace_id:
            self._tell(service, method, route)

    def _tell(self, service: Service, method: str, route: str) -> None:
        """The server span."""
        attributes: dict[str, Value] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": self.status,
            "http.request.body.size": self.bytes_in,
            "http.response.body.size": self.bytes_out,
            "constellation.request_id": service.hiding.request_id(self.request_id.decode(), self.device_id),
        }
        failed = f"status {self.status}" if self.status >= 500 else ""
        service.tracer.end(self.trace, f"{method} {route}".strip(), attributes, self.device_id, failed)

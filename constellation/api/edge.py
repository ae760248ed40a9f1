"""The outermost layer: gives every request its id and accounts for it once it is answered.

Wraps the framework, so that its own 404 and 405 and every error carry an id and are counted, too. Nothing here
waits.
"""

import itertools
import re
import secrets
import time
from typing import cast

from litestar.types import ASGIApp, HTTPScope, Message, Receive, ReceiveMessage, Scope, Send

from constellation import limits
from constellation.api.access_log import AccessRecord
from constellation.api.service import Service
from constellation.api.tracing import Untraced
from constellation.spans import Value

SYNC_PATH = "/api/v1/sync"

_SANE_ID = re.compile(rb"[!-~]{1,%d}" % limits.REQUEST_ID_CHARS_MAX)


class Edge:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        # Unique without a system call per request: a random prefix for the process, then a count.
        self._id_prefix = secrets.token_hex(6)
        self._ids = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The server speaks HTTP alone: websockets are off, and this process has its own lifespan.
        http = cast(HTTPScope, scope)
        request_id, traceparent = _ids_sent(http)
        exchange = _Exchange(request_id or self._next_id(), self._service.draining, receive, send)
        state = scope["state"]
        state["request_id"] = exchange.request_id.decode()
        state["trace"] = self._service.tracer.begin(traceparent)
        state["device_id"] = b""
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._account(http, exchange)

    def _next_id(self) -> bytes:
        return f"{self._id_prefix}{next(self._ids):08x}".encode()

    def _account(self, scope: HTTPScope, exchange: "_Exchange") -> None:
        service = self._service
        ended_at = time.perf_counter()
        duration_s = ended_at - exchange.started_at
        service.metrics.transferred(exchange.bytes_in, exchange.bytes_out)
        state = scope["state"]
        trace: Untraced = state["trace"]
        if trace.trace_id:
            self._tell(scope, trace, exchange)
        if scope["path"] == SYNC_PATH and scope["method"] == "POST":
            service.metrics.sync(exchange.status, duration_s)
            if exchange.status == 200:
                service.latencies.record(ended_at, duration_s)
        if service.access_log is not None:
            service.access_log.write(
                AccessRecord(
                    service.clock(), exchange.request_id.decode(), scope["method"], scope["path"], exchange.status,
                    duration_s * 1e3, exchange.bytes_in, exchange.bytes_out, trace.trace_id, state["device_id"],
                )
            )  # fmt: skip

    def _tell(self, scope: HTTPScope, trace: Untraced, exchange: "_Exchange") -> None:
        """The server span, by its route: a path may hold the id of a device."""
        method, route = scope["method"], str(scope.get("path_template", ""))
        attributes: dict[str, Value] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": exchange.status,
            "http.request.body.size": exchange.bytes_in,
            "http.response.body.size": exchange.bytes_out,
            "constellation.request_id": self._service.hiding.request_id(
                exchange.request_id.decode(), scope["state"]["device_id"]
            ),
        }
        failed = f"status {exchange.status}" if exchange.status >= 500 else ""
        self._service.tracer.end(trace, f"{method} {route}".strip(), attributes, scope["state"]["device_id"], failed)


def _ids_sent(scope: HTTPScope) -> tuple[bytes | None, bytes | None]:
    """The caller's request id, if it is a sane one, and its trace context."""
    request_id = traceparent = None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            request_id = value
        elif name == b"traceparent":
            traceparent = value
    return request_id, traceparent


class _Exchange:
    """One request and its reply, counted as they pass."""

    __slots__ = ("_close", "_receive", "_send", "bytes_in", "bytes_out", "request_id", "started_at", "status")

    def __init__(self, request_id: bytes, close: bool, receive: Receive, send: Send) -> None:
        self.request_id = request_id
        self.started_at = time.perf_counter()
        self.bytes_in = 0
        self.bytes_out = 0
        # What stands when the client went away before there was a reply (as nginx logs it).
        self.status = 499
        self._close = close
        self._receive = receive
        self._send = send

    async def receive(self) -> ReceiveMessage:
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes_in += len(message["body"])
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self.request_id)]
            if self._close:
                # While draining, a kept-alive connection must not bring its next request here.
                headers.append((b"connection", b"close"))
            message["headers"] = headers
        elif message["type"] == "http.response.body":
            self.bytes_out += len(message["body"])
        await self._send(message)

"""The outermost layer of HTTP: every request gets its id, what waited too long is refused, all are counted.

Wraps the framework, so that its own 404 and 405 and every error carry an id and are counted, too. Nothing here
waits, but for bytes of the client.
"""

import re
import time
from collections.abc import Mapping
from typing import Any, cast

from litestar.types import ASGIApp, HTTPScope, Message, Receive, ReceiveMessage, Scope, Send

from constellation import limits
from constellation.api.access import OBJECTION
from constellation.api.accounting import Account, RequestIds
from constellation.api.admission import Class, classify
from constellation.api.replies import scope_media
from constellation.api.service import Service
from constellation.api.tracing import Untraced
from constellation.errors import InvalidParameter, Problem, Unavailable
from constellation.wire.media import Media
from constellation.wire.problems import CONTENT_TYPES, encode_problem

SYNC_PATH = "/api/v1/sync"
DEADLINE_HEADER = b"x-request-deadline-ms"

_DEADLINE = re.compile(rb"[0-9]{1,8}")


class Edge:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self.ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The server speaks HTTP alone: websockets are off, and this process has its own lifespan.
        http = cast(HTTPScope, scope)
        request_id, deadline_ms, traceparent = self._read(http)
        trace = self._service.tracer.begin(traceparent)
        state = http["state"]
        exchange = _Exchange(request_id, trace, state, self._service, receive, send)
        state["request_id"], state["account"] = request_id.decode(), exchange
        try:
            problem = self._objection(http, exchange, deadline_ms)
            if problem is None:
                await self._app(scope, exchange.receive, exchange.send)
                self._service.admission.answered(exchange.status)
            else:
                await self._refuse(http, exchange, problem)
        finally:
            self._service.admission.body_bytes -= exchange.body_bytes
            method, path, route = http["method"], http["path"], str(scope.get("path_template", ""))
            exchange.close(self._service, method, path, route, is_sync(method, path))

    def refusal(self, problem: Problem, request_id: bytes, media: Media) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body of a reply that is made without the framework; the problem is counted."""
        self._service.metrics.problem(problem.code)
        body = encode_problem(problem, request_id.decode(), media)
        headers = [
            (b"content-type", CONTENT_TYPES[media].encode()),
            (b"content-length", b"%d" % len(body)),
            (b"vary", b"Accept"),
        ]
        if isinstance(problem, Unavailable):
            headers.append((b"retry-after", b"%d" % problem.retry_after_s))
        return headers, body

    def _read(self, scope: HTTPScope) -> tuple[bytes, bytes, bytes | None]:
        """The request's id, its own or a new one, and the deadline and the trace that it names, if any."""
        sent_id, deadline_ms, traceparent = None, b"", None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                sent_id = sent_id or value
            elif name == DEADLINE_HEADER:
                deadline_ms = value
            elif name == b"traceparent":
                traceparent = value
        return self.ids.of(sent_id), deadline_ms, traceparent

    def _objection(self, scope: HTTPScope, exchange: "_Exchange", deadline_ms: bytes) -> Problem | None:
        """Why the request is not started, if it is not: the connection has found no room for it, or it comes late."""
        if exchange.refused:
            return self._service.admission.overloaded("no_room")
        waited_s = exchange.begun_at - exchange.started_at
        if deadline_ms:
            if not _is_deadline(deadline_ms):
                # Whoever is not known hears nothing of what else is wrong.
                scope["state"][OBJECTION] = _not_a_deadline(deadline_ms)
            elif waited_s * 1e3 >= int(deadline_ms):
                return self._service.admission.overloaded("deadline")
        if waited_s > limits.QUEUED_S_MAX and classify(scope["method"], scope["path"], None) is not Class.VITAL:
            return self._service.admission.overloaded("waited")
        return None

    async def _refuse(self, scope: HTTPScope, exchange: "_Exchange", problem: Problem) -> None:
        headers, body = self.refusal(problem, exchange.request_id, scope_media(scope))
        await exchange.send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body, "more_body": False})


def _is_deadline(deadline_ms: bytes) -> bool:
    return (
        _DEADLINE.fullmatch(deadline_ms) is not None
        and limits.DEADLINE_MS_MIN <= int(deadline_ms) <= limits.DEADLINE_MS_MAX
    )


def _not_a_deadline(deadline_ms: bytes) -> Problem:
    name, got = "header.X-Request-Deadline-Ms", deadline_ms[:40].decode("latin-1")
    return InvalidParameter(
        f"{name}: got {got}, expected {limits.DEADLINE_MS_MIN} to {limits.DEADLINE_MS_MAX}", path=name
    )


def is_sync(method: str, path: str) -> bool:
    return path == SYNC_PATH and method == "POST"


class _Exchange(Account):
    """One request and its reply as they pass."""

    __slots__ = ("_admission", "_close", "_receive", "_send", "_whole", "begun_at", "body_bytes", "refused")

    def __init__(
        self,
        request_id: bytes,
        trace: Untraced,
        state: Mapping[str, Any],
        service: Service,
        receive: Receive,
        send: Send,
    ) -> None:
        self.begun_at = time.perf_counter()
        # Of its headers, where a connection tells it: what waits for the loop's turn has begun to take time.
        super().__init__(request_id, trace, state.get("arrived_at", self.begun_at))
        self.refused = "refused" in state
        self.body_bytes = 0
        self._whole = False
        self._admission = service.admission
        self._close = service.draining
        self._receive = receive
        self._send = send

    async def receive(self) -> ReceiveMessage:
        if self._whole:
            return await self._receive()  # nothing can come but that the client leaves
        admission = self._admission
        admission.awaiting_client += 1
        try:
            message = await self._receive()
        finally:
            admission.awaiting_client -= 1
        if message["type"] == "http.request":
            self.bytes_in += len(message["body"])
            self._whole = not message["more_body"]
            if message["more_body"]:
                self._hold(len(message["body"]))
        return message

    def _hold(self, body_bytes: int) -> None:
        """Memory that a client takes for as long as it likes is bounded for all of them together."""
        self.body_bytes += body_bytes
        self._admission.body_bytes += body_bytes
        if self._admission.body_bytes > limits.BODY_BYTES_HELD_MAX:
            raise self._admission.overloaded("slow_bodies")

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

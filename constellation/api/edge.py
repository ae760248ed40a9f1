"""The outermost layer of HTTP: gives every request its id and accounts for it once it is answered.

Wraps the framework, so that its own 404 and 405 and every error carry an id and are counted, too. Nothing here
waits.
"""

from typing import cast

from litestar.types import ASGIApp, HTTPScope, Message, Receive, ReceiveMessage, Scope, Send

from constellation.api.accounting import Account, RequestIds
from constellation.api.service import Service
from constellation.api.tracing import Untraced

SYNC_PATH = "/api/v1/sync"


class Edge:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The server speaks HTTP alone: websockets are off, and this process has its own lifespan.
        http = cast(HTTPScope, scope)
        request_id, traceparent = _sent_ids(http)
        trace = self._service.tracer.begin(traceparent)
        exchange = _Exchange(self._ids.of(request_id), trace, self._service.draining, receive, send)
        state = scope["state"]
        state["request_id"], state["account"] = exchange.request_id.decode(), exchange
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            method, path = http["method"], http["path"]
            route = str(scope.get("path_template", ""))
            exchange.close(self._service, method, path, route, path == SYNC_PATH and method == "POST")


def _sent_ids(scope: HTTPScope) -> tuple[bytes | None, bytes | None]:
    """Of the request, and of the trace that it belongs to."""
    request_id = traceparent = None
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            request_id = value
        elif name == b"traceparent":
            traceparent = value
    return request_id, traceparent


class _Exchange(Account):
    """One request and its reply as they pass."""

    __slots__ = ("_close", "_receive", "_send")

    def __init__(self, request_id: bytes, trace: Untraced, close: bool, receive: Receive, send: Send) -> None:
        super().__init__(request_id, trace)
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

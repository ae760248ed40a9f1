"""One client's connection over HTTP/3: its requests, and what it may take of memory and time.

Bounded as those of HTTP/1 are (`api/connections.py`): looked at once a second, cut off if it takes too long, closed in
favour of another one if it is idle. Who has not proven an address has no connection (`door`).
"""

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import ErrorCode
from aioquic.h3.events import DataReceived, H3Event, Headers, HeadersReceived
from aioquic.quic.connection import NetworkAddress, QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    ProtocolNegotiated,
    QuicEvent,
    StopSendingReceived,
    StreamReset,
)

from constellation import limits
from constellation.api.admission import classify
from constellation.api.connections import Patience
from constellation.api.quic.bounds import Http3, bound, out_of_order, received, unsent
from constellation.api.quic.request import Request, read_scope

if TYPE_CHECKING:
    from constellation.api.quic.door import Door

_log = logging.getLogger(__name__)


class Connection(QuicConnectionProtocol):
    """Made when a client has proven its address."""

    def __init__(self, quic: QuicConnection, door: "Door") -> None:
        super().__init__(quic)
        self.server = door.address
        self.client: tuple[str, int] = ("", 0)
        self._door, self._service = door, door.service
        self._http: Http3 | None = None
        """None until the handshake has come so far."""
        self._window = bound(quic)
        self._requests: dict[int, Request] = {}
        self._heads: dict[int, float] = {}
        """Streams with a part of a head, and since when, as they were looked at last."""
        self._idle_since = time.perf_counter()
        self._untaken_since = 0.0
        self._room = asyncio.Event()
        self._deaf_until = 0.0
        self._ended = not door.connections.opened(self)
        if not self._ended:
            door.connections.idle(self)

    # What comes.

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        if self._ended:
            self._connection_terminated_handler()  # there was no room: nothing was done for it
        elif not self._deaf_until or time.perf_counter() >= self._deaf_until:
            try:
                super().datagram_received(data, addr)
            except Exception:
                _log.exception("a connection broke the library")
                self.cut("excessive")

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self._end()
        elif isinstance(event, ProtocolNegotiated):
            self._http = Http3(self._quic)
            peer = self._quic.get_peer_address()
            self.client = (peer[0], peer[1]) if peer else self.client
        if self._http is None or self._ended:
            return
        if isinstance(event, StreamReset | StopSendingReceived) and event.stream_id in self._requests:
            self._requests[event.stream_id].leave()
        for happened in self._http.handle_event(event):
            self._happened(happened)

    def _happened(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            if event.stream_id in self._requests:
                self._requests[event.stream_id].feed(b"", event.stream_ended)  # what comes after a body is not used
            else:
                self._begin(event.stream_id, event.headers, event.stream_ended)
        elif isinstance(event, DataReceived):
            request = self._requests.get(event.stream_id)
            if request is not None:
                request.feed(event.data, event.stream_ended)

    def _begin(self, stream_id: int, headers: Headers, whole: bool) -> None:
        now = time.perf_counter()
        scope = read_scope(headers, self, {"arrived_at": now})
        if scope is None:
            self._service.metrics.problem("malformed")
            self._quic.reset_stream(stream_id, ErrorCode.H3_MESSAGE_ERROR)
            return
        if self._service.admission.crowded and not self._has_room(scope["method"], scope["path"], headers):
            scope["state"]["refused"] = True
        request = self._requests[stream_id] = Request(self, stream_id, scope, now)
        if whole:
            request.feed(b"", True)
        self._door.connections.busy(self)
        self._door.run(request, self._answered)

    def _has_room(self, method: str, path: str, headers: Headers) -> bool:
        declared = dict(headers).get(b"content-length", b"")
        body_bytes = int(declared) if declared.isdigit() else None
        return self._service.admission.has_room(classify(method, path, body_bytes))

    def _answered(self, request: Request) -> None:
        self._requests.pop(request.stream_id, None)
        if self._ended:
            return
        if "refused" in request.scope["state"] and self._service.admission.flooded:
            # Where many ask again at once, whatever they are told, what they send next is not read for a while.
            self._deaf_until = time.perf_counter() + limits.REFUSED_PAUSE_S
        if not self._requests:
            self._idle_since = time.perf_counter()
            self._door.connections.idle(self)

    # What goes.

    def default_headers(self) -> Headers:
        return self._door.default_headers()

    def send_head(self, request: Request, headers: Headers, last: bool) -> None:
        assert self._http is not None
        self._http.send_headers(request.stream_id, headers, last)

    def send_body(self, request: Request, body: bytes, last: bool) -> None:
        assert self._http is not None
        self._http.send_data(request.stream_id, body, last)

    def want_no_more(self, request: Request) -> None:
        """The request was answered before it was all there."""
        self._quic.stop_stream(request.stream_id, ErrorCode.H3_NO_ERROR)
        self.transmit()

    def break_off(self, request: Request, error: ErrorCode) -> None:
        """The reply has no end."""
        if not self._ended:
            self._quic.reset_stream(request.stream_id, error)
            self.transmit()

    async def room(self) -> None:
        """Until the client has confirmed so much that more may be sent, or has gone."""
        while not self._ended and unsent(self._quic) > limits.SEND_BUFFER_BYTES:
            self._untaken_since = self._untaken_since or time.perf_counter()
            self._room.clear()
            self.transmit()
            await self._room.wait()

    def transmit(self) -> None:
        if self._http is not None and not self._ended:
            self._slide()
        super().transmit()
        if self._untaken_since and unsent(self._quic) <= limits.SEND_BUFFER_BYTES:
            self._untaken_since = 0.0
            self._room.set()

    def _slide(self) -> None:
        """Let the client send as much as was used of what it sent."""
        assert self._http is not None
        held, gaps = out_of_order(received(self._quic))
        held += self._http.undecoded + sum(request.untaken_bytes for request in self._requests.values())
        self._window.slide(held)
        if gaps > limits.QUIC_GAPS_MAX:
            self.cut("excessive")

    # What it may take.

    def look(self, now: float, patience: Patience) -> None:
        """End the connection if its client has taken too long."""
        self._heads = {each: self._heads.get(each, now) for each in (self._http.headless if self._http else ())}
        heads = [*self._heads.values(), *(() if self._http else (self._idle_since,))]
        bodies = [each.begun_at for each in self._requests.values() if not each.whole]
        if now - min(heads, default=now) > patience.head_s or now - min(bodies, default=now) > patience.message_s:
            self.cut("slow_request")
        elif self._untaken_since and now - self._untaken_since > patience.reply_s:
            self.cut("slow_reply")
        elif not self._requests and now - self._idle_since > limits.KEEP_ALIVE_S_MAX:
            self.end(ErrorCode.H3_NO_ERROR)

    def cut(self, why: str) -> None:
        """End the connection, whatever is still to be sent."""
        if not self._ended:
            self._service.metrics.cut(why)
            self.end(ErrorCode.H3_NO_ERROR if why == "evicted" else ErrorCode.H3_EXCESSIVE_LOAD)

    def end(self, error: ErrorCode) -> None:
        self._end()
        self.close(error)
        self._connection_terminated_handler()

    def go_away(self) -> None:
        """Ask for no more requests."""
        if self._http is not None and not self._ended:
            self._http.go_away()
            self.transmit()

    def names(self) -> list[bytes]:
        """By which datagrams of this connection are known: connection ids."""
        first = self._quic._retry_source_connection_id
        return [*([first] if first else []), *(each.cid for each in self._quic._host_cids)]

    def _end(self) -> None:
        self._ended = True
        self._door.connections.closed(self)
        for request in self._requests.values():
            request.leave()
        self._room.set()

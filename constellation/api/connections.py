"""The connections of one port: how many, how long a client may take, and who is refused before anything is done.

uvicorn's protocol, and what it leaves open: a client that does not send what it began, or does not take what it asked
for, is cut off; heads and pipelines are bounded; where the port has no more room, the connection that is idle for
longest makes some. While too much is in flight, a request that came whole is refused out of its bytes, which costs a
small part of a sync. Times are looked at once a second for all connections, so that a request costs no timer.
"""

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from constellation import limits
from constellation.api.accounting import Account
from constellation.api.admission import classify
from constellation.api.edge import DEADLINE_HEADER, Edge, is_sync
from constellation.api.form import reply_media
from constellation.api.service import Service
from constellation.api.tracing import UNTRACED

_HEAD_END = b"\r\n\r\n"
_USUAL_HEAD = re.compile(
    rb"([A-Z]+) ([!->@-~]+)(?:\?[!-~]*)? HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n)*\r\n"
)
_UNUSUAL = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"x-request-id", DEADLINE_HEADER))
"""Headers by which a request needs the parser, or a reply of its own."""


class Patience(NamedTuple):
    """Seconds that a client may take for its request's head, for the whole of it, and for taking replies."""

    head_s: float = limits.HEAD_READ_S_MAX
    message_s: float = limits.MESSAGE_READ_S_MAX
    reply_s: float = limits.REPLY_TAKEN_S_MAX
    look_every_s: float = limits.CONNECTIONS_LOOKED_AT_EVERY_S


PATIENCE = Patience()


class Kept(Protocol):
    """A connection, whatever it speaks."""

    def look(self, now: float, patience: Patience) -> None: ...

    def cut(self, why: str) -> None: ...


AnyConnection = TypeVar("AnyConnection", bound=Kept)


class Connections(Generic[AnyConnection]):
    """All of one port."""

    def __init__(self, service: Service, edge: Edge, most: int, patience: Patience = PATIENCE) -> None:
        self.service, self.edge = service, edge
        self._most = most
        self._patience = patience
        self._open: set[AnyConnection] = set()
        self._idle: dict[AnyConnection, None] = {}
        """Those with no request under way, idle for longest first."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[AnyConnection]:
        return iter(self._open)

    def opened(self, connection: AnyConnection) -> bool:
        """Take one more, if need be in place of an idle one; False if there is no room."""
        if len(self._open) >= self._most:
            if not self._idle:
                self.service.metrics.cut("refused")
                return False
            oldest = next(iter(self._idle))
            self.closed(oldest)
            oldest.cut("evicted")
        self._open.add(connection)
        return True

    def closed(self, connection: AnyConnection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def busy(self, connection: AnyConnection) -> None:
        self._idle.pop(connection, None)

    def idle(self, connection: AnyConnection) -> None:
        if connection in self._open:
            self._idle[connection] = None

    async def watch(self) -> None:
        """Cut off whoever takes too long, for ever."""
        while True:
            await asyncio.sleep(self._patience.look_every_s)
            connections = list(self._open)
            for start in range(0, len(connections), limits.CONNECTIONS_PER_TURN_MAX):
                now = time.perf_counter()
                for connection in connections[start : start + limits.CONNECTIONS_PER_TURN_MAX]:
                    connection.look(now, self._patience)
                await asyncio.sleep(0)


class Connection(HttpToolsProtocol):
    """One of them. A message is what the client sends: a request's head and body."""

    def __init__(self, connections: "Connections[Connection]", **uvicorns: object) -> None:
        super().__init__(**uvicorns)  # type: ignore[arg-type]
        self._connections = connections
        self._awaited_since = 0.0
        """The rest of a message, if some of it came; else 0."""
        self._untaken_since = 0.0
        self._within_message = self._head_read = False
        self._overhead_bytes = 0
        """Of the message so far, beside its body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        if not self._connections.opened(self):
            # Who opens connections faster than they can be served learns it by the cheapest means.
            self.transport.abort()
        else:
            self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._within_message:
            if self._connections.service.admission.crowded and self._refused_whole(data):
                return
            self._connections.busy(self)
            if not self._awaited_since:
                self._awaited_since = time.perf_counter()
        self._overhead_bytes += len(data)
        super().data_received(data)
        if self._overhead_bytes > limits.OVERHEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response(f"more than {limits.OVERHEAD_BYTES_MAX} bytes beside the body")

    def on_message_begin(self) -> None:
        self._within_message, self._head_read = True, False
        self._awaited_since = self._awaited_since or time.perf_counter()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= limits.PIPELINED_MAX:
            raise ValueError("too many requests were sent before the reply to the first")  # ends the parsing
        self._head_read = True
        self.scope["state"]["arrived_at"] = time.perf_counter()
        if self._connections.service.admission.crowded and not self._has_room():
            self.scope["state"]["refused"] = True
        super().on_headers_complete()
        if self.scope["method"] != "HEAD" and not self.cycle.waiting_for_100_continue:
            # To these a head alone is written, or something before it.
            self.cycle.transport = cast(asyncio.Transport, Outgoing(self.transport))

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._within_message = False
        self._awaited_since, self._overhead_bytes = 0.0, 0
        super().on_message_complete()
        if self.cycle.response_complete and not self.pipeline:
            self._rest()  # it was answered before it was all there

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if "refused" in self.cycle.scope["state"] and not self.pipeline:
            self._pause()
        if self.timeout_keep_alive_task is not None and not self._within_message:
            self._connections.idle(self)

    def send_400_response(self, msg: str) -> None:
        self._connections.service.metrics.problem("malformed")
        super().send_400_response(msg)

    def look(self, now: float, patience: Patience) -> None:
        """End the connection if its client has taken too long."""
        allowed_s = patience.message_s if self._head_read and self._within_message else patience.head_s
        if self._awaited_since and now - self._awaited_since > allowed_s:
            self.cut("slow_request")
        elif self.transport.get_write_buffer_size() == 0:
            self._untaken_since = 0.0
        elif not self._untaken_since:
            self._untaken_since = now
        elif now - self._untaken_since > patience.reply_s:
            self.cut("slow_reply")

    def cut(self, why: str) -> None:
        """End the connection, whatever is still to be sent."""
        self._connections.service.metrics.cut(why)
        self.transport.abort()

    def _rest(self) -> None:
        """Wait for the next request, for as long as a connection is kept."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        self._connections.idle(self)

    def _pause(self) -> None:
        """Where many ask again at once, whatever they are told, what they send next is left with them for a while."""
        if self._connections.service.admission.flooded:
            self.flow.pause_reading()
            self.loop.call_later(limits.REFUSED_PAUSE_S, self._hear)

    def _hear(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _has_room(self) -> bool:
        declared = dict(self.headers).get(b"content-length", b"")
        kind = classify(
            self.parser.get_method().decode(),
            self.url.partition(b"?")[0].decode("latin-1"),
            int(declared) if declared.isdigit() else None,
        )
        return self._connections.service.admission.has_room(kind)

    def _refused_whole(self, data: bytes) -> bool:
        """Refuse a request, if that is what came and there is no room for it, without parsing it."""
        asked = read_whole(data)
        if asked is None or (self.cycle is not None and not self.cycle.response_complete):
            return False
        service, edge = self._connections.service, self._connections.edge
        if service.admission.has_room(classify(asked.method, asked.path, asked.body_bytes)):
            return False
        account = Account(edge.ids.new(), UNTRACED)
        problem = service.admission.overloaded("no_room")
        headers, body = edge.refusal(problem, account.request_id, reply_media(asked.headers))
        headers += [*self.server_state.default_headers, (b"x-request-id", account.request_id)]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(b"%s%s\r\n%s" % (STATUS_LINE[problem.status], head, body))
        self._awaited_since = 0.0
        self._rest()
        self._pause()
        account.status, account.bytes_in, account.bytes_out = problem.status, asked.body_bytes, len(body)
        account.close(service, asked.method, asked.path, "", is_sync(asked.method, asked.path))
        return True


class Outgoing:
    """What one reply is written to: its head waits for what follows, so that both are one packet and one system call.

    uvicorn writes a head, then the body in one piece or several, of which the first may be empty.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        """Empty once it was sent."""

    def write(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
        elif self._head:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class Asked(NamedTuple):
    """A request that came whole, as far as it matters for refusing it."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body_bytes: int


def read_whole(data: bytes) -> Asked | None:
    """Of bytes that are one whole and usual request, and nothing else; what is unusual is left to the parser."""
    head = _USUAL_HEAD.match(data)
    if head is None:
        return None
    lines = data[: head.end() - len(_HEAD_END)].split(b"\r\n")
    pairs = [line.split(b":", 1) for line in lines[1:]]
    headers = {name.lower(): value.strip() for name, value in pairs}
    if headers.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    declared = headers.get(b"content-length", b"0")
    if len(headers) != len(pairs) or not _UNUSUAL.isdisjoint(headers):
        return None
    if not declared.isdigit() or len(declared) > limits.LENGTH_DIGITS_MAX or len(data) != head.end() + int(declared):
        return None
    return Asked(head[1].decode(), head[2].decode(), headers, int(declared))


def protocol(connections: Connections[Connection]) -> type[asyncio.Protocol]:
    """What makes a connection, for uvicorn, which calls it with its own arguments."""

    class Made(Connection):
        def __init__(self, config: Config, **others: object) -> None:
            super().__init__(connections, config=config, **others)

    return Made

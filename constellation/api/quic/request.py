"""One request over HTTP/3 and its reply, as the application sees them.

What came of the body waits here until the application takes it; a client that resets either way is one that has gone.
"""

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from aioquic.h3.connection import ErrorCode
from aioquic.h3.events import Headers
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from constellation import limits

if TYPE_CHECKING:
    from constellation.api.quic.connection import Connection

_TARGET = re.compile(rb"/[!-~]*")
_OF_A_CONNECTION = frozenset((b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
"""Headers that HTTP/3 does not have (RFC 9114, section 4.2)."""

_UNTOLD_OF_NO_BODY = _OF_A_CONNECTION | {b"content-length"}
"""There are clients that would wait for it."""

_log = logging.getLogger(__name__)


def read_scope(headers: Headers, connection: "Connection", state: dict[str, Any]) -> HTTPScope | None:
    """None for a request that no HTTP/1 could be: CONNECT, or a target that is none."""
    named = {name: value for name, value in headers if name.startswith(b":")}
    target = named.get(b":path", b"")
    if b":protocol" in named or not _TARGET.fullmatch(target):
        return None
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "3",
        "method": named[b":method"].decode("latin-1"),
        "scheme": "https",
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [
            (b"host", named[b":authority"]),
            *((name, value) for name, value in headers if not name.startswith(b":") and name != b"host"),
        ],
        "client": connection.client,
        "server": connection.server,
        "state": state,
    }
    return cast(HTTPScope, scope)


class Request:
    """Made when the head has come."""

    def __init__(self, connection: "Connection", stream_id: int, scope: HTTPScope, begun_at: float) -> None:
        self.stream_id, self.scope, self.begun_at = stream_id, scope, begun_at
        self.whole = False
        """The body has come."""
        self.untaken_bytes = 0
        self.gone = False
        """The client takes no reply any more."""
        self._connection = connection
        self._body: list[bytes] = []
        self._head: Headers | None = None
        self._untold = _UNTOLD_OF_NO_BODY if scope["method"] == "HEAD" else _OF_A_CONNECTION
        self._taken = self._headed = self._answered = False
        self._changed = asyncio.Event()

    def feed(self, body: bytes, whole: bool) -> None:
        """More of the body came."""
        if not self._answered:
            self._body.append(body)
            self.untaken_bytes += len(body)
        self.whole = self.whole or whole
        self._changed.set()

    def leave(self) -> None:
        """The client has gone."""
        self.gone = True
        self._changed.set()

    async def run(self, app: ASGIApp) -> None:
        """Until it is answered, or nobody is there who wants an answer."""
        try:
            await app(cast(Scope, self.scope), cast(Receive, self._receive), cast(Send, self._send))
        except Exception:
            _log.exception("the application failed")
            if not self._headed and self._head is None:
                headers = [(b"content-length", b"0")]
                await self._send({"type": "http.response.start", "status": 500, "headers": headers})
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._body.clear()
            self.untaken_bytes = 0
            if not self._answered:
                self._answered = True
                self._connection.break_off(self, ErrorCode.H3_INTERNAL_ERROR)
            elif not self.whole and not self.gone:
                self._connection.want_no_more(self)

    async def _receive(self) -> HTTPReceiveMessage:
        while True:
            if self._body or (self.whole and not self._taken):
                body = b"".join(self._body)
                self._body.clear()
                self.untaken_bytes = 0
                self._taken = self.whole
                if not self.whole:
                    self._connection.transmit()  # a client that has sent all that it may waits to hear of more
                return {"type": "http.request", "body": body, "more_body": not self.whole}
            if self.gone or self._answered:
                return {"type": "http.disconnect"}
            self._changed.clear()
            await self._changed.wait()

    async def _send(self, message: Message) -> None:
        if self.gone:
            return
        if message["type"] == "http.response.start":
            self._head = [
                (b":status", b"%d" % message["status"]),
                *self._connection.default_headers(),
                *((name, value) for name, value in message["headers"] if name not in self._untold),
            ]
        elif message["type"] == "http.response.body":
            body = b"" if self.scope["method"] == "HEAD" else message["body"]
            await self._send_body(body, not message["more_body"])

    async def _send_body(self, body: bytes, last: bool) -> None:
        if self._head is not None:
            self._connection.send_head(self, self._head, last and not body)
            self._head, self._headed = None, True
            self._answered = last and not body
        for start in range(0, len(body), limits.QUIC_REPLY_PIECE_BYTES):
            await self._connection.room()
            if self.gone:
                return
            end = start + limits.QUIC_REPLY_PIECE_BYTES
            self._answered = last and end >= len(body)
            self._connection.send_body(self, body[start:end], self._answered)
        if last and not self._answered:
            self._answered = True
            self._connection.send_body(self, b"", True)
        self._connection.transmit()
        if self._answered:
            self._changed.set()

"""A client of HTTP/3 for the load generator. Its library is an extra: imported by the question that measures it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent

from bench.generator import Disconnected, Reply
from bench.sync_http import HEADERS, TARGET

_HEAD = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"bench")]
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


class Channel(QuicConnectionProtocol):
    """One connection, one sync at a time."""

    def __init__(self, *arguments: Any, target: str, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head = [*_HEAD, (b":path", target.encode()), *_HEADERS]
        self._http = H3Connection(self._quic)
        self._waiting: asyncio.Future[Reply] | None = None
        self._status, self._body = 0, b""

    def exchange(self, request: bytes) -> "asyncio.Future[Reply]":
        """`request` is the body of a sync."""
        assert self._waiting is None
        self._waiting = asyncio.get_running_loop().create_future()
        stream = self._quic.get_next_available_stream_id()
        self._http.send_headers(stream, self._head)
        self._http.send_data(stream, request, True)
        self.transmit()
        return self._waiting

    async def wait_closed(self) -> None:
        """Not: that it is closed has been told, and what the library waits for are three timeouts."""

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated) and self._waiting is not None:
            self._waiting.set_exception(Disconnected())
        for happened in self._http.handle_event(event):
            if isinstance(happened, HeadersReceived):
                self._status, self._body = int(dict(happened.headers)[b":status"]), b""
            elif isinstance(happened, DataReceived):
                self._body += happened.data
            if isinstance(happened, HeadersReceived | DataReceived) and happened.stream_ended:
                assert self._waiting is not None
                waiting, self._waiting = self._waiting, None
                waiting.set_result(Reply(self._status, self._body))


@asynccontextmanager
async def connected(
    address: tuple[str, int], count: int, authority: Path, target: str = TARGET
) -> AsyncIterator[list[Channel]]:
    """That many connections to a server that shows a certificate of this authority."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_connected(address, authority, target)) for _ in range(count)]


@asynccontextmanager
async def _connected(address: tuple[str, int], authority: Path, target: str) -> AsyncIterator[Channel]:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, cafile=str(authority))
    made = partial(Channel, target=target)
    async with connect(*address, configuration=configuration, create_protocol=made) as channel:
        yield cast(Channel, channel)

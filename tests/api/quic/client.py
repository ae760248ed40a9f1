"""A client of HTTP/3 that can also be a bad one: the library's own, with requests that are sent in parts."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aioquic.asyncio.client import connect as connect_quic
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StopSendingReceived, StreamReset
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder

TEST_S_MAX = 40.0
SYNC = "/api/v1/sync"


class Answer:
    """A reply as it comes; `ended` is set with the whole of it, or when there will be no more."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.content = b""
        self.reset_by: int | None = None
        """The code with which the server broke it off."""
        self.stopped_by: int | None = None
        """The code with which the server wanted no more of the request."""
        self.ended = asyncio.Event()

    @property
    def status(self) -> int:
        return int(self.headers.get(":status", 0))

    def json(self) -> Any:
        return msgspec.json.decode(self.content)


class Client(QuicConnectionProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.quic = self._quic
        self.http = H3Connection(self._quic)
        self.answers: dict[int, Answer] = {}
        self.ended_with: int | None = None
        """The code of the connection's end."""
        self.over = asyncio.Event()

    @property
    def certificate(self) -> Any:
        """What the server showed."""
        return self._quic.tls._peer_certificate

    def begin(self, method: str, target: str, headers: Mapping[str, str] | None = None, *, last: bool = False) -> int:
        """Send the head of a request; its stream."""
        stream_id = self._quic.get_next_available_stream_id()
        self.answers[stream_id] = Answer()
        named = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": target, **(headers or {})}
        self.http.send_headers(stream_id, [(name.encode(), value.encode()) for name, value in named.items()], last)
        self.transmit()
        return stream_id

    def send(self, stream_id: int, body: bytes, *, last: bool = False) -> None:
        self.http.send_data(stream_id, body, last)
        self.transmit()

    def force(self, stream_id: int, offset: int, data: bytes) -> None:
        """Send a part of a stream, whatever the server allows, in a datagram of its own."""
        frame = b"".join(encode_uint_var(number) for number in (stream_id, offset, len(data))) + data
        self._quic._get_or_create_stream_for_send(stream_id)
        self._quic._write_datagram_frame = _write_stream_frame  # type: ignore[method-assign]
        self._quic.send_datagram_frame(frame)
        self.transmit()

    async def ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """A whole request, and its reply."""
        stream_id = self.begin(method, target, headers, last=not body)
        if body:
            self.send(stream_id, body, last=True)
        return await self.answer(stream_id)

    async def answer(self, stream_id: int) -> Answer:
        answer = self.answers[stream_id]
        async with asyncio.timeout(TEST_S_MAX):
            await answer.ended.wait()
        return answer

    async def sync(self, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        content = msgspec.json.encode(body)
        return await self.ask("POST", SYNC, content, {"content-type": "application/json", **(headers or {})})

    async def wait_closed(self) -> None:
        """Not: that it is closed has been told, and what the library waits for are three timeouts."""

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.ended_with = event.error_code
            self.over.set()
            for answer in self.answers.values():
                answer.ended.set()
        elif isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.answers[event.stream_id].reset_by = event.error_code
            self.answers[event.stream_id].ended.set()
        elif isinstance(event, StopSendingReceived) and event.stream_id in self.answers:
            self.answers[event.stream_id].stopped_by = event.error_code
        for happened in self.http.handle_event(event):
            if isinstance(happened, HeadersReceived):
                headers = {name.decode(): value.decode() for name, value in happened.headers}
                self.answers[happened.stream_id].headers = headers
            elif isinstance(happened, DataReceived):
                self.answers[happened.stream_id].content += happened.data
            if isinstance(happened, HeadersReceived | DataReceived) and happened.stream_ended:
                self.answers[happened.stream_id].ended.set()


def _write_stream_frame(builder: QuicPacketBuilder, data: bytes, frame_type: int) -> bool:
    """In place of a DATAGRAM frame (RFC 9000, section 19.8)."""
    frame = builder.start_frame(QuicFrameType.STREAM_BASE | 0x04 | 0x02, capacity=1 + len(data))
    frame.push_bytes(data)
    return True


@asynccontextmanager
async def connected(address: tuple[str, int], authority: Path, **settings: Any) -> AsyncIterator[Client]:
    """Over a new connection to a server that this authority knows."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, cafile=str(authority), **settings)
    async with (
        asyncio.timeout(TEST_S_MAX),
        connect_quic(*address, configuration=configuration, create_protocol=Client) as client,
    ):
        assert isinstance(client, Client)
        yield client

"""A load generator that costs little: prebuilt requests over raw kept-alive sockets, nothing decoded while it runs.

Open loop: each request has its moment, and its latency counts from there whatever waited. Closed loop: each connection
sends as soon as it is answered. A peer that closes or talks nonsense fails the run.
"""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol, cast
from urllib.parse import urlsplit

import numpy as np

_HEAD_END = b"\r\n\r\n"
_UNAVAILABLE = 503
_LATER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Reply(NamedTuple):
    """Status and body, as they came."""

    status: int
    body: bytes
    retry_after_s: int = 0
    """Of one that was refused until later."""


class Load(NamedTuple):
    """What a loop saw. Latencies in seconds, in the order of completion; errors are replies other than 2xx."""

    latencies_s: list[float]
    errors: int
    seconds: float
    cpu_s: float
    last: Reply | None

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.seconds

    def quantile_ms(self, q: float) -> float:
        return float(np.quantile(self.latencies_s, q)) * 1e3


class Exchanges(Protocol):
    """What a load is sent on: one request at a time."""

    def exchange(self, request: bytes) -> Awaitable[Reply]: ...


class Disconnected(Exception):
    """The server closed a connection in the middle of a load."""


class Connection(asyncio.Protocol):
    """One request at a time on one socket."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._received = bytearray()
        self._expected = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def exchange(self, request: bytes) -> "asyncio.Future[Reply]":
        assert self._transport is not None and self._waiting is None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._expected:
            head = self._received.find(_HEAD_END)
            if head < 0:
                return
            length = _LENGTH.search(self._received, 0, head + 2)
            self._expected = head + len(_HEAD_END) + (int(length[1]) if length else 0)
        if len(self._received) >= self._expected:
            self._answer()

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error or Disconnected())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _answer(self) -> None:
        assert self._waiting is not None
        waiting, self._waiting = self._waiting, None
        body = bytes(self._received[self._received.find(_HEAD_END) + len(_HEAD_END) : self._expected])
        status = int(self._received[9:12])
        later = _LATER.search(self._received) if status == _UNAVAILABLE else None
        retry_after_s = int(later[1]) if later else 0
        self._received.clear()
        self._expected = 0
        waiting.set_result(Reply(status, body, retry_after_s))


@asynccontextmanager
async def connected(url: str, count: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[list[Connection]]:
    """That many connections to a server."""
    address = urlsplit(url)
    assert address.hostname is not None and address.port is not None
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(Connection, address.hostname, address.port, ssl=tls))[1] for _ in range(count)
    ]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def make_request(method: str, target: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """HTTP/1.1, whole."""
    lines = [f"{method} {target} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + _HEAD_END + body


async def run_open_loop(connections: Sequence[Exchanges], requests: Sequence[bytes], dues_s: Sequence[float]) -> Load:
    """Send each request at its moment, in seconds from now, on a connection that is free by then."""
    idle: asyncio.Queue[Exchanges] = asyncio.Queue()
    for connection in connections:
        idle.put_nowait(connection)
    tally = _Tally()

    async def send(request: bytes, due: float) -> None:
        connection = await idle.get()
        tally.note(await connection.exchange(request), due)
        idle.put_nowait(connection)

    async with asyncio.TaskGroup() as group:
        for request, due_s in zip(requests, dues_s, strict=True):
            due = tally.started + due_s
            wait_s = due - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            group.create_task(send(request, due))
    return tally.finish()


async def run_closed_loop(connections: Sequence[Exchanges], requests: Iterable[bytes], seconds: float) -> Load:
    """Send one request after the other on every connection until the time, or the requests, are over."""
    tally = _Tally()
    waiting = iter(requests)

    async def work(connection: Exchanges) -> None:
        while time.perf_counter() - tally.started < seconds:
            request = next(waiting, None)
            if request is None:
                return
            sent = time.perf_counter()
            tally.note(await connection.exchange(request), sent)

    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(work(connection))
    return tally.finish()


class _Tally:
    def __init__(self) -> None:
        self.started = time.perf_counter()
        self._cpu_started = time.process_time()
        self._latencies_s: list[float] = []
        self._errors = 0
        self._last: Reply | None = None

    def note(self, reply: Reply, since: float) -> None:
        self._latencies_s.append(time.perf_counter() - since)
        self._errors += not 200 <= reply.status < 300
        self._last = reply

    def finish(self) -> Load:
        seconds = time.perf_counter() - self.started
        cpu_s = time.process_time() - self._cpu_started
        return Load(self._latencies_s, self._errors, seconds, cpu_s, self._last)

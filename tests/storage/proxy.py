"""`CutProxy`: a network to break, for tests to put between a client and PostgreSQL.

    async with CutProxy(server.url) as proxy:
        connection = await asyncpg.connect(proxy.url)
        proxy.cut()         # every connection is reset, new ones are too as soon as they are accepted
        proxy.restore()     # new ones work again; so does what was stalled
        proxy.cut_after(n)  # n more bytes go through to the server, then their connection is reset, once
        proxy.stall()       # nothing moves in either direction, nothing is closed, until restore() or cut()

Forwards bytes between a loopback port and the server's socket or port; knows nothing of the protocol. An error of its
own fails the test that leaves the `async with`.
"""

import asyncio
import contextlib
import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlencode, urlsplit

_CHUNK_BYTES = 64 << 10
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger: closing sends RST


class CutProxy:
    def __init__(self, target: str) -> None:
        """`target` is a postgresql:// URL, of a server on a unix socket or on a port."""
        self._target = urlsplit(target)
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._errors: list[Exception] = []
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._bytes_left: int | None = None
        self.was_cut = asyncio.Event()
        """Set by each cut, those of `cut_after` included; clear it to wait for the next."""
        self.accepted = 0
        """Connections so far, refused ones included."""
        self.bytes_from_client = 0
        """Forwarded to the server so far, over all connections: what `cut_after` counts."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        """Reset what is open, close the port, and raise what went wrong in the background."""
        assert self._listener is not None
        self._listener.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._listener.wait_closed()
        if self._errors:
            raise ExceptionGroup("in the proxy", self._errors)

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        assert self._listener is not None
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The target's URL through here. Without TLS, so that the same work takes the same number of bytes."""
        user, at, _ = self._target.netloc.rpartition("@")
        kept = {name: value for name, value in parse_qs(self._target.query).items() if name not in ("host", "port")}
        query = urlencode({**kept, "sslmode": ["disable"]}, doseq=True)
        return self._target._replace(netloc=f"{user}{at}{self.host}:{self.port}", query=query).geturl()

    def cut(self) -> None:
        self._refusing = True
        for writers in self._connections.values():
            _reset(writers)
        self._flowing.set()
        self.was_cut.set()

    def restore(self) -> None:
        self._refusing = False
        self._flowing.set()

    def cut_after(self, bytes_from_client: int) -> None:
        self._bytes_left = bytes_from_client

    def stall(self) -> None:
        self._flowing.clear()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        writers = self._connections.setdefault(task, [to_client])
        try:
            if not self._refusing:
                await self._forward(from_client, to_client, writers)
        except Exception as error:
            self._errors.append(error)
        finally:
            _reset(writers)
            del self._connections[task]

    async def _forward(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter, writers: list[asyncio.StreamWriter]
    ) -> None:
        try:
            from_server, to_server = await self._connect()
        except OSError:  # the server is away: the client learns it by a reset
            return
        writers.append(to_server)
        if to_client.is_closing():  # cut while connecting
            return
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(self._pump_to_server(from_client, to_server, writers))
            pumps.create_task(self._pump_to_client(from_server, to_client, writers))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        given = parse_qs(self._target.query)
        host, port = given.get("host", [""])[0], given.get("port", ["5432"])[0]
        if host.startswith("/"):
            return await asyncio.open_unix_connection(str(Path(host) / f".s.PGSQL.{port}"))
        return await asyncio.open_connection(self._target.hostname, self._target.port or int(port))

    async def _pump_to_server(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, writers: list[asyncio.StreamWriter]
    ) -> None:
        while (data := await self._read(reader)) and not writer.is_closing():
            last = self._bytes_left is not None and len(data) >= self._bytes_left
            if last:
                data = data[: self._bytes_left]
            self.bytes_from_client += len(data)
            if self._bytes_left is not None:
                self._bytes_left = None if last else self._bytes_left - len(data)
            await _write(writer, data)
            if last:
                await _finish(writer)
                self.was_cut.set()
                break
        _reset(writers)

    async def _pump_to_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, writers: list[asyncio.StreamWriter]
    ) -> None:
        while data := await self._read(reader):
            await _write(writer, data)
        await _finish(writer)
        _reset(writers)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """What came, once it may flow; nothing at the end, however it ended."""
        try:
            data = await reader.read(_CHUNK_BYTES)
        except OSError:
            return b""
        await self._flowing.wait()
        return data


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """To whoever is still there."""
    with contextlib.suppress(OSError):
        writer.write(data)
        await writer.drain()


async def _finish(writer: asyncio.StreamWriter) -> None:
    """Everything that was written goes out, then the end."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _reset(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        endpoint = writer.get_extra_info("socket")
        if endpoint.fileno() == -1:
            continue  # closed after its last byte was sent; to abort it again fails inside asyncio
        if endpoint.family == socket.AF_INET:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()

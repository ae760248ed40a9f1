"""Real HTTP peers that show a client a shard at its worst: one says what a test tells it to, one loses replies.

No stand-in for the service (its own tests run the service); what is under test is what a client does with an answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec


class Heard(NamedTuple):
    """One request as it came."""

    headers: dict[str, str]
    body: bytes
    raw: bytes


class Peer:
    """Answers the requests it gets with `answers`, one after the other; b"" hangs up without a word."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.url = ""
        self.heard: list[Heard] = []
        self._answers = list(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.heard.append(await _read(reader))
                answer = self._answers.pop(0)
                if not answer:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def peer(*answers: bytes) -> AsyncIterator[Peer]:
    listening = Peer(answers)
    server = await asyncio.start_server(listening.serve, "127.0.0.1", 0)
    listening.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield listening
    finally:
        server.close()


def answer(status: int, body: object = None, **headers: str) -> bytes:
    """One HTTP answer with a msgpack body."""
    content = body if isinstance(body, bytes) else msgspec.msgpack.encode(body)
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/msgpack", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


@contextlib.asynccontextmanager
async def losing_replies(url: str, lost: int) -> AsyncIterator[str]:
    """A proxy to `url` that passes every request on, but not the first `lost` replies: it hangs up instead."""
    host, _, port = url.removeprefix("http://").partition(":")
    left = lost

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                upstream_writer.write((await _read(reader)).raw)
                reply = await _read(upstream_reader)
                if left:
                    left -= 1
                    break
                writer.write(reply.raw)
        upstream_writer.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _read(reader: asyncio.StreamReader) -> Heard:
    """One HTTP message with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = (line.partition(":") for line in head.decode().split("\r\n")[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Heard(headers, body, head + body)

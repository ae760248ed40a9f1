"""The load generator against a peer that splits its replies, refuses, stalls and hangs up."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest

from bench.generator import Disconnected, connected, make_request, run_closed_loop, run_open_loop

Serve = Callable[[bytes, asyncio.StreamWriter], Coroutine[None, None, None]]
REQUEST = make_request("POST", "/path", {"x-kind": "test"}, b"body")


@asynccontextmanager
async def peer(serve: Serve) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"content-length: 4" in head
                await serve(head + await reader.readexactly(4), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def reply_in_pieces(request: bytes, writer: asyncio.StreamWriter) -> None:
    assert request == REQUEST
    for piece in (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 5\r\n\r", b"\nhel", b"lo"):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)


async def refuse(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")


async def hang_up(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")
    await writer.drain()
    raise ConnectionError


def test_replies_in_pieces_are_put_together() -> None:
    async def run() -> None:
        async with peer(reply_in_pieces) as url, connected(url, 2) as connections:
            load = await run_closed_loop(connections, [REQUEST] * 7, seconds=60)
        assert len(load.latencies_s) == 7 and load.errors == 0
        assert load.last is not None and load.last.body == b"hello" and load.last.status == 200

    asyncio.run(run())


def test_refusals_are_counted_as_errors() -> None:
    async def run() -> None:
        async with peer(refuse) as url, connected(url, 1) as connections:
            load = await run_closed_loop(connections, [REQUEST] * 3, seconds=60)
        assert load.errors == 3

    asyncio.run(run())


def test_connection_that_ends_in_a_reply_fails_the_run() -> None:
    async def run() -> None:
        async with peer(hang_up) as url, connected(url, 1) as connections:
            await run_closed_loop(connections, [REQUEST], seconds=60)

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(run())
    assert raised.group_contains(Disconnected)


def test_open_loop_counts_waiting_for_a_connection_into_the_latency() -> None:
    stalled = asyncio.Event

    async def run() -> None:
        release = stalled()
        seen = 0

        async def stall(request: bytes, writer: asyncio.StreamWriter) -> None:
            nonlocal seen
            seen += 1
            if seen == 1:
                await release.wait()
            await reply_in_pieces(request, writer)

        async with peer(stall) as url, connected(url, 1) as connections:
            asyncio.get_running_loop().call_later(0.2, release.set)
            load = await run_open_loop(connections, [REQUEST] * 3, [0.0, 0.0, 0.0])
        # One connection, all due at once, the first held for 0.2 s: the others waited that long, too.
        assert len(load.latencies_s) == 3 and min(load.latencies_s) >= 0.19

    asyncio.run(run())

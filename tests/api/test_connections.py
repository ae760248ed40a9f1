"""Clients that send too slowly, take too slowly, send too much at once, or are too many: real sockets, short patience.

The server runs in this process, so that what it may wait for can be short.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from constellation import limits
from constellation.api.connections import Connection, Patience, read_whole
from constellation.api.server import Server
from constellation.api.service import Service
from tests.api import bodies
from tests.api.direct import Direct

SYNC = "/api/v1/sync"
PATIENCE = Patience(head_s=0.3, message_s=0.6, reply_s=0.5, look_every_s=0.02)
CONNECTIONS_MAX = 4
TEST_S_MAX = 20.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Served:
    """A server, and what it counted."""

    def __init__(self, service: Service, server: Server, port: int) -> None:
        self.service = service
        self._server = server
        self._port = port
        self._clients: list[asyncio.StreamWriter] = []

    async def connect(self, receive_bytes: int = 0) -> Streams:
        client = socket.socket()
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self._port))
        streams = await asyncio.open_connection(sock=client)
        self._clients.append(streams[1])
        return streams

    async def close(self) -> None:
        for client in self._clients:
            client.close()
            with suppress(ConnectionError):
                await client.wait_closed()

    def open(self) -> list[Connection]:
        return list(self._server.connections)

    def cut(self, why: str) -> bool:
        never = f'constellation_connections_cut_total{{shard_id="shard-0",why="{why}"}} 0.0'
        return never not in self.service.metrics.text().decode()


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Served]:
    direct = Direct(**settings)
    direct.close()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    server = Server(direct.service, direct.app, CONNECTIONS_MAX, patience=PATIENCE)
    direct.service.in_flight = lambda: len(server.server_state.tasks)
    running = asyncio.create_task(server.serve([listening]))
    while not server.started:
        await asyncio.sleep(0)
    served = Served(direct.service, server, listening.getsockname()[1])
    try:
        yield served
    finally:
        await served.close()
        server.should_exit = True
        await running


def run(test: Callable[[Served], Awaitable[None]]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(TEST_S_MAX), serving() as served:
            await test(served)

    uvloop.run(timed())


def whole(body: bytes = b"", path: str = SYNC, method: str = "POST", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def answer(streams: Streams) -> tuple[int, dict[str, str], bytes]:
    head = (await streams[0].readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head[1:] if line}
    return int(head[0].split()[1]), headers, await streams[0].readexactly(int(headers["content-length"]))


async def ended(streams: Streams) -> bytes:
    """What still comes until the connection ends."""
    try:
        return await streams[0].read()
    except ConnectionResetError:
        return b""


GOOD = whole(json.dumps(bodies.body(bodies.pattern())).encode())


@pytest.mark.parametrize(
    "begun",
    [b"P", b"\r\n", GOOD[:40], GOOD[:400], whole(b"x" * 100)[:-50]],
    ids=["byte", "newline", "head", "body", "part"],
)
def test_a_client_that_does_not_send_what_it_began_is_cut_off(begun: bytes) -> None:
    async def test(served: Served) -> None:
        quiet, slow = await served.connect(), await served.connect()
        slow[1].write(begun)
        assert b"200 OK" not in await ended(slow)
        assert served.cut("slow_request")
        quiet[1].write(GOOD)  # has sent nothing so far, and so is late with nothing
        assert (await answer(quiet))[0] == 200

    run(test)


def test_a_client_that_dribbles_is_cut_off_though_something_always_comes() -> None:
    async def test(served: Served) -> None:
        slow = await served.connect()

        async def dribble() -> None:
            for byte in GOOD[:60]:
                slow[1].write(bytes([byte]))
                await asyncio.sleep(0.02)

        dribbling = asyncio.create_task(dribble())
        assert await ended(slow) == b""
        assert served.cut("slow_request")
        dribbling.cancel()

    run(test)


def test_a_client_that_does_not_take_its_reply_is_cut_off_with_little_kept_for_it() -> None:
    async def test(served: Served) -> None:
        slow = await served.connect(receive_bytes=4_096)
        for _ in range(limits.PIPELINED_MAX):
            slow[1].write(whole(method="GET", path="/schema/openapi.json"))
        kept = 0
        while not served.cut("slow_reply"):
            kept = max(kept, *(each.transport.get_write_buffer_size() for each in served.open()), 0)
            await asyncio.sleep(0.01)
        assert 0 < kept < 2 * 65_536 + 100_000, "no more than one reply beyond what is buffered"
        while served.service.in_flight():
            await asyncio.sleep(0.01)

    run(test)


@pytest.mark.parametrize("begun", [b"GET /health HTTP/1.1\r\nX-Long: ", b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 5])
def test_a_head_without_end_is_refused(begun: bytes) -> None:
    async def test(served: Served) -> None:
        endless = await served.connect()
        endless[1].write(begun + b"x" * (limits.OVERHEAD_BYTES_MAX + 1))
        assert (await ended(endless)).startswith(b"HTTP/1.1 400 ")

    run(test)


def test_requests_without_waiting_for_replies_are_bounded() -> None:
    async def test(served: Served) -> None:
        greedy = await served.connect()
        greedy[1].write(whole(method="GET", path="/health") * (limits.PIPELINED_MAX + 2))
        assert b"HTTP/1.1 400 " in await ended(greedy)
        patient = await served.connect()
        patient[1].write(whole(method="GET", path="/health") * limits.PIPELINED_MAX)
        assert [(await answer(patient))[0] for _ in range(limits.PIPELINED_MAX)] == [200] * limits.PIPELINED_MAX

    run(test)


def test_one_connection_too_many_takes_the_place_of_the_one_idle_for_longest() -> None:
    async def test(served: Served) -> None:
        idle = [await served.connect() for _ in range(CONNECTIONS_MAX)]
        for streams in (idle[1], idle[2], idle[3]):
            streams[1].write(GOOD)
            await answer(streams)
        another = await served.connect()
        another[1].write(GOOD)
        assert (await answer(another))[0] == 200
        assert await ended(idle[0]) == b"" and served.cut("evicted")
        idle[1][1].write(GOOD)
        assert (await answer(idle[1]))[0] == 200

    run(test)


def test_where_all_are_busy_one_more_is_refused() -> None:
    async def test(served: Served) -> None:
        busy = [await served.connect() for _ in range(CONNECTIONS_MAX)]
        for streams in busy:
            streams[1].write(GOOD[:-5])
        while served.service.in_flight() < CONNECTIONS_MAX:
            await asyncio.sleep(0.005)
        assert await ended(await served.connect()) == b"" and served.cut("refused")
        for streams in busy:
            streams[1].write(GOOD[-5:])
            assert (await answer(streams))[0] == 200

    run(test)


@pytest.mark.parametrize("pieces", [1, 2], ids=["whole", "in two"])
@pytest.mark.parametrize("accept", ["application/json", "application/msgpack"])
def test_refused_for_want_of_room_is_told_like_any_problem(pieces: int, accept: str) -> None:
    async def test(served: Served) -> None:
        full, before = served.service.in_flight, served.service.stats()
        served.service.in_flight = lambda: 10_000
        streams = await served.connect()
        asked = whole(json.dumps(bodies.body(bodies.pattern())).encode(), Accept=accept)
        end = asked.index(b"\r\n\r\n") + 4
        for part in [asked] if pieces == 1 else [asked[:end], asked[end:]]:
            streams[1].write(part)
            await asyncio.sleep(0.05)
        status, headers, content = await answer(streams)
        assert status == 503 and headers["content-type"] == accept.replace("json", "problem+json")
        assert int(headers["retry-after"]) >= 1 and headers["x-request-id"] and headers["vary"] == "Accept"
        assert b"overloaded" in content and served.service.stats() == before
        streams[1].write(whole(method="GET", path="/health"))
        assert (await answer(streams))[0] == 200, "health has room always"
        served.service.in_flight = full
        streams[1].write(asked)
        assert (await answer(streams))[0] == 200, "and so has everybody afterwards, on the same connection"
        text = served.service.metrics.text().decode()
        assert 'constellation_problems_total{code="overloaded",shard_id="shard-0"} 1.0' in text
        assert 'constellation_sync_requests_total{shard_id="shard-0",status="503"} 1.0' in text

    run(test)


def test_a_reply_is_written_in_one_piece_but_for_what_must_come_before_it() -> None:
    async def test(served: Served) -> None:
        streams = await served.connect()
        for _ in range(2):
            streams[1].write(GOOD)
            piece = await streams[0].read(1 << 16)
            head, _, body = piece.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200") and json.loads(body)["accepted"]
        streams[1].write(GOOD.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"))
        assert await streams[0].readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await answer(streams))[0] == 200
        streams[1].write(whole(path=SYNC, method="HEAD"))
        head = await streams[0].readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405") and b"content-length" in head
        streams[1].write(GOOD)
        assert (await answer(streams))[0] == 200, "no body came after the head before"

    run(test)


@pytest.mark.parametrize(
    "asked",
    [
        GOOD[:-1],
        GOOD + GOOD,
        GOOD.replace(b"Content-Length: ", b"Content-Length: 0000000000000000000"),
        GOOD.replace(b"Host: x", b"Content-Length: 1"),
        GOOD.replace(b"Host: x", b"Transfer-Encoding: chunked"),
        GOOD.replace(b"Host: x", b"Connection: close"),
        GOOD.replace(b"Host: x", b"Expect: 100-continue"),
        GOOD.replace(b"Host: x", b"X-Request-Id: mine"),
        GOOD.replace(b"Content-Length:", b"Content-Length :"),
        GOOD.replace(b"Host: x", b"Host: x\r\n folded"),
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        GOOD.replace(b"\r\nHost", b"\nHost"),
        b"",
    ],
)
def test_what_is_not_one_whole_usual_request_is_left_to_the_parser(asked: bytes) -> None:
    assert read_whole(asked) is None
    assert read_whole(GOOD) is not None

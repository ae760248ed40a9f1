"""Clients of HTTP/3 that take too much of memory or time: real datagrams, short patience.

The server runs in this process, so that what it may wait for can be short, and what it keeps can be looked at.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from aioquic.h3.connection import ErrorCode
from aioquic.quic.packet import QuicErrorCode

from constellation import limits
from constellation.api.connections import PATIENCE, Patience
from constellation.api.quic import door
from constellation.api.quic.connection import Connection
from constellation.identity import Tls
from tests.api import bodies
from tests.api.direct import Direct
from tests.api.quic.client import SYNC, TEST_S_MAX, Client, connected
from tests.identity.authority import Authority

IMPATIENT = Patience(head_s=1.0, message_s=1.5, reply_s=1.5, look_every_s=0.02)
CONNECTIONS_MAX = 3
JSON = {"content-type": "application/json"}
GOOD = msgspec.json.encode(bodies.body(bodies.pattern()))


class Served:
    """A door, and what it counted."""

    def __init__(self, direct: Direct, opened: door.Door, authority: Authority) -> None:
        self.service, self.door = direct.service, opened
        self._authority = authority

    def connected(self, **settings: Any) -> AbstractAsyncContextManager[Client]:
        return connected(self.door.address, self._authority.certificate, **settings)

    def open(self) -> list[Connection]:
        return list(self.door.connections)

    def held(self) -> int:
        """Bytes of its clients that are not used yet, the most of one."""
        return max(
            sum(len(stream.receiver._buffer) for stream in each._quic._streams.values()) + each._http.undecoded
            for each in self.open()
            if each._http is not None
        )

    async def cut(self, why: str) -> None:
        """Until one is cut for this reason."""
        never = f'constellation_connections_cut_total{{shard_id="shard-0",why="{why}"}} 0.0'
        while never in self.service.metrics.text().decode():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(folder: Path, patience: Patience) -> AsyncIterator[Served]:
    direct = Direct()
    direct.close()
    authority = Authority(folder, "servers")
    direct.service.tls = Tls(authority.issue("shard"))
    held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    held.bind(("127.0.0.1", 0))
    async with door.opened(direct.service, held, direct.app, lambda: [], CONNECTIONS_MAX, patience) as opened:
        direct.service.in_flight = lambda: opened.in_flight
        yield Served(direct, opened, authority)


def run(folder: Path, test: Callable[[Served], Awaitable[None]], patience: Patience = PATIENCE) -> None:
    async def timed() -> None:
        async with asyncio.timeout(TEST_S_MAX), serving(folder, patience) as served:
            before = served.service.stats().patterns_stored
            await test(served)
            while served.door.in_flight:
                await asyncio.sleep(0.01)
            assert served.service.stats().patterns_stored == before

    uvloop.run(timed())


def test_a_body_that_does_not_come_is_waited_for_so_long(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        async with served.connected() as quiet, served.connected() as slow:
            slow.send(slow.begin("POST", SYNC, JSON), GOOD[:-1])
            await served.cut("slow_request")
            await slow.over.wait()
            assert slow.ended_with == ErrorCode.H3_EXCESSIVE_LOAD
            assert (await quiet.ask("GET", "/health")).status == 200, (
                "it has begun nothing, and so is late with nothing"
            )

    run(tmp_path, test, IMPATIENT)


def test_a_head_that_does_not_come_is_waited_for_so_long(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        async with served.connected() as slow:
            slow.quic.send_stream_data(slow.quic.get_next_available_stream_id(), b"\x01\x40\xff" + b"x" * 10)
            slow.transmit()
            await served.cut("slow_request")

    run(tmp_path, test, IMPATIENT)


def test_a_reply_that_is_not_taken_is_not_kept_for_long(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        async with served.connected(max_data=10_000) as slow:
            # It may be sent that much, and never more.
            slow.quic._write_connection_limits = lambda **_: None  # type: ignore[method-assign]
            for _ in range(limits.QUIC_STREAMS_MAX):
                slow.begin("GET", "/schema/openapi.json", last=True)
            kept = 0
            cut = asyncio.create_task(served.cut("slow_reply"))
            while not cut.done():
                kept = max(kept, *(_unsent(each) for each in served.open()), 0)
                await asyncio.sleep(0.01)
            assert 0 < kept < limits.SEND_BUFFER_BYTES + 2 * limits.QUIC_REPLY_PIECE_BYTES

    run(tmp_path, test, IMPATIENT)


def _unsent(connection: Connection) -> int:
    return sum(len(stream.sender._buffer) for stream in connection._quic._streams.values())


def test_one_connection_too_many_takes_the_place_of_the_one_idle_for_longest(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        async with served.connected() as first, served.connected() as second, served.connected() as third:
            for each in (second, third):
                assert (await each.ask("GET", "/health")).status == 200
            async with served.connected() as another:
                assert (await another.ask("GET", "/health")).status == 200
                await first.over.wait()
                assert first.ended_with == ErrorCode.H3_NO_ERROR and len(served.open()) == CONNECTIONS_MAX
                await served.cut("evicted")

    run(tmp_path, test)


def test_where_all_are_busy_one_more_is_not_heard(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        async with served.connected() as first, served.connected() as second, served.connected() as third:
            for each in (first, second, third):
                each.send(each.begin("POST", SYNC, JSON), GOOD[:-1])
                await each.ping()
            unheard = asyncio.create_task(_try(served))
            await served.cut("refused")
            unheard.cancel()
            await asyncio.gather(unheard, return_exceptions=True)
            assert len(served.open()) == CONNECTIONS_MAX

    run(tmp_path, test)


async def _try(served: Served) -> None:
    async with served.connected():
        pass


@pytest.mark.parametrize("streams", [1, limits.QUIC_STREAMS_MAX - 1])
def test_what_comes_behind_a_gap_is_kept_up_to_the_window(tmp_path: Path, streams: int) -> None:
    """The library alone would double what it keeps with every frame.

    A stream less than there may be: that of the first request is free again only when its reply was confirmed.
    """

    async def test(served: Served) -> None:
        async with served.connected() as greedy:
            await greedy.ask("GET", "/health")
            offset, step = 0, limits.QUIC_WINDOW_BYTES // streams - 2_000
            for stream in range(4, 4 * streams + 1, 4):
                greedy.force(stream, step, b"x")
            await asyncio.sleep(0)
            await greedy.ping()
            assert 0 < served.held() <= limits.QUIC_WINDOW_BYTES
            while not greedy.over.is_set():
                offset += step
                greedy.force(4, step + offset, b"x")
                await asyncio.sleep(0.01)
            assert greedy.ended_with == QuicErrorCode.FLOW_CONTROL_ERROR

    run(tmp_path, test)


def test_a_stream_in_crumbs_ends_the_connection(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        async with served.connected() as crumbling:
            await crumbling.ask("GET", "/health")
            for offset in range(2, 6 * limits.QUIC_GAPS_MAX, 2):
                crumbling.force(4, offset, b"x")
                if offset % 64 == 0:
                    await asyncio.sleep(0.001)
            await served.cut("excessive")
            await crumbling.over.wait()

    run(tmp_path, test)


@pytest.mark.parametrize(
    "headers",
    [
        {f"x-{number}": "y" for number in range(limits.QUIC_HEADERS_MAX)},
        {"x-long": "y" * limits.QUIC_HEAD_BYTES_MAX},
    ],
    ids=["many", "long"],
)
def test_a_large_head_ends_the_connection(tmp_path: Path, headers: dict[str, str]) -> None:
    async def test(served: Served) -> None:
        async with served.connected() as wordy:
            wordy.begin("GET", "/health", headers, last=True)
            await wordy.over.wait()
            assert wordy.ended_with == ErrorCode.H3_EXCESSIVE_LOAD

    run(tmp_path, test)


@pytest.mark.parametrize(
    "headers",
    [{":path": "nowhere"}, {":path": "/x y"}, {":path": "/\xe4"}, {":method": "CONNECT", ":protocol": "websocket"}],
    ids=["relative", "space", "beyond ASCII", "protocol"],
)
def test_a_request_that_is_none_is_reset(tmp_path: Path, headers: dict[str, str]) -> None:
    async def test(served: Served) -> None:
        async with served.connected() as tv:
            answer = await tv.answer(tv.begin("GET", "/health", headers, last=True))
            assert answer.reset_by == ErrorCode.H3_MESSAGE_ERROR
            assert (await tv.ask("GET", "/health")).status == 200

    run(tmp_path, test)


def test_refused_for_want_of_room_is_told_like_any_problem(tmp_path: Path) -> None:
    async def test(served: Served) -> None:
        full = served.service.in_flight
        async with served.connected() as tv:
            served.service.in_flight = lambda: 10_000
            answer = await tv.ask("POST", SYNC, GOOD, JSON)
            assert (answer.status, answer.json()["code"]) == (503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            assert (await tv.ask("GET", "/health")).status == 200, "health has room always"
            served.service.in_flight = full
            assert (await tv.ask("GET", "/api/v1/info")).status == 200

    run(tmp_path, test)

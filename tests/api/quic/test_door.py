"""HTTP/3 against a real process: the same service as over TCP, new certificates, the drain, and what rubbish does."""

import asyncio
import random
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from aioquic.h3.connection import H3_ALPN, ErrorCode
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509

from constellation import limits
from tests.api import bodies
from tests.api.process import wait_for
from tests.api.quic.client import SYNC, Answer
from tests.api.quic.conftest import Shard, started
from tests.identity.fleet import DEVICE_ID

GARBAGE = 2_000


def sync_body(**changes: object) -> dict[str, object]:
    return bodies.body(bodies.pattern(), device_id=DEVICE_ID, **changes)


def state(shard: Shard) -> dict[str, object]:
    """What the shard stores, and how many are connected by UDP and this one by TCP."""
    with shard.over_tcp() as client:
        stats = client.get("/api/v1/stats").json()
        version = client.get("/api/v1/sync/version").json()
        connections = 'constellation_connections{shard_id="shard-0"} 1.0' in client.get("/metrics").text
    return {"patterns": stats["patterns_stored"], "version": version["version"], "alone": connections}


@contextmanager
def changing_nothing(shard: Shard) -> Iterator[None]:
    wait_for(lambda: bool(state(shard)["alone"]))
    before = state(shard)
    yield
    wait_for(lambda: bool(state(shard)["alone"]))
    assert state(shard) == before


def test_a_sync_is_answered_as_over_tcp(shard: Shard) -> None:
    body = sync_body(sequence=1)

    async def ask() -> tuple[Answer, Answer]:
        async with shard.connected() as tv:
            return await tv.sync(body, shard.device), await tv.sync(body, shard.device)

    first, again = asyncio.run(ask())
    with shard.over_tcp() as client:
        over_tcp = client.post(SYNC, json=body, headers=shard.device)
    assert (first.status, first.json()["accepted"]["added"]) == (200, 1)
    assert first.headers["x-request-id"] and first.headers["date"] and "connection" not in first.headers
    assert again.json()["accepted"] == over_tcp.json()["accepted"] and again.json()["accepted"]["duplicate"]
    told = {"x-request-id", "date"}
    assert {name for name in over_tcp.headers if name not in told} == {
        name for name in again.headers if name not in told | {":status"}
    }


def test_answers_over_tcp_tell_of_it(shard: Shard) -> None:
    with shard.over_tcp() as client:
        for path in ("/health", "/nothing"):
            assert client.get(path).headers["alt-svc"] == f'h3=":{shard.address[1]}"; ma={limits.ALT_SVC_S}'


def test_the_gate_and_the_rules_are_those_of_http(shard: Shard) -> None:
    async def ask() -> list[Answer]:
        async with shard.connected() as tv:
            return [
                await tv.sync(sync_body()),
                await tv.sync(bodies.body(bodies.pattern(), device_id=bodies.new_id()), shard.device),
                await tv.ask("GET", "/api/v1/nothing%20here?x=%20", headers=shard.device),
                await tv.ask("HEAD", "/health"),
                await tv.ask("POST", SYNC, b"{", {"content-type": "application/json", **shard.device}),
                await tv.ask("GET", "/schema/openapi.json", headers=shard.device),
            ]

    tokenless, foreign, nowhere, head, malformed, document = asyncio.run(ask())
    assert (tokenless.status, tokenless.json()["code"]) == (401, "unauthenticated")
    assert (foreign.status, foreign.json()["code"]) == (403, "forbidden")
    assert nowhere.status == 404 and head.content == b""
    assert (malformed.status, malformed.json()["code"]) == (400, "malformed")
    assert len(document.content) > limits.QUIC_REPLY_PIECE_BYTES // 2 and "paths" in document.json()


def test_many_requests_at_once_on_one_connection(shard: Shard) -> None:
    async def ask() -> list[Answer]:
        async with shard.connected() as tv:
            return await asyncio.gather(*(tv.ask("GET", "/health") for _ in range(5 * limits.QUIC_STREAMS_MAX)))

    assert {answer.status for answer in asyncio.run(ask())} == {200}


def test_new_certificate_needs_no_restart_and_connections_stay(shard: Shard) -> None:
    async def renew() -> None:
        async with shard.connected() as before:
            first: x509.Certificate = before.certificate
            shard.authority.issue("shard")
            shard.server.child.send_signal(signal.SIGHUP)
            while True:
                async with shard.connected() as after:
                    if after.certificate != first:
                        break
            assert (await before.ask("GET", "/health")).status == 200

    asyncio.run(renew())


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "counted"])
def test_body_that_is_too_large_is_refused_and_not_read_on(shard: Shard, declared: bool) -> None:
    async def post() -> Answer:
        async with shard.connected() as tv:
            size = {"content-length": str(8 << 20)} if declared else {}
            stream = tv.begin("POST", SYNC, {"content-type": "application/json", **size, **shard.device})
            tv.send(stream, bytes(8 << 20))
            answer = await tv.answer(stream)
            unsent = len(tv.quic._streams[stream].sender._buffer)
            assert unsent > 6 << 20, "it was not read to its end"
            assert (await tv.ask("GET", "/health")).status == 200
            return answer

    with changing_nothing(shard):
        answer = asyncio.run(post())
        assert (answer.status, answer.json()["code"]) == (413, "too_large")
        assert answer.stopped_by == ErrorCode.H3_NO_ERROR


def test_request_that_is_reset_changes_nothing(shard: Shard) -> None:
    content = msgspec.json.encode(sync_body())

    async def reset() -> None:
        async with shard.connected() as tv:
            for _ in range(3 * limits.QUIC_STREAMS_MAX):
                stream = tv.begin("POST", SYNC, {"content-type": "application/json", **shard.device})
                tv.send(stream, content[:-1])
                tv.quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
                tv.quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
                tv.transmit()
                await tv.ping()
            assert (await tv.ask("GET", "/health")).status == 200

    with changing_nothing(shard):
        asyncio.run(reset())


def test_garbage_changes_nothing_and_is_hardly_answered(shard: Shard) -> None:
    seed = 5
    print("seed", seed)
    rng = random.Random(seed)
    first = first_datagram()
    with changing_nothing(shard), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(shard.address)
        sender.setblocking(False)
        sent = received = 0
        for number in range(GARBAGE):
            datagram = mutated(first, rng) if number % 2 else rng.randbytes(rng.randrange(0, 1_600))
            sent += sender.send(datagram)
            received += drained(sender)
            if number % 100 == 0:
                asyncio.run(healthy(shard))
        received += drained(sender)
        assert received < sent / 3


def test_nobody_is_kept_who_has_not_proven_an_address(shard: Shard) -> None:
    with changing_nothing(shard), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(shard.address)
        sender.settimeout(10)
        for _ in range(50):
            sender.send(first_datagram())
            retry = sender.recv(65_536)
            assert len(retry) < limits.QUIC_DATAGRAM_BYTES_MAX / 3 and retry[0] & 0xF0 == 0xF0
        # Too short to begin anything, of a version that nobody has: an answer would be longer than the question.
        sender.send(b"\xc0" + bytes(3) + b"\x09" + b"\x08" + bytes(8) + b"\x00")
        sender.send(first_datagram())
        assert sender.recv(65_536)[0] & 0xF0 == 0xF0


def test_drain_finishes_what_is_in_flight_and_sends_everybody_away(tmp_path: Path) -> None:
    content = msgspec.json.encode(sync_body())

    async def drain(shard: Shard) -> None:
        kind = {"content-type": "application/json", **shard.device}
        async with shard.connected() as slow, shard.connected() as idle:
            stream = slow.begin("POST", SYNC, kind)
            slow.send(stream, content[:100])
            await slow.ping()
            shard.server.terminate()
            while (await idle.ask("GET", "/health/ready")).status == 200:
                pass
            refused = await idle.sync(sync_body(), shard.device)
            assert (refused.status, refused.json()["code"]) == (503, "draining")
            assert int(refused.headers["retry-after"]) > 0
            slow.send(stream, content[100:], last=True)
            assert (await slow.answer(stream)).status == 200
            await idle.over.wait()
            assert idle.ended_with == ErrorCode.H3_NO_ERROR

    for shard in started(tmp_path):
        asyncio.run(drain(shard))
        assert shard.server.wait() == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(shard.address)


async def healthy(shard: Shard) -> None:
    async with shard.connected() as tv:
        assert (await tv.ask("GET", "/health")).status == 200


def first_datagram() -> bytes:
    """As a client begins a connection."""
    quic = QuicConnection(configuration=QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN))
    quic.connect(("127.0.0.1", 1), now=0.0)
    return quic.datagrams_to_send(now=0.0)[0][0]


def mutated(datagram: bytes, rng: random.Random) -> bytes:
    changed = bytearray(datagram)
    for _ in range(rng.randrange(1, 4)):
        changed[int(len(changed) * rng.random() ** 4)] = rng.randrange(256)
    return bytes(changed[: rng.choice((len(changed), rng.randrange(1, len(changed))))])


def drained(receiver: socket.socket) -> int:
    """Bytes that have come."""
    received = 0
    while True:
        try:
            received += len(receiver.recv(65_536))
        except BlockingIOError:
            return received

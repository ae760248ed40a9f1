"""A service of this process behind a real gRPC port: for states that an outside caller cannot bring about."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc

from constellation.api.grpc import door
from constellation.api.grpc import sync_pb2 as pb
from constellation.api.grpc.calls import Calls
from constellation.api.grpc.sync import SERVICE
from constellation.api.service import Service
from constellation.codebook import default_codebook
from constellation.config import Settings
from constellation.shard import Shard
from tests.api.direct import NOW

PUSH = f"/{SERVICE}/PushPatterns"
STREAM = f"/{SERVICE}/StreamSync"


class Inside:
    """The open port, and a channel to it."""

    def __init__(self, service: Service, calls: Calls, channel: grpc.aio.Channel) -> None:
        self.service, self.calls, self.channel = service, calls, channel

    def call(self, message: bytes) -> Awaitable[Any]:
        unary: Any = self.channel.unary_unary(PUSH)
        made: Awaitable[Any] = unary(message, timeout=20)
        return made

    async def push(self, message: bytes) -> grpc.StatusCode:
        """How a call with these bytes ends."""
        try:
            await self.call(message)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def stream(self) -> Any:
        return self.channel.stream_stream(STREAM, pb.PushRequest.SerializeToString, pb.StreamReply.FromString)(
            timeout=20
        )


def service_of(**settings: Any) -> Service:
    """Ready, with a clock that stands still."""
    chosen = Settings(**({"max_devices": 1_000, "max_patterns": 10_000} | settings))
    service = Service(chosen, Shard(chosen), default_codebook(), clock=lambda: NOW)
    service.open()
    return service


@asynccontextmanager
async def opened(service: Service) -> AsyncIterator[Inside]:
    held = socket.create_server(("127.0.0.1", 0))
    address = door.address_of(held)
    async with door.opened(service, held) as calls, grpc.aio.insecure_channel(address) as channel:
        service.in_flight = lambda: calls.in_flight
        yield Inside(service, calls, channel)


def run(work: Callable[[Inside], Coroutine[Any, Any, None]], service: Service | None = None) -> None:
    """On a loop of its own."""

    async def whole() -> None:
        async with opened(service or service_of()) as inside:
            await work(inside)

    asyncio.run(whole())


async def refusal(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """How it is refused."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("it was not refused")

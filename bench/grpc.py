"""How many syncs does one process serve by gRPC, and how soon, beside REST?

By REST as TVs do it, msgpack in zstd both ways; by gRPC unary calls, not compressed, from the library's client.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import uvloop

from bench.doors import Door, Measured, Traffic, by_turns, compared, prepare
from bench.generator import Reply, connected
from bench.plan import Answers, Note, Plan
from bench.served import Server, in_memory, serving
from bench.sync_http import CONNECTIONS, NEW_PATTERNS, fill, post, running_on, two_cores
from constellation.api.grpc import sync_pb2 as pb
from constellation.api.grpc.sync import SERVICE
from constellation.model import SyncRequest


class Channel:
    """One connection, one request at a time."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._push: Any = channel.unary_unary(f"/{SERVICE}/PushPatterns")

    async def exchange(self, request: bytes) -> Reply:
        try:
            return Reply(200, await self._push(request))
        except grpc.aio.AioRpcError as error:
            return Reply(500, str(error).encode())


def measure(plan: Plan) -> Answers:
    rng = plan.rng("grpc")
    traffic = prepare(plan, rng)
    servers_core, generators_core = two_cores()
    with running_on(servers_core), serving(*in_memory(plan)) as server, running_on(generators_core):
        rest, rpc = uvloop.run(_load(server, traffic, plan, rng))
    yield from compared("REST", rest, rpc, _similar)
    share = sum(load.cpu_s for load in rpc.sustained) / rpc.syncs * 1e6
    yield Note(f"a call took {share:.0f} us of the client's processor; {NEW_PATTERNS} new patterns in one of ten syncs")


async def _load(server: Server, traffic: Traffic, plan: Plan, rng: np.random.Generator) -> tuple[Measured, Measured]:
    async with connected(server.url, CONNECTIONS) as posting, channels(server.grpc) as calling:
        await fill(posting, traffic.filling)
        posts, pushes = traffic.asked
        rest = Door(list(posting), *([post(request) for request in each] for each in posts))
        rpc = Door(list(calling), *([push(request) for request in each] for each in pushes))
        return await by_turns(server, (rest, rpc), plan, rng)


@asynccontextmanager
async def channels(address: str) -> AsyncIterator[list[Channel]]:
    """As many connections as REST has."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    opened = [grpc.aio.insecure_channel(address, options) for _ in range(CONNECTIONS)]
    try:
        yield [Channel(channel) for channel in opened]
    finally:
        for channel in opened:
            await channel.close()


def push(request: SyncRequest) -> bytes:
    """A message, whole."""
    delta, added = request.delta, request.delta.added
    patterns = [
        pb.Pattern(
            id=added.ids[i].tobytes(),
            embedding=added.codes[i].tobytes(),
            success_rate=float(added.rates[i]),
            sample_count=int(added.counts[i]),
            context=pb.Context(
                time_of_day=context.time_of_day,
                day_of_week=context.day_of_week,
                content_type=context.content_type,
                genre_hints=context.genre_hints,
            ),
            created_at=int(added.created_at[i]),
            updated_at=int(added.updated_at[i]),
        )
        for i, context in enumerate(added.contexts)
    ]
    updated = delta.updated
    updates = [
        pb.RateUpdate(
            id=updated.ids[i].tobytes(),
            new_success_rate=float(updated.rates[i]),
            additional_samples=int(updated.samples[i]),
        )
        for i in range(len(updated))
    ]
    written = pb.Delta(patterns_added=patterns, patterns_updated=updates, sequence=delta.sequence)
    return pb.PushRequest(device_id=request.device_id, delta=written).SerializeToString()


def _similar(reply: Reply) -> int:
    return len(getattr(pb.PushReply.FromString(reply.body), "global").similar)

"""More than a real process can serve: what it refuses, what is left of its time, and that it gets over it by itself.

`CONSTELLATION_SOAK=1`: minutes instead of seconds.
"""

import asyncio
import itertools
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

import httpx
import numpy as np
import pytest
import uvloop

from bench import served, workload
from bench.generator import Connection, connected, make_request, run_closed_loop
from bench.overload import allow_files
from bench.plan import Plan
from bench.sync_http import CONNECTIONS, fill, first_posts, mix
from constellation import limits
from constellation.model import SyncRequest
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta
from tests.api.process import serving, wait_for

SOAK = bool(os.environ.get("CONSTELLATION_SOAK"))
HERD = 7_500 if SOAK else 1_500
"""TVs, each on a connection of its own: more than there are places for requests."""
OFFERED = 10
"""Times as many as can be served come at first."""
REFUSED_MIN = HERD // 4
HERDS, HERDS_MAX = 3, 6
"""Each with a server of its own, because a machine is not as fast at all times; a generator that others keep from its
core sends no herd, which is not counted."""
IGNORING = 0.01
IMPATIENT_S = 0.25
"""After which one that ignores every hint asks again, refused or served."""
GOODPUT_MIN = 0.9
CAPACITY_S, AFTER_S = 2.0, 0.5
LASTS_MAX = 20
"""Times as long as the server takes on a core of its own, where others have the core."""
AT_ONCE = 1_000
ASKED = b"GET /api/v1/trending HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Own:
    """Time of a server since then, without that in which it wanted to work and others had the processor."""

    def __init__(self, server: served.Server) -> None:
        self._server, self._began_at = server, time.perf_counter()
        self._cpu_s, self._waited_s = server.cpu_s(), server.waited_s()

    def seconds(self) -> float:
        return time.perf_counter() - self._began_at - (self._server.waited_s() - self._waited_s)

    def cpu_s(self) -> float:
        return self._server.cpu_s() - self._cpu_s


class Spent(NamedTuple):
    """Syncs that were answered with 200, and what that took the server."""

    served: int
    own_s: float
    cpu_s: float

    @property
    def per_second(self) -> float:
        return self.served / self.own_s


class Herd:
    """TVs that come back together; each wants one sync, and does as `constellation.client` does until it has it."""

    def __init__(self, connections: list[Connection], requests: Iterator[bytes], per_s: float) -> None:
        self.statuses = Counter[int]()
        self.waiting = self._obeying = len(connections) - int(IGNORING * len(connections))
        """Of those that obey. Once they were served they are away: it is minutes until they come again."""
        self._requests, self._rng = requests, random.Random(1)
        self._nearly_all = asyncio.Event()
        self._comers = [
            asyncio.ensure_future(self._come(connection, self._rng.random() * len(connections) / per_s, number))
            for number, connection in enumerate(connections)
        ]

    async def until_nearly_all_were_served(self, seconds_max: float) -> None:
        """The last ones wait for the time that they were told, and not for the server."""
        async with asyncio.timeout(seconds_max):
            await self._nearly_all.wait()

    async def leave(self) -> None:
        for comer in self._comers:
            comer.cancel()
        outcomes = await asyncio.gather(*self._comers, return_exceptions=True)
        assert [each for each in outcomes if isinstance(each, Exception)] == []

    async def _come(self, connection: Connection, after_s: float, number: int) -> None:
        ignores = number >= self._obeying
        await asyncio.sleep(after_s)
        for refused in itertools.count():
            reply = await connection.exchange(next(self._requests))
            self.statuses[reply.status] += 1
            if ignores:
                await asyncio.sleep(IMPATIENT_S)
            elif reply.status == 503:
                backoff_s = min(60.0, 0.5 * 2 ** min(refused, 10))
                await asyncio.sleep(reply.retry_after_s + self._rng.random() * backoff_s)
            else:
                break
        self.waiting -= 1
        if self.waiting <= self._obeying // 10:
            self._nearly_all.set()


class Measured(NamedTuple):
    before: Spent
    herd: Spent
    statuses: Counter[int]
    after: Spent

    @property
    def is_herd(self) -> bool:
        return self.statuses[503] > REFUSED_MIN


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    """Of servers with a few households, that ten times as many syncs come to as they can serve.

    They want all that there is, as JSON, the costliest reply that the contract has: so one generator sends ten times as
    many in a small part of the time that the server takes to serve them.
    """
    plan = Plan.tiny()
    rng = np.random.default_rng(1)
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    filling = first_posts(households, rng)
    requests = itertools.cycle([post_json(request) for request in mix(households, part, 2_000, 1, rng)])
    allow_files(2 * HERD)
    found: list[Measured] = []
    for _ in range(HERDS_MAX):
        with served.serving(*served.in_memory(plan), f"--device-burst={10**6}") as server:
            found.append(uvloop.run(measure(server, filling, requests)))
        assert set(found[-1].statuses) <= {200, 503}, "some were refused, and nothing else happened"
        herds = [each for each in found if each.is_herd]
        if len(herds) == HERDS:
            return herds
    raise AssertionError("there was room for nearly all of them")


async def measure(server: served.Server, filling: list[bytes], requests: Iterator[bytes]) -> Measured:
    async with connected(server.url, CONNECTIONS) as few, connected(server.url, HERD) as many:
        await fill(few, filling)
        before = await spend(server, few, requests, CAPACITY_S)
        own, herd = Own(server), Herd(many, requests, OFFERED * before.per_second)
        await herd.until_nearly_all_were_served(LASTS_MAX * HERD / before.per_second)
        during = Spent(herd.statuses[200], own.seconds(), own.cpu_s())
        await herd.leave()
        statuses = herd.statuses.copy()
    async with connected(server.url, CONNECTIONS) as few:
        own = Own(server)  # it has the connections of a whole herd to close
        after = await spend(server, few, requests, AFTER_S)
        while after.per_second < GOODPUT_MIN * before.per_second and own.seconds() < LASTS_MAX * AFTER_S:
            after = await spend(server, few, requests, AFTER_S)
    return Measured(before, during, statuses, after)


async def spend(server: served.Server, few: list[Connection], requests: Iterator[bytes], seconds: float) -> Spent:
    """As many as it can, until the server had that long to itself."""
    own, count = Own(server), 0
    ends_at = time.perf_counter() + LASTS_MAX * seconds
    while own.seconds() < seconds and time.perf_counter() < ends_at:
        load = await run_closed_loop(few, requests, seconds / 4)
        assert load.errors == 0
        count += len(load.latencies_s)
    return Spent(count, own.seconds(), own.cpu_s())


def post_json(request: SyncRequest) -> bytes:
    body = encode_delta(request.device_id, request.delta, Media.JSON, "f32")
    headers = {"content-type": Media.JSON.value, "accept-encoding": "zstd"}
    return make_request("POST", "/api/v1/sync?similar=100&trending=50", headers, body)


def test_nine_tenths_of_the_capacity_are_used_while_a_herd_of_ten_times_as_many_comes(measured: list[Measured]) -> None:
    assert median(each.herd.per_second / each.before.per_second for each in measured) >= GOODPUT_MIN


def test_as_many_are_served_as_before_without_anybody_doing_anything(measured: list[Measured]) -> None:
    assert median(each.after.per_second / each.before.per_second for each in measured) >= GOODPUT_MIN


def test_what_can_wait_is_refused_beyond_its_places_and_told_when_to_come_again() -> None:
    allow_files(2 * AT_ONCE)
    with serving() as server, ExitStack() as stack:
        asking = [stack.enter_context(socket.create_connection(server.address, timeout=60)) for _ in range(AT_ONCE)]
        opened = f'connections{{shard_id="shard-0"}} {AT_ONCE}.0'
        wait_for(lambda: opened in httpx.get(server.metrics_url).text)
        os.kill(server.child.pid, signal.SIGSTOP)  # so that it finds all of them at once
        try:
            for connection in asking:
                connection.sendall(ASKED)
        finally:
            os.kill(server.child.pid, signal.SIGCONT)
        replies = [_read(connection) for connection in asking]
    statuses = Counter(reply[9:12] for reply in replies)
    assert set(statuses) == {b"200", b"503"} and statuses[b"200"] >= limits.IN_FLIGHT_OTHER_MAX
    assert all(b"\r\nretry-after: " in reply and b'"overloaded"' in reply for reply in replies if reply[9:12] == b"503")


def _read(connection: socket.socket) -> bytes:
    """All that comes until the end."""
    received = b""
    while piece := connection.recv(65_536):
        received += piece
    return received

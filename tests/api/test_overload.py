"""More than a real process can serve: what it refuses, what is left of its time, and that it gets over it by itself.

`CONSTELLATION_SOAK=1`: minutes instead of seconds.
"""

import os
import signal
import socket
from collections import Counter
from contextlib import ExitStack

import httpx
import numpy as np
import pytest
import uvloop

from bench import served, workload
from bench.overload import Measured, allow_files, run
from bench.plan import Plan
from bench.sync_http import first_posts, mix, post
from constellation import limits
from tests.api.process import serving, wait_for

SOAK = bool(os.environ.get("CONSTELLATION_SOAK"))
SECONDS = 120.0 if SOAK else 2.0
USEFUL_MIN = 0.5
"""Share of its CPU time that goes into what is served; the rest goes into refusing, and into connections."""
AT_ONCE = 1_000
ASKED = b"GET /api/v1/trending HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Of a server with a few households that ten times as many syncs come to as it can serve."""
    plan = Plan.tiny()
    rng = np.random.default_rng(1)
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    filling = first_posts(households, rng)
    requests = [post(request) for request in mix(households, part, 2_000, 1, rng)]
    allow_files(2 * AT_ONCE)
    with served.serving(*served.in_memory(plan), f"--device-burst={10**6}") as server:
        return uvloop.run(run(server, filling, requests, AT_ONCE, SECONDS))


def test_most_of_the_time_goes_into_what_is_served(measured: Measured) -> None:
    assert measured.flood.strange == 0
    if not measured.flood.refused:
        pytest.skip(f"the generator offered {measured.flood.offered_per_s:.0f}/s, and all of that was served")
    assert measured.useful > USEFUL_MIN


def test_as_many_are_served_as_before_without_anybody_doing_anything(measured: Measured) -> None:
    assert measured.after.errors == 0
    assert measured.after.per_second > measured.capacity.per_second / 3, "other work on the machine may have the rest"


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

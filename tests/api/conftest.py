"""One shard process for the tests over a socket that leave it as usable as they found it, and a client for it."""

from collections.abc import Iterator

import httpx
import pytest

from tests.api.process import Server, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving("--region", "us-east", "--max-devices", "100000", "--max-patterns", "100000") as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    # HTTPX asks for zstd wherever it can read it; each test says itself what it accepts.
    with httpx.Client(base_url=server.url, timeout=30, headers={"Accept-Encoding": "identity"}) as opened:
        yield opened

"""One shard process for the tests over a socket that leave it as usable as they found it, and a client for it."""

from collections.abc import Iterator

import httpx
import pytest

from tests.api.process import Server, serving
from tests.api.secured import Secured, securely_serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving("--region", "us-east", "--max-devices", "100000", "--max-patterns", "100000") as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    # HTTPX asks for zstd wherever it can read it; each test says itself what it accepts.
    with httpx.Client(base_url=server.url, timeout=30, headers={"Accept-Encoding": "identity"}) as opened:
        yield opened


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with securely_serving(tmp_path_factory.mktemp("tls")) as running:
        yield running

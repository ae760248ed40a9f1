"""A gRPC TV on the shard that the tests of the API share."""

from collections.abc import Iterator

import grpc
import pytest

from tests.api.grpc.tv import Tv
from tests.api.process import Server


@pytest.fixture(scope="session")
def tv(server: Server) -> Iterator[Tv]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield Tv(channel)

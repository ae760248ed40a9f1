"""A shard with TLS, keys and HTTP/3 in a process of its own, for the tests that leave it as they found it."""

import re
import ssl
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.api.process import Server, serving
from tests.api.quic.client import Client, connected
from tests.identity.authority import Authority
from tests.identity.fleet import Fleet, bearer


class Shard(NamedTuple):
    """It, and who signs what."""

    server: Server
    authority: Authority
    fleet: Fleet

    @property
    def address(self) -> tuple[str, int]:
        """Of HTTP/3."""
        found = re.search(r"^http/3 on (\S+):(\d+)$", self.server.output.read_text(), re.M)
        assert found is not None
        return found[1], int(found[2])

    def connected(self) -> AbstractAsyncContextManager[Client]:
        return connected(self.address, self.authority.certificate)

    def over_tcp(self) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        headers = self.admin | {"accept-encoding": "identity"}
        return httpx.Client(verify=context, base_url=self.server.url, headers=headers)

    @property
    def device(self) -> dict[str, str]:
        """Headers of a TV."""
        return {name.lower(): value for name, value in bearer(self.fleet.issue("device")).items()}

    @property
    def admin(self) -> dict[str, str]:
        return {name.lower(): value for name, value in bearer(self.fleet.issue("admin")).items()}


def started(folder: Path, *options: str) -> Iterator[Shard]:
    authority, fleet = Authority(folder, "servers"), Fleet(folder)
    certificate, key = authority.issue("shard")
    files = ("--tls-cert", str(certificate), "--tls-key", str(key), "--quic-port", "0")
    with serving(*files, *fleet.options, *options) as server:
        yield Shard(server, authority, fleet)


@pytest.fixture(scope="package")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shard]:
    yield from started(tmp_path_factory.mktemp("quic"))

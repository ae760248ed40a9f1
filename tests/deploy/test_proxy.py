"""The proxy of the compose file, with its own configuration but for addresses, in front of a real shard."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest

from constellation.api.grpc import sync_pb2 as pb
from tests.api.bodies import body, pattern
from tests.api.grpc.tv import Tv, outcomes, refused, request
from tests.api.process import STOP_S_MAX, Server, serving, wait_for

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy/compose/haproxy.cfg"

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy") is None, reason="haproxy is not here: it is a package of Debian's"
)


class Proxy(NamedTuple):
    """Port in the configuration -> address here."""

    addresses: dict[str, str]

    def url(self, port: str) -> str:
        return f"http://{self.addresses[port]}"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with (
        serving("--max-devices=1000", "--max-patterns=1000") as shard,
        passing_on(shard, tmp_path_factory.mktemp("proxy")) as running,
    ):
        yield running


@contextmanager
def passing_on(shard: Server, folder: Path) -> Iterator[Proxy]:
    text = CONFIGURATION.read_text()
    with ExitStack() as held:
        ports = re.findall(r"^ +bind :(\d+)", text, re.M)
        sockets = {port: held.enter_context(socket.create_server(("127.0.0.1", 0))) for port in ports}
        addresses = {port: f"127.0.0.1:{sockets[port].getsockname()[1]}" for port in ports}
    for port, address in addresses.items():
        text = re.sub(rf"^( +bind) :{port}\b", rf"\1 {address}", text, flags=re.M)
    rest = shard.url.removeprefix("http://")
    # As many files as that takes are not everybody's to open.
    text = re.sub(r"shard-\d:8080", rest, text.replace("maxconn 20000", "maxconn 1000"))
    text = re.sub(r"shard-\d:50051", shard.grpc, text).replace(" port 8080 ", f" port {shard.address[1]} ")
    (folder / "haproxy.cfg").write_text(text)
    child = subprocess.Popen(["haproxy", "-db", "-f", folder / "haproxy.cfg"])
    try:
        wait_for(lambda: child.poll() is not None or is_open(addresses["8080"]))
        yield Proxy(addresses)
    finally:
        child.terminate()
        child.wait(STOP_S_MAX)


def is_open(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as tried:
        return tried.connect_ex((host, int(port))) == 0


@pytest.mark.parametrize("port", ["8080", "8081"])
def test_syncs_pass_and_what_is_inside_stays_inside(proxy: Proxy, port: str) -> None:
    with httpx.Client(base_url=proxy.url(port)) as client:
        assert client.post("/api/v1/sync", json=body(pattern())).status_code == 200
        for path in ("/metrics", "/health/detailed", "/api/v1/sample"):
            assert client.get(path).status_code == 404 and "server" not in client.get(path).headers


@pytest.mark.parametrize("port", ["50051", "50061"])
def test_grpc_passes_with_its_trailers_and_streams(proxy: Proxy, port: str) -> None:
    with grpc.insecure_channel(proxy.addresses[port]) as channel:
        tv = Tv(channel)
        assert isinstance(tv.sync(body(pattern())), dict)
        with pytest.raises(grpc.RpcError) as raised:
            tv.push(pb.PushRequest(device_id=bytes(15), delta=pb.Delta()), timeout=20)
        assert refused(raised.value).path == "device_id"
        one = request(body(pattern()))
        assert outcomes(tv.stream(iter([one, one]), timeout=20)) == ["ok", "ok"]
        reflected: Any = channel.unary_unary("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as raised:
            reflected(b"", timeout=20)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED

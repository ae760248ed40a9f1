"""One process from outside: wrong settings, taken ports, readiness, and the drain."""

import socket
import subprocess
import time
from pathlib import Path
from queue import SimpleQueue

import grpc
import httpx
import msgspec
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from constellation.api.grpc import sync_pb2 as pb
from tests.api import bodies
from tests.api.grpc.tv import Refused, Tv, request
from tests.api.grpc.tv import refused as refused_call
from tests.api.process import command, environment, serving, wait_for
from tests.identity.authority import Authority

SYNC = "/api/v1/sync"


def refused(*options: str, **variables: str) -> str:
    """What a start that must fail says on standard error."""
    ended = subprocess.run(
        command(*options), env=environment(variables), capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 2 and ended.stdout == ""
    return ended.stderr


def test_wrong_option_is_named_with_what_came_and_what_is_allowed() -> None:
    said = refused("--max-patterns", "many")
    assert "--max-patterns" in said and "'many'" in said and "a whole number from 1 to" in said


def test_wrong_variable_is_named() -> None:
    assert "CONSTELLATION_QUALITY_THRESHOLD" in refused(CONSTELLATION_QUALITY_THRESHOLD="2")


def test_unknown_key_of_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "shard.toml"
    file.write_text("max_pattern = 5\n")
    said = refused("--config", str(file))
    assert "'max_pattern'" in said and "max_patterns" in said


def test_unknown_option_exits_2() -> None:
    assert "--maximum" in refused("--maximum", "5")


def test_limits_beyond_the_memory_of_the_machine_are_refused() -> None:
    said = refused("--max-patterns", str(1 << 27), "--max-devices", str(1 << 28))
    assert "--max-patterns" in said and "GiB" in said


@pytest.mark.parametrize("option", ["--metrics-port", "--grpc-port"])
def test_taken_port_is_named(option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"{option}: got {port}" in refused(option, str(port))


def test_taken_port_of_http3_is_named(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path, "servers").issue("shard")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        said = refused("--quic-port", port, "--tls-cert", str(certificate), "--tls-key", str(key))
    assert f"--quic-port: got {port}" in said and "free UDP port" in said


def test_drain_finishes_what_is_in_flight_and_takes_nothing_new() -> None:
    content = msgspec.json.encode(bodies.body(bodies.pattern()))
    head = (
        f"POST {SYNC} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with serving() as server, socket.create_connection(server.address, timeout=20) as slow:
        with httpx.Client(base_url=server.url) as client:
            assert client.get("/health/ready").status_code == 200
            # The head is answered for: the process has it before the signal does.
            slow.sendall(head.encode() + content[:100])
            wait_for(lambda: 'in_flight_requests{shard_id="shard-0"} 2.0' in client.get("/metrics").text)
            server.terminate()
            wait_for(lambda: client.get("/health/ready").status_code == 503)
            assert client.get("/health/ready").json()["code"] == "draining"
            refusal = client.post(SYNC, json=bodies.body())
            assert (refusal.status_code, refusal.json()["code"]) == (503, "draining")
            assert refusal.headers["connection"] == "close" and int(refusal.headers["retry-after"]) > 0
            assert client.get("/health/live").status_code == 200
            with grpc.insecure_channel(server.grpc) as channel:
                health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
                told = Tv(channel).sync(bodies.body())
                assert isinstance(told, Refused)
                assert (told.status, told.code) == (grpc.StatusCode.UNAVAILABLE, "draining")
            slow.sendall(content[100:])
            assert slow.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert server.wait() == 0
        for address in (server.address, server.grpc.rsplit(":", 1)):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address[0], int(address[1])))


def test_idle_server_stops_soon_though_connections_are_kept_alive() -> None:
    with (
        serving() as server,
        httpx.Client(base_url=server.url) as client,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        assert client.get("/health").status_code == 200
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        sent: SimpleQueue[pb.PushRequest] = SimpleQueue()
        stream = Tv(channel).stream(iter(sent.get, None))
        sent.put(request(bodies.body()))
        assert next(stream).HasField("reply")
        began_at = time.monotonic()
        server.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as ended:
            next(stream)
        assert refused_call(ended.value).code == "draining"
        assert server.wait() == 0
        assert time.monotonic() - began_at < 10

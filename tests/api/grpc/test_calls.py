"""Around every message: ids, sizes, streams, accounts; the standard services beside ours. Over a socket."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from constellation.api.grpc import sync_pb2 as pb
from constellation.api.grpc.sync import SERVICE
from tests.api import bodies
from tests.api.grpc.tv import Refused, Tv, messages, outcomes, refused, request
from tests.api.process import Server
from tests.api.test_metrics import scrape

ROOT = Path(__file__).resolve().parents[3]
MESSAGE_BYTES_MAX = 1 << 20
DEVICE = bodies.new_id()


def refusal_of(call: Callable[[], object]) -> Refused:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return refused(raised.value)


@pytest.mark.parametrize("sent", ["7f3a-1", "x" * 64])
def test_sane_request_id_comes_back_with_replies_and_refusals(tv: Tv, sent: str) -> None:
    _, call = tv.push.with_call(request(bodies.body()), metadata=(("x-request-id", sent),))
    assert ("x-request-id", sent) in call.trailing_metadata()
    refusal = refusal_of(lambda: tv.send(b"\xff", metadata=(("x-request-id", sent),)))
    assert refusal.trailers["x-request-id"] == sent


def test_every_call_has_an_id_of_its_own(tv: Tv) -> None:
    refusals = [refusal_of(lambda: tv.send(b"\xff", metadata=(("x-request-id", "x" * 65),))) for _ in range(2)]
    ids = {refusal.trailers["x-request-id"] for refusal in refusals}
    assert len(ids) == 2 and "x" * 65 not in ids


def test_bytes_that_are_no_message_are_malformed(tv: Tv) -> None:
    refusal = refusal_of(lambda: tv.send(b"\xff" * 9))
    assert (refusal.status, refusal.code) == (grpc.StatusCode.INVALID_ARGUMENT, "malformed")


def test_call_without_a_message_is_malformed(tv: Tv) -> None:
    refusal = refusal_of(lambda: tv.channel.stream_unary(f"/{SERVICE}/PushPatterns")(iter(())))
    assert (refusal.status, refusal.code) == (grpc.StatusCode.INVALID_ARGUMENT, "malformed")


@pytest.mark.parametrize(("size", "code"), [(MESSAGE_BYTES_MAX + 1, "too_large"), (3 * MESSAGE_BYTES_MAX, None)])
def test_message_over_the_limit_is_refused(tv: Tv, size: int, code: str | None) -> None:
    refusal = refusal_of(lambda: tv.send(bytes(size)))
    assert (refusal.status, refusal.code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, code)


def test_compressed_message_is_read(tv: Tv) -> None:
    assert tv.push(request(bodies.body(bodies.pattern())), compression=grpc.Compression.Gzip).accepted.added == 1


def test_message_that_swells_is_refused_before_it_takes_memory(server: Server, tv: Tv) -> None:
    process = psutil.Process(server.child.pid)
    before = process.memory_info().rss
    refusal = refusal_of(lambda: tv.send(bytes(40 << 20), compression=grpc.Compression.Gzip))
    assert refusal.status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert process.memory_info().rss - before < 20 << 20


def test_stream_answers_in_order_and_goes_on_after_a_refusal(tv: Tv) -> None:
    device = bodies.new_id()
    sent = messages(
        bodies.body(bodies.pattern(), device_id=device, sequence=1),
        bodies.body(bodies.pattern(sample_count=0), device_id=device, sequence=2),
        bodies.body(device_id=bodies.new_id()),
        bodies.body(bodies.pattern(), device_id=device, sequence=1),
        bodies.body(bodies.pattern(), device_id=device, sequence=2),
    )
    replies = list(tv.stream(sent, timeout=20))
    assert outcomes(replies) == ["ok", "invalid_pattern", "invalid_parameter", "sequence_conflict", "ok"]
    assert replies[1].problem.path == "delta.patterns_added[0].sample_count"
    assert replies[1].problem.status == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert replies[2].problem.path == "device_id"
    assert replies[3].problem.last_sequence == 1
    assert replies[4].reply.accepted.added == 1 and replies[4].reply.last_sequence == 2


def test_refused_bytes_do_not_end_a_stream(tv: Tv) -> None:
    good = request(bodies.body(device_id=DEVICE)).SerializeToString()
    stream: Any = tv.channel.stream_stream(f"/{SERVICE}/StreamSync", None, pb.StreamReply.FromString)
    replies = list(stream(iter([b"\xff", bytes(MESSAGE_BYTES_MAX + 1), good]), timeout=20))
    assert outcomes(replies) == ["malformed", "too_large", "ok"]


def test_each_message_is_answered_before_the_next_is_sent(tv: Tv) -> None:
    sent: SimpleQueue[pb.PushRequest | None] = SimpleQueue()
    stream = tv.stream(iter(sent.get, None), timeout=20)
    for sequence in (1, 2, 3):
        sent.put(request(bodies.body(device_id=DEVICE, sequence=sequence)))
        assert next(stream).reply.last_sequence == sequence
    sent.put(None)
    assert list(stream) == [] and stream.code() is grpc.StatusCode.OK


def test_syncs_count_in_the_metrics_by_their_status(server: Server, tv: Tv) -> None:
    def counted(status: str) -> float:
        labels = frozenset({"shard_id": "shard-0", "status": status}.items())
        return scrape(server.metrics_url).get(("constellation_sync_requests_total", labels), 0.0)

    before = counted("200"), counted("422")
    tv.push(request(bodies.body()))
    list(tv.stream(messages(bodies.body(device_id=DEVICE), bodies.body(bodies.pattern(sample_count=0)))))
    assert (counted("200"), counted("422")) == (before[0] + 2, before[1] + 1)


def test_health_serves(tv: Tv) -> None:
    stub = health_pb2_grpc.HealthStub(tv.channel)
    for name in ("", SERVICE):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
    refusal = refusal_of(lambda: stub.Check(health_pb2.HealthCheckRequest(service="other")))
    assert refusal.status is grpc.StatusCode.NOT_FOUND


def test_reflection_tells_the_contract(tv: Tv) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(tv.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, told = stub.ServerReflectionInfo(iter(asked), timeout=20)
    names = {service.name for service in listed.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    assert pb.DESCRIPTOR.serialized_pb in told.file_descriptor_response.file_descriptor_proto


def test_info_tells_the_port(server: Server, client: httpx.Client) -> None:
    assert client.get("/api/v1/info").json()["grpc_port"] == int(server.grpc.rsplit(":", 1)[1])


def test_generated_code_is_that_of_the_contract(tmp_path: Path) -> None:
    folder = "constellation/api/grpc"
    options = ("--proto_path=.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", f"{folder}/sync.proto")
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options], cwd=ROOT, check=True, timeout=60)
    for name in ("sync_pb2.py", "sync_pb2.pyi"):
        assert (tmp_path / folder / name).read_text() == (ROOT / folder / name).read_text(), "run make protobuf"


def test_device_of_a_stream_is_known_to_rest(client: httpx.Client, tv: Tv) -> None:
    body = bodies.body(bodies.pattern(), device_id=DEVICE, sequence=9)
    assert outcomes(tv.stream(messages(body))) == ["ok"]
    reply = client.post("/api/v1/sync", json=body | {"device_id": str(UUID(DEVICE))})
    assert reply.json()["accepted"]["duplicate"]

"""Traces of a real shard at a real collector: what is traced, how spans nest, and that nobody's id is in them."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest

from constellation.api.otlp import Exporter
from constellation.api.tracing import Traced, Tracer, Untraced, read_traceparent
from tests.api.bodies import body, pattern
from tests.api.collector import Collector, attributes, collecting
from tests.api.process import Server, serving, wait_for

DEVICE = "550e8400-e29b-41d4-a716-446655440000"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
STEPS = ["read", "decode", "apply", "similarity", "encode", "journal"]


class Watched(NamedTuple):
    """A shard that sends its traces to a collector."""

    server: Server
    client: httpx.Client
    collector: Collector


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("traced")
    with collecting() as collector:
        options = [f"--otlp-endpoint={collector.url}", "--trace-sample=0", "--access-log", "--storage=postgres"]
        with (
            serving(*options, f"--data-dir={folder}", "--max-devices=1000", "--max-patterns=1000") as server,
            httpx.Client(base_url=server.url, timeout=30) as client,
        ):
            wait_for(lambda: client.get("/health/ready").status_code == 200, 60)
            yield Watched(server, client, collector)


def traceparent(sampled: bool, trace_id: str = TRACE_ID) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{PARENT_ID}-{'01' if sampled else '00'}"}


def test_sync_is_one_server_span_with_its_steps_below(watched: Watched) -> None:
    reply = watched.client.post("/api/v1/sync", json=body(pattern(), device_id=DEVICE), headers=traceparent(True))
    assert reply.status_code == 200
    wait_for(lambda: bool(watched.collector.named("POST /api/v1/sync")))
    (whole,) = watched.collector.named("POST /api/v1/sync")
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    told = attributes(whole)
    assert told["http.response.status_code"] == 200
    assert told["constellation.request_id"] == reply.headers["x-request-id"]
    steps = watched.collector.steps_of(whole)
    assert [step.name for step in steps] == STEPS
    assert all(step.trace_id == whole.trace_id for step in steps)
    times = [whole.start_time_unix_nano, *(step.end_time_unix_nano for step in steps), whole.end_time_unix_nano]
    assert times == sorted(times)
    assert [step.start_time_unix_nano for step in steps] == times[: len(steps)]


def test_flush_is_a_trace_of_its_own(watched: Watched) -> None:
    sent = body(pattern(), device_id=DEVICE)
    assert watched.client.post("/api/v1/sync", json=sent).status_code == 200
    flushes: list[Any] = []

    def flushed() -> bool:
        flushes[:] = watched.collector.named("flush")
        return any(attributes(flush)["flush.patterns"] for flush in flushes)

    wait_for(flushed)
    assert not any(flush.parent_span_id for flush in flushes)
    assert len({flush.trace_id for flush in flushes}) == len(flushes)


def test_caller_that_does_not_sample_is_not_traced_and_a_wrong_context_is_none(watched: Watched) -> None:
    other = "1" * 32
    for headers in (traceparent(False, other), {"traceparent": f"00-{other}-{PARENT_ID}"}):
        assert watched.client.get("/api/v1/sync/version", headers=headers).status_code == 200
    last = watched.client.get("/health/ready", headers=traceparent(True))
    assert last.status_code == 200
    wait_for(lambda: bool(watched.collector.named("GET /health/ready")))
    assert not watched.collector.named("GET /api/v1/sync/version")


def test_no_id_of_a_device_leaves_in_a_span_or_a_line(watched: Watched) -> None:
    device = UUID("6fa459ea-ee8a-3ca4-894e-db77e160355e")
    headers = traceparent(True) | {"x-request-id": str(device), "x-device-id": str(device)}
    sent = body(pattern(), device_id=str(device))
    assert watched.client.post("/api/v1/sync", json=sent, headers=headers).status_code == 200
    assert watched.client.delete(f"/api/v1/devices/{device}", headers=traceparent(True)).status_code == 204
    wait_for(lambda: bool(watched.collector.named("DELETE /api/v1/devices/{device_id}")))
    wait_for(lambda: "DELETE" in watched.server.output.read_text())
    lines = [json.loads(line) for line in watched.server.output.read_text().splitlines() if line.startswith("{")]
    of_device = [line for line in lines if line.get("device") and line.get("trace_id") == TRACE_ID]
    told = [attributes(span).get("constellation.device") for span in watched.collector.named("POST /api/v1/sync")]
    assert {line["device"] for line in of_device} >= {told[-1]}
    for spelled in (str(device).encode(), device.hex.encode(), device.bytes):
        assert all(spelled not in sent for sent in watched.collector.bodies)
        assert spelled not in watched.server.output.read_bytes()


def test_spans_are_counted_and_those_queued_at_the_end_arrive(watched: Watched) -> None:
    metrics = watched.client.get("/metrics").text
    assert "constellation_trace_spans_dropped_total 0.0" in metrics
    trace_id = "2" * 32
    assert watched.client.get("/health", headers=traceparent(True, trace_id)).status_code == 200
    watched.server.terminate()
    assert watched.server.wait() == 0
    assert [span for span in watched.collector.named("GET /health") if span.trace_id.hex() == trace_id]
    (snapshot,) = watched.collector.named("snapshot")
    assert not snapshot.HasField("status") or not snapshot.status.code
    assert watched.collector.resource["service.instance.id"] == "shard-0"


@pytest.mark.parametrize(
    "value",
    [
        b"", b"00", f"ff-{TRACE_ID}-{PARENT_ID}-01".encode(), f"00-{'0' * 32}-{PARENT_ID}-01".encode(),
        f"00-{TRACE_ID}-{'0' * 16}-01".encode(), f"00-{TRACE_ID.upper()}-{PARENT_ID}-01".encode(),
        f"00-{TRACE_ID}-{PARENT_ID}-01-more".encode(), b"\xff" * 55,
    ],
)  # fmt: skip
def test_wrong_traceparent_is_none(value: bytes) -> None:
    assert read_traceparent(value) is None


def test_later_version_of_traceparent_is_read() -> None:
    parent = read_traceparent(f"01-{TRACE_ID}-{PARENT_ID}-03-more".encode())
    assert parent is not None and parent.sampled and parent.trace_id.hex() == TRACE_ID


def test_chance_decides_where_the_caller_says_nothing() -> None:
    exporter = Exporter("http://127.0.0.1:9", {})
    begun = [Tracer(exporter, sample).begin(None) for sample in (0.0, 1.0)]
    assert [isinstance(trace, Traced) for trace in begun] == [False, True]
    tracer = Tracer(exporter, 0.25)
    share = sum(isinstance(tracer.begin(None), Traced) for _ in range(4_000)) / 4_000
    assert 0.2 < share < 0.3


def test_tracing_that_is_off_does_nothing() -> None:
    tracer = Tracer()
    trace: Any = tracer.begin(f"00-{TRACE_ID}-{PARENT_ID}-01".encode())
    assert type(trace) is Untraced
    tracer.end(trace, "x", {})

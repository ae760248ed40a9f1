"""What do traces cost a sync? The whole application without sockets, with tracing off, at 1%, and of every sync.

The same syncs, which bring nothing new and so are the cheapest, go in turns to services that differ in nothing but
their tracer and share one shard. Time is of the CPU, of all threads: that which encodes and sends the spans is in it;
the collector is another process.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from litestar.types import ASGIApp

from bench import workload
from bench.loaded import load_shard
from bench.plan import Answers, Plan, tracked
from bench.report import Row, Target, Yardstick
from constellation.api.app import create_app
from constellation.api.otlp import Exporter
from constellation.api.service import Service
from constellation.api.tracing import Tracer
from constellation.codebook import default_codebook
from constellation.wire.body import compress
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta

SAMPLE = 0.01
COST_MAX = 1.05
SYNCS_PER_TURN = 200
"""Two of them are traced at 1%; what a second brings to a shard, and spans are sent once a second."""
STEPS = 6
COLLECTOR = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Arm(NamedTuple):
    """One tracer: its application, and what a turn of syncs took, in microseconds a sync."""

    app: ASGIApp
    exporter: Exporter | None
    took_us: list[float]

    @property
    def p50(self) -> float:
        return float(np.median(self.took_us))

    def told(self) -> str:
        assert self.exporter is not None
        return f"{self.exporter.sent:,} spans sent, {self.exporter.dropped} dropped"


def measure(plan: Plan) -> Answers:
    loaded = load_shard(plan)
    rng = plan.rng("tracing")
    ids = loaded.households.device_ids[rng.integers(len(loaded.households), size=8 * plan.queries)]
    bodies = [_body(device_id.tobytes()) for device_id in ids]

    def arm(exporter: Exporter | None, sample: float) -> Arm:
        settings, tracer = workload.shard_settings(plan.patterns), Tracer(exporter, sample)
        service = Service(settings, loaded.shard, default_codebook(), lambda: loaded.now, tracer=tracer)
        service.open()
        return Arm(create_app(service), exporter, [])

    with _collector() as url:
        exporters = [Exporter(url, {"service.name": "bench"}) for _ in range(2)]
        off, some, every = arm(None, 0.0), arm(exporters[0], SAMPLE), arm(exporters[1], 1.0)
        asyncio.run(_in_turns((off, some, every), bodies))
    yardstick = Yardstick("the same syncs with tracing off", off.p50)
    yield Row(
        name=f"a sync, {SAMPLE:.0%} of them traced: CPU",
        value=off.p50 * _ratio(some, off),
        unit="us",
        quality=some.told(),
        yardstick=yardstick,
        target=Target("<=", COST_MAX, of="ratio"),
    )
    yield Row(
        name="a sync that is traced: CPU", value=off.p50 * _ratio(every, off), unit="us", quality=every.told(),
        yardstick=yardstick,
    )  # fmt: skip
    yield Row(
        name="what a sync pays while tracing is off: CPU",
        value=_unused_us(),
        unit="us",
        quality=f"begun, {STEPS} steps, ended",
        yardstick=yardstick,
    )


async def _in_turns(arms: Sequence[Arm], bodies: Sequence[bytes]) -> None:
    starts = range(0, len(bodies), SYNCS_PER_TURN)
    for turn, start in enumerate(tracked(starts, "syncs, traced and not", len(starts))):
        part = bodies[start : start + SYNCS_PER_TURN]
        for i in range(len(arms)):  # who comes first finds other caches
            arm = arms[(turn + i) % len(arms)]
            began_s = time.process_time()
            for body in part:
                await _post(arm.app, body)
            if arm.exporter is not None:
                arm.exporter.send_queued()  # its thread would do it in a turn of somebody else
            arm.took_us.append((time.process_time() - began_s) * 1e6 / len(part))


def _ratio(arm: Arm, off: Arm) -> float:
    """Turn by turn, so that what slows the machine for a while slows both."""
    return float(np.median(np.array(arm.took_us) / np.array(off.took_us)))


def _unused_us(repeats: int = 20_000) -> float:
    tracer = Tracer()
    began_s = time.process_time()
    for _ in range(repeats):
        trace = tracer.begin(None)
        for _ in range(STEPS):
            trace.did("step")
        if trace.trace_id:
            tracer.end(trace, "", {})
    return (time.process_time() - began_s) * 1e6 / repeats


async def _post(app: ASGIApp, body: bytes) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http", "method": "POST", "path": "/api/v1/sync", "raw_path": b"/api/v1/sync",
        "query_string": b"embedding=i8", "headers": _HEADERS, "state": {}, "root_path": "", "http_version": "1.1",
        "scheme": "http", "server": ("bench", 80), "client": ("bench", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent


_HEADERS = [
    (b"content-type", Media.MSGPACK.value.encode()),
    (b"content-encoding", b"zstd"),
    (b"accept-encoding", b"zstd"),
]


def _body(device_id: bytes) -> bytes:
    request = workload.make_request(device_id, workload.no_patterns(), workload.no_updates())
    return compress(encode_delta(device_id, request.delta, Media.MSGPACK, "i8"))


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    """A process that takes what it is sent."""
    child = subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()

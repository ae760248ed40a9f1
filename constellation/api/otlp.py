"""Spans to a collector: OTLP over HTTP with protobuf bodies, off the loop.

The loop appends what is recorded, a thread encodes and sends it. The queue is bounded: where the collector is slow or
away, spans are dropped and counted, and no request waits. A batch is tried again as the specification asks
(429, 502, 503, 504, no connection), a few times.
"""

import logging
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from constellation import __version__, limits
from constellation.spans import Span

PATH = "/v1/traces"
PASSING = frozenset({429, 502, 503, 504})

_log = logging.getLogger(__name__)


class Recorded(NamedTuple):
    """A span with its place in a trace; without a parent it is the first."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    span: Span
    server: bool = False


class Exporter:
    """`put` is for one thread and never waits; `start` and `stop` own the one that sends."""

    def __init__(
        self, endpoint: str, resource: Mapping[str, str], queue_len_max: int = limits.SPAN_QUEUE_LEN_MAX
    ) -> None:
        self.sent = 0
        self._refused = 0
        self._overflowed = 0
        self._url = endpoint.rstrip("/") + PATH
        self._resource = Resource(attributes=[_attribute(name, value) for name, value in resource.items()])
        self._queue: deque[Recorded] = deque()
        self._queue_len_max = queue_len_max
        self._stopping = threading.Event()
        self._stop_by = float("inf")
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)

    @property
    def dropped(self) -> int:
        """Spans lost to a full queue, or to a collector that was away or refused them."""
        return self._overflowed + self._refused  # each is counted by one thread

    def put(self, spans: Sequence[Recorded]) -> None:
        """A trace goes whole or not at all."""
        if len(self._queue) + len(spans) > self._queue_len_max:
            self._overflowed += len(spans)
        else:
            self._queue.extend(spans)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sends what is queued, for `TRACES_SENT_LAST_S_MAX` at most, and ends the thread."""
        self._stop_by = time.monotonic() + limits.TRACES_SENT_LAST_S_MAX
        self._stopping.set()
        self._thread.join(limits.TRACES_SENT_LAST_S_MAX + 1)

    def _run(self) -> None:
        while not self._stopping.wait(limits.TRACES_SENT_EVERY_S):
            self.send_queued()
        self.send_queued()

    def send_queued(self) -> None:
        """For the thread alone, or for whoever did not start it."""
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), limits.SPANS_PER_REQUEST_MAX))]
            why = self._send(self._encoded(batch))
            if why:
                self._refused += len(batch)
            else:
                self.sent += len(batch)
            self._say(why)

    def _send(self, body: bytes) -> str:
        """Why it did not arrive, '' if it did."""
        why = "there was no time left"
        for attempt in range(limits.TRACE_ATTEMPTS_MAX):
            left_s = self._stop_by - time.monotonic()
            if left_s <= 0 or (attempt and self._stopping.wait(2.0 ** (attempt - 1))):
                break
            try:
                self._post(body, min(left_s, limits.TRACE_REQUEST_S_MAX))
                return ""
            except urllib.error.HTTPError as error:
                why = f"{self._url} answered {error.code}"
                error.close()
                if error.code not in PASSING:
                    break
            except (OSError, ValueError) as error:
                why = f"{self._url}: {error}"
        return why

    def _post(self, body: bytes, timeout_s: float) -> None:
        headers = {"Content-Type": "application/x-protobuf", "User-Agent": f"constellation/{__version__}"}
        with urllib.request.urlopen(urllib.request.Request(self._url, body, headers), timeout=timeout_s) as reply:
            reply.read()

    def _encoded(self, batch: Sequence[Recorded]) -> bytes:
        scope = InstrumentationScope(name="constellation", version=__version__)
        spans = trace_pb2.ScopeSpans(scope=scope, spans=[_message(recorded) for recorded in batch])
        whole = trace_pb2.ResourceSpans(resource=self._resource, scope_spans=[spans])
        body: bytes = ExportTraceServiceRequest(resource_spans=[whole]).SerializeToString()
        return body

    def _say(self, why: str) -> None:
        """Once when it begins to fail, and once when it is over."""
        if why and not self._failing:
            _log.warning("traces cannot be sent", extra={"why": why})
        elif not why and self._failing:
            _log.info("traces are sent again")
        self._failing = bool(why)


def _message(recorded: Recorded) -> trace_pb2.Span:
    span = recorded.span
    failed = trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR, message=span.failed) if span.failed else None
    return trace_pb2.Span(
        trace_id=recorded.trace_id,
        span_id=recorded.span_id,
        parent_span_id=recorded.parent_id,
        name=span.name,
        kind=trace_pb2.Span.SPAN_KIND_SERVER if recorded.server else trace_pb2.Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=span.began_ns,
        end_time_unix_nano=span.ended_ns,
        attributes=[_attribute(name, value) for name, value in span.attributes.items()],
        status=failed,
    )


def _attribute(name: str, value: str | int | float | bool) -> KeyValue:
    match value:
        case bool():
            return KeyValue(key=name, value=AnyValue(bool_value=value))
        case int():
            return KeyValue(key=name, value=AnyValue(int_value=value))
        case float():
            return KeyValue(key=name, value=AnyValue(double_value=value))
    return KeyValue(key=name, value=AnyValue(string_value=value))

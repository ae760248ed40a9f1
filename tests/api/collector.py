"""An OTLP collector on loopback that keeps what it is sent: a real HTTP server, in a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """Answers with `status`; what came is in `bodies`, and in `spans` if it was taken."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[bytes] = []
        self.spans: list[Any] = []
        self.resource: dict[str, str] = {}
        self.came = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def steps_of(self, server_span: Any) -> list[Any]:
        return [span for span in self.spans if span.parent_span_id == server_span.span_id]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, path: str, content_type: str, body: bytes) -> int:
        assert (path, content_type) == ("/v1/traces", "application/x-protobuf")
        self.bodies.append(body)
        if self.status == 200:
            for whole in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource |= {each.key: each.value.string_value for each in whole.resource.attributes}
                self.spans += [span for scope in whole.scope_spans for span in scope.spans]
        self.came.set()
        return self.status

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = collector.take(self.path, self.headers["Content-Type"], body)
                answer: bytes = ExportTraceServiceResponse().SerializeToString()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        return Handler


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}

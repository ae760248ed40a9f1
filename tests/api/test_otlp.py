"""The exporter's bounds: what a collector does not take is dropped and counted, and nobody waits for it."""

import socket
import time

import pytest

from constellation import limits
from constellation.api.otlp import Exporter, Recorded
from constellation.spans import Span
from tests.api.collector import Collector, attributes, collecting

RESOURCE = {"service.name": "test"}


def recorded(name: str = "work", **told: str | int | float | bool) -> Recorded:
    now_ns = time.time_ns()
    return Recorded(b"t" * 16, b"s" * 8, b"", Span(name, now_ns, now_ns + 1_000, told))


def test_stopping_sends_what_is_queued_with_every_type_of_attribute() -> None:
    with collecting() as collector:
        exporter = Exporter(collector.url + "/", RESOURCE)
        exporter.start()
        exporter.put([recorded(text="x", whole=3, part=0.5, holds=True)])
        exporter.stop()
    (span,) = collector.spans
    assert attributes(span) == {"text": "x", "whole": 3, "part": 0.5, "holds": True}
    assert (span.trace_id, span.span_id, span.parent_span_id) == (b"t" * 16, b"s" * 8, b"")
    assert collector.resource == RESOURCE
    assert (exporter.sent, exporter.dropped) == (1, 0)


def test_full_queue_drops_whole_traces_and_counts_spans() -> None:
    with collecting() as collector:
        exporter = Exporter(collector.url, RESOURCE, queue_len_max=3)
        exporter.put([recorded(), recorded()])
        exporter.put([recorded(), recorded()])
        exporter.put([recorded()])
        exporter.start()
        exporter.stop()
    assert (len(collector.spans), exporter.sent, exporter.dropped) == (3, 3, 2)


def test_refused_batch_is_dropped_at_once_and_counted() -> None:
    with collecting() as collector:
        collector.status = 400
        exporter = Exporter(collector.url, RESOURCE)
        exporter.put([recorded()])
        exporter.start()
        exporter.stop()
        assert len(collector.bodies) == 1
    assert (exporter.sent, exporter.dropped) == (0, 1)


def test_busy_collector_is_asked_again_with_the_same_batch() -> None:
    class BusyOnce(Collector):
        def take(self, path: str, content_type: str, body: bytes) -> int:
            self.status = 200 if self.bodies else 503
            return super().take(path, content_type, body)

    collector = BusyOnce()
    collector.start()
    try:
        exporter = Exporter(collector.url, RESOURCE)
        exporter.put([recorded()])
        exporter.start()
        while not collector.spans:
            assert collector.came.wait(10)
            collector.came.clear()
        exporter.stop()
    finally:
        collector.stop()
    assert len(collector.bodies) == 2 and collector.bodies[0] == collector.bodies[1]
    assert (exporter.sent, exporter.dropped) == (1, 0)


def test_stop_ends_within_its_bound_though_the_collector_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRACES_SENT_LAST_S_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        exporter = Exporter(f"http://127.0.0.1:{silent.getsockname()[1]}", RESOURCE)
        exporter.put([recorded()])
        exporter.start()
        exporter.stop()
        assert not exporter._thread.is_alive()
    assert (exporter.sent, exporter.dropped) == (0, 1)

"""What Prometheus reads, in a registry of this process's own.

Counts that requests make are counters with their labels bound in advance, which cost 3 us a sync; what the
shard knows is read from it at the time of a scrape. The names are fixed (docs/architecture.md). `Counter` appends
`_total` to its name; `constellation_patterns_stored_total` is a gauge all the same, because it counts what is stored
now and falls when a household is forgotten.
"""

import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from constellation.storage.write_behind import Circuit

if TYPE_CHECKING:
    from constellation.api.service import Service
    from constellation.api.tracing import Tracer
    from constellation.federation.database import RoundRow
    from constellation.federation.worker import Worker

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

_LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ROUND_BUCKETS_S = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

# A second series per counter with its creation time says nothing that a scrape does not know.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


CUT_REASONS = ("refused", "evicted", "slow_request", "slow_reply", "excessive")
"""Why the shard ends a connection."""


class Metrics:
    """Written by the edge on every request; read by `GET /metrics` of both ports."""

    def __init__(self, service: "Service") -> None:
        self.registry = CollectorRegistry()
        self._shard_id = service.settings.shard_id
        self._requests = Counter(
            "constellation_sync_requests", "Syncs answered, by HTTP status", ["shard_id", "status"],
            registry=self.registry,
        )  # fmt: skip
        self._latency = Histogram(
            "constellation_sync_latency_seconds", "Time from a sync's headers to its whole reply", ["shard_id"],
            buckets=_LATENCY_BUCKETS_S, registry=self.registry,
        ).labels(self._shard_id)  # fmt: skip
        self._problems = Counter(
            "constellation_problems", "Requests refused, by problem code", ["shard_id", "code"], registry=self.registry
        )
        self._cut = Counter(
            "constellation_connections_cut", "Connections ended by the shard, by reason", ["shard_id", "why"],
            registry=self.registry,
        )  # fmt: skip
        for why in CUT_REASONS:
            self._cut.labels(self._shard_id, why)
        self._bytes_in = self._counter("constellation_received_bytes", "Bytes of bodies received")
        self._bytes_out = self._counter("constellation_sent_bytes", "Bytes of bodies sent")
        self._by_status = {200: self._requests.labels(self._shard_id, "200")}
        self._by_code: dict[str, Counter] = {}
        self.federation = FederationMetrics(self.registry)
        self.registry.register(_StateCollector(service))
        self.registry.register(_SpanCollector(service.tracer))

    def sync(self, status: int, duration_s: float) -> None:
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self._requests.labels(self._shard_id, str(status))
        counter.inc()
        self._latency.observe(duration_s)

    def transferred(self, bytes_in: int, bytes_out: int) -> None:
        self._bytes_in.inc(bytes_in)
        self._bytes_out.inc(bytes_out)

    def problem(self, code: str) -> None:
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self._problems.labels(self._shard_id, code)
        counter.inc()

    def cut(self, why: str) -> None:
        """One more connection was."""
        self._cut.labels(self._shard_id, why).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, ["shard_id"], registry=self.registry).labels(self._shard_id)


class FederationMetrics:
    """Fed by federation rounds; zero until there is one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rounds = Counter("constellation_federation_rounds", "Federation rounds published", registry=registry)
        self.patterns_aggregated = Gauge(
            "constellation_federation_patterns_aggregated", "Patterns that the last round averaged", registry=registry
        )
        self.trends_detected = Gauge(
            "constellation_federation_trends_detected", "Trends that the last round published", registry=registry
        )
        self.duration = Histogram(
            "constellation_federation_duration_seconds", "Time of a federation round", buckets=_ROUND_BUCKETS_S,
            registry=registry,
        )  # fmt: skip

    def round(self, patterns: int, trends: int) -> None:
        """One more was published, or taken over."""
        self.rounds.inc()
        self.patterns_aggregated.set(patterns)
        self.trends_detected.set(trends)


class WorkerMetrics:
    """Of a worker: what it has ended, and how it stands at the time of a scrape."""

    def __init__(self, worker: "Worker") -> None:
        self.registry = CollectorRegistry()
        self.federation = FederationMetrics(self.registry)
        self._abandoned = Counter(
            "constellation_federation_abandoned", "Federation rounds that published nothing", registry=self.registry
        )
        shards = Gauge(
            "constellation_federation_shards", "Shards that the last round asked, and those in its result", ["what"],
            registry=self.registry,
        )  # fmt: skip
        self._expected, self._reported = shards.labels("expected"), shards.labels("reported")
        self._epsilon = self._gauge(
            "constellation_federation_epsilon", "Privacy that all rounds of the window have cost; 0 without noise"
        )
        self._gauge("constellation_federation_leading", "1 while this worker leads").set_function(
            lambda: float(worker.leading)
        )
        self._gauge("constellation_database_up", "1 while the database can be used").set_function(
            lambda: float(not worker.unavailable)
        )

    def ended(self, row: "RoundRow") -> None:
        self._expected.set(row.expected)
        self._reported.set(row.reported)
        if row.state != "published":
            self._abandoned.inc()
            return
        self.federation.round(row.patterns, row.trends)
        self._epsilon.set(row.spent or 0.0)
        self.federation.duration.observe(row.took_s)

    def trace(self, tracer: "Tracer") -> None:
        """Count the spans of this one."""
        self.registry.register(_SpanCollector(tracer))

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)


class _SpanCollector(Collector):
    """What became of spans; nothing where tracing is off."""

    def __init__(self, tracer: "Tracer") -> None:
        self._exporter = tracer.exporter

    def collect(self) -> Iterator[Metric]:
        if self._exporter is not None:
            sent, dropped = self._exporter.sent, self._exporter.dropped
            yield CounterMetricFamily("constellation_trace_spans_sent", "Spans that the collector took", sent)
            yield CounterMetricFamily(
                "constellation_trace_spans_dropped", "Spans lost to a full queue, or to the collector", dropped
            )


class _StateCollector(Collector):
    """Reads the state once per scrape, so that all of its numbers are of one moment."""

    def __init__(self, service: "Service") -> None:
        self._service = service

    def describe(self) -> list[Metric]:
        # Registering must not read a shard that is still loading.
        return []

    def collect(self) -> Iterator[Metric]:
        service = self._service
        stats = service.stats()
        log = service.access_log
        yield self._gauge("patterns_stored_total", "Patterns stored now", stats.patterns_stored)
        yield self._gauge("active_devices", "Devices that synced in the last 15 minutes", stats.active_devices)
        yield self._gauge("total_devices", "Devices known", stats.total_devices)
        yield self._gauge("shard_health", "1 when the shard is ready, else 0", float(service.refusal() is None))
        yield self._gauge("global_version", "The shard's version", stats.global_version)
        yield self._gauge("index_patterns", "Patterns in the similarity index", stats.patterns_served)
        yield self._gauge("index_lists", "Lists of the similarity index", stats.index_lists)
        settings = service.settings
        yield self._gauge("devices_max", "Devices that the shard takes at most", settings.max_devices)
        yield self._gauge("patterns_max", "Patterns that the shard takes at most", settings.max_patterns)
        yield self._gauge("content_items", "Content items known", stats.content_items)
        yield self._gauge("resident_bytes", "Memory of the shard's columns", stats.bytes_resident)
        yield self._gauge("in_flight_requests", "Requests accepted and not answered yet", service.in_flight())
        yield self._gauge("connections", "Open connections", service.connections())
        yield self._gauge("load", "0: idle, 1: all that the shard can, smoothed", service.admission.load)
        yield self._gauge(
            "next_sync_seconds", "When a device is asked to come back, at first", service.admission.next_sync.after_s
        )
        yield self._gauge("loop_lag_seconds", "How late the loop ran the last timer", service.loop_lag_s)
        yield self._gauge("loop_lag_max_seconds", "The largest loop lag since the start", service.loop_lag_s_max)
        shed, lists = service.admission.shed, service.shard.lists._asdict()
        yield self._counts("shed", "Requests refused for lack of room or time, by reason", "why", shed)
        yield self._counts("lists", "Lists for devices: brought up to date, or sought", "how", lists)
        yield from self._storage()
        dropped = CounterMetricFamily(
            "constellation_access_log_dropped", "Access log records lost to a slow output", labels=["shard_id"]
        )
        dropped.add_metric([service.settings.shard_id], log.dropped if log else 0)
        yield dropped

    def _storage(self) -> Iterator[Metric]:
        measures = self._service.keeper.measures()
        if measures is None:
            return
        yield self._gauge("journal_bytes", "Size of the journal's records", measures.journal_bytes)
        settings = self._service.settings
        yield self._gauge("journal_bytes_max", "Size at which syncs are refused", settings.journal_max_bytes)
        free = shutil.disk_usage(settings.data_dir).free
        yield self._gauge("data_free_bytes", "Free space where journal and snapshot are", free)
        yield self._gauge("journal_commit_seconds", "Time of the last commit", measures.commit_s)
        yield self._gauge("journal_commit_max_seconds", "Longest commit since the start", measures.commit_s_max)
        yield self._gauge("backlog_records", "Journal records not in the database yet", measures.backlog_records)
        yield self._gauge("backlog_age_seconds", "Time since all was in the database", measures.backlog_age_s)
        yield self._gauge("flush_seconds", "Time of the last write to the database", measures.flush_s)
        yield self._gauge("flushes", "Writes to the database since the start", measures.flushes)
        up = "database" not in measures.failing
        yield self._gauge("database_up", "1 while the database takes what is written", float(up))
        circuit = GaugeMetricFamily(
            "constellation_database_circuit", "1 for the state of the circuit breaker", labels=["shard_id", "state"]
        )
        for state in get_args(Circuit):
            circuit.add_metric([self._service.settings.shard_id, state], float(state == measures.circuit))
        yield circuit

    def _counts(self, name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
        family = CounterMetricFamily(f"constellation_{name}", text, labels=["shard_id", label])
        for value, count in counts.items():
            family.add_metric([self._service.settings.shard_id, value], count)
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        gauge = GaugeMetricFamily(f"constellation_{name}", text, labels=["shard_id"])
        gauge.add_metric([self._service.settings.shard_id], value)
        return gauge

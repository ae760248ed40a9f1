"""The worker's process: rounds, and its measurements on a port of their own, until a signal."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator

import prometheus_client
from prometheus_client import CollectorRegistry

from constellation.api.hiding import Hiding, hiding
from constellation.api.log import configure_logging
from constellation.api.metrics import WorkerMetrics
from constellation.api.tracing import Tracer, tracing
from constellation.config import WorkerSettings, WrongSetting
from constellation.federation.database import RoundRow
from constellation.federation.leading import Noised, Wanted
from constellation.federation.privacy import PrivacyBudget, calibrated
from constellation.federation.worker import Schedule, Worker
from constellation.limits import DAY_S
from constellation.rounds import Privacy
from constellation.spans import Span, Value
from constellation.storage.connections import WrongDatabase
from kernels.warm import warm

_log = logging.getLogger(__name__)


def work(settings: WorkerSettings, once: bool) -> int:
    """Runs until a signal, or until a round has ended if `once`; the exit code, 0 for a round only if it was published.

    Raises `WrongSetting`.
    """
    hidden = hiding(settings.log_key_file)
    configure_logging(settings.log_level, hidden)
    holder = f"pid {os.getpid()} on {socket.gethostname()}"
    schedule = Schedule(0 if once else settings.interval, settings.deadline)
    worker = Worker(settings.coordinator_url, holder, schedule, wanted(settings))
    metrics = WorkerMetrics(worker)
    with _serving(settings, metrics.registry):
        warm()
        try:
            return asyncio.run(_run(settings, hidden, worker, metrics, once))
        except WrongDatabase as error:
            print(f"constellation worker: {error}", file=sys.stderr)
            return 1


def wanted(settings: WorkerSettings) -> Wanted:
    """Raises `WrongSetting`."""
    robust = settings.mean == "robust"
    if not settings.epsilon:
        return Wanted(robust=robust)
    if robust:
        raise WrongSetting("--mean: got robust with --epsilon; allowed: plain, which is what noise is calibrated for")
    budget = PrivacyBudget(settings.budget_epsilon, settings.budget_delta, settings.budget_days * DAY_S)
    return Wanted(Noised(calibrated(Privacy(settings.epsilon, settings.delta)), budget))


async def _run(settings: WorkerSettings, hidden: Hiding, worker: Worker, metrics: WorkerMetrics, once: bool) -> int:
    async with tracing(settings.otlp_endpoint, 0.0, hidden, "constellation-worker", socket.gethostname()) as tracer:
        metrics.trace(tracer)
        working = asyncio.ensure_future(_work(worker, metrics, tracer, once))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, working.cancel)
        try:
            return await working
        except asyncio.CancelledError:
            return int(once)
        finally:
            await worker.close()
            _log.info("stopped")


async def _work(worker: Worker, metrics: WorkerMetrics, tracer: Tracer, once: bool) -> int:
    async with contextlib.aclosing(worker.rounds()) as rounds:
        async for row in rounds:
            metrics.ended(row)
            tracer.report(_span(row))
            if once:
                return 0 if row.state == "published" else 1
    raise AssertionError("rounds go on for ever")


def _span(row: RoundRow) -> Span:
    """A round from its opening, which another worker may have done."""
    ended_ns = time.time_ns()
    told: dict[str, Value] = {
        "federation.round": row.number,
        "federation.state": row.state,
        "federation.shards_expected": row.expected,
        "federation.shards_reported": row.reported,
        "federation.patterns": row.patterns,
        "federation.prototypes": row.prototypes,
    }
    return Span(
        "federation.round",
        ended_ns - int(row.took_s * 1e9),
        ended_ns,
        told,
        "" if row.state == "published" else row.why or row.state,
    )


@contextlib.contextmanager
def _serving(settings: WorkerSettings, registry: CollectorRegistry) -> Iterator[None]:
    """`/metrics`, from a thread: a worker has nothing to hurry for."""
    try:
        server, thread = prometheus_client.start_http_server(settings.metrics_port, settings.host, registry)
    except OSError as error:
        raise WrongSetting(
            f"--metrics-port: got {settings.metrics_port} on {settings.host}; allowed: a free port ({error})"
        ) from error
    print(f"metrics on http://{settings.host}:{server.server_port}/metrics", flush=True)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""One process from start to end: warm, take the storage, open the ports, load, serve until a signal, drain, stop.

The ports are bound first, so that a taken one fails at once, and listen once everything is warm: who connects earlier
is refused, and nobody waits for a compiler. While the shard is loaded, readiness says so. A second signal ends the
drain.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
import uvloop

from constellation import __version__, limits
from constellation.api.app import create_app, create_metrics_app
from constellation.api.background import running
from constellation.api.connections import PATIENCE, Connection, Connections, Patience, protocol
from constellation.api.edge import Edge
from constellation.api.grpc import door
from constellation.api.grpc.calls import Calls
from constellation.api.hiding import Hiding, hiding
from constellation.api.keeping import load
from constellation.api.log import configure_logging
from constellation.api.rehearsal import rehearse
from constellation.api.service import STORAGE, Service
from constellation.api.tracing import tracing
from constellation.codebook import Codebook
from constellation.config import AUTO, NONE, Settings, WrongSetting
from constellation.identity import Identity, Tls
from constellation.shard import Shard
from constellation.storage.keeper import REFUSALS, open_keeper
from kernels.warm import warm

if TYPE_CHECKING:
    from constellation.api.quic.door import Door

GC_THRESHOLDS = (10_000, 20, 50)
"""A request makes hardly any cycles; collecting every 700 containers, the default, would cost it 2%."""

_log = logging.getLogger(__name__)


def serve(settings: Settings, codebook: Codebook, identity: Identity, tls: Tls | None) -> int:
    """Runs until a signal; the exit code. Raises `WrongSetting` for a port that is taken."""
    hidden = hiding(settings.log_key_file)
    configure_logging(settings.log_level, hidden)
    ports = _Ports(
        _bind(settings, "port"),
        _bind(settings, "grpc_port"),
        _bind(settings, "metrics_port"),
        _bind_datagrams(settings) if settings.quic_port != NONE else None,
    )
    started_at = time.perf_counter()
    warm()
    rehearse(settings)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    _log.info("warm", extra={"seconds": round(time.perf_counter() - started_at, 2)})
    try:
        return uvloop.run(_run(settings, codebook, hidden, identity, tls, ports))
    except REFUSALS as error:
        print(f"constellation serve: {error}", file=sys.stderr)
        return 1


class _Ports(NamedTuple):
    """Bound, so that nobody else gets them."""

    api: socket.socket
    grpc: socket.socket
    metrics: socket.socket
    quic: socket.socket | None


async def _run(
    settings: Settings, codebook: Codebook, hidden: Hiding, identity: Identity, tls: Tls | None, ports: _Ports
) -> int:
    endpoint, sample = settings.otlp_endpoint, settings.trace_sample
    async with tracing(endpoint, sample, hidden, "constellation", settings.shard_id) as tracer:
        keeper = await open_keeper(settings, report=tracer.report)
        try:
            shard = Shard(settings, codebook=codebook)
            service = Service(
                settings, shard, codebook, keeper=keeper, tracer=tracer, hiding=hidden, identity=identity, tls=tls
            )
            service.url = _url(ports.api, tls) if settings.public_url == AUTO else settings.public_url
            service.grpc_address = door.address_of(ports.grpc)
            await _serve(service, ports)
        finally:
            await keeper.close()
    _log.info("stopped")
    return 1 if service.broken else 0


async def _serve(service: Service, ports: _Ports) -> None:
    tls = service.tls
    edge, connections_max = create_app(service), _connections_max(service.settings)
    api = Server(service, edge, connections_max, tls.context if tls else None, headers=_alternatives(ports))
    metrics_context = tls.context_without_clients if tls else None
    metrics = Server(service, create_metrics_app(service), limits.METRICS_CONNECTIONS_MAX, metrics_context)
    async with (
        running(service),
        door.opened(service, ports.grpc) as calls,
        _quic_opened(service, ports.quic, edge, api, connections_max) as quic,
        asyncio.TaskGroup() as group,
    ):
        service.connections = lambda: len(api.connections) + (len(quic.connections) if quic else 0)
        service.in_flight = lambda: (
            len(api.server_state.tasks) + (quic.in_flight if quic else 0) - len(service.live) + calls.in_flight
        )
        stopping = _watch_signals((api, metrics))
        if tls or service.identity.required:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.files_written.set)
        service.on_failure = stopping.set
        group.create_task(api.serve(sockets=[ports.api]))
        group.create_task(metrics.serve(sockets=[ports.metrics]))
        await _started(api, metrics)
        loading = group.create_task(_load(service, ports))
        await stopping.wait()
        loading.cancel()
        await _drain(service, calls, quic)
        api.should_exit = metrics.should_exit = True


@asynccontextmanager
async def _quic_opened(
    service: Service, held: socket.socket | None, edge: Edge, api: "Server", connections_max: int
) -> AsyncIterator["Door | None"]:
    """None where there is no HTTP/3."""
    if held is None:
        yield None
        return
    from constellation.api.quic import door as quic_door  # what it needs is an extra

    def default_headers() -> list[tuple[bytes, bytes]]:
        return api.server_state.default_headers

    async with quic_door.opened(service, held, edge, default_headers, connections_max) as opened:
        yield opened


async def _load(service: Service, ports: _Ports) -> None:
    try:
        await load(service)
    except REFUSALS as error:
        print(f"constellation serve: {error}", file=sys.stderr)
        service.fail(STORAGE, str(error))
        return
    _announce(service, ports)


async def _drain(service: Service, calls: Calls, quic: "Door | None") -> None:
    """Not ready, for long enough that a proxy sees it; then until nothing is in flight, within the maximum."""
    service.drain()
    calls.close_streams()
    if quic is not None:
        quic.go_away()
    _log.info("draining", extra={"in_flight": service.in_flight()})
    began_at = time.monotonic()
    await asyncio.sleep(limits.DRAIN_ANNOUNCED_S_MIN)
    while service.in_flight() and time.monotonic() - began_at < limits.DRAIN_S_MAX:
        await asyncio.sleep(0.01)
    _log.info("drained", extra={"in_flight": service.in_flight()})


class Server(uvicorn.Server):
    """uvicorn with our connections, and without its signal handling: this process drains before it stops listening."""

    def __init__(
        self,
        service: Service,
        edge: Edge,
        connections_max: int,
        context: ssl.SSLContext | None = None,
        patience: Patience = PATIENCE,
        headers: list[tuple[str, str]] | None = None,
    ) -> None:
        self.connections: Connections[Connection] = Connections(service, edge, connections_max, patience)
        super().__init__(
            uvicorn.Config(
                edge,
                loop="none",
                http=protocol(self.connections),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                headers=headers,
                proxy_headers=False,
                timeout_keep_alive=limits.KEEP_ALIVE_S_MAX,
                timeout_graceful_shutdown=1,
                ssl_context_factory=(lambda *_: context) if context else None,
            )
        )

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        watching = asyncio.create_task(self.connections.watch())
        try:
            await super().serve(sockets)
        finally:
            watching.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _watch_signals(servers: tuple[Server, ...]) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one ends everything at once."""
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            for server in servers:
                server.should_exit = server.force_exit = True
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stopping


async def _started(*servers: Server) -> None:
    while not all(server.started for server in servers):
        await asyncio.sleep(0.005)


def _announce(service: Service, ports: _Ports) -> None:
    metrics_url = f"{_url(ports.metrics, service.tls)}/metrics"
    fields = {"url": service.url, "metrics_url": metrics_url, "grpc": service.grpc_address, "pid": os.getpid()}
    _log.info("listening", extra={**fields, "version": __version__})
    # For people, and for whoever started this with port 0.
    print(f"listening on {service.url}\nmetrics on {metrics_url}\ngrpc on {service.grpc_address}")
    if ports.quic is not None:
        print(f"http/3 on {door.address_of(ports.quic)}")
    print(f"the page is {service.url}/", flush=True)


def _connections_max(settings: Settings) -> int:
    """As many as is set, or as the system lets this process have, with files enough for all else."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + limits.FILES_RESERVED
    files = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), most))
    if files < wanted:
        _log.warning(
            "fewer connections than set",
            extra={"open_files_max": most, "connections_max": files - limits.FILES_RESERVED},
        )
        return max(1, files - limits.FILES_RESERVED)
    return settings.max_connections


def _bind(settings: Settings, setting: str) -> socket.socket:
    port: int = getattr(settings, setting)
    try:
        family = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.SEND_BUFFER_BYTES)  # of those it accepts, too
        bound.bind((settings.host, port))
    except OSError as error:
        flag = "--" + setting.replace("_", "-")
        raise WrongSetting(
            f"{flag}: got {port} on {settings.host}; allowed: an address of this machine with a free port ({error})"
        ) from error
    return bound


def _bind_datagrams(settings: Settings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.quic_port, type=socket.SOCK_DGRAM)[0][0]
        bound = socket.socket(family, socket.SOCK_DGRAM)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            bound.setsockopt(socket.SOL_SOCKET, buffer, limits.QUIC_SOCKET_BYTES)
        bound.bind((settings.host, settings.quic_port))
    except OSError as error:
        raise WrongSetting(
            f"--quic-port: got {settings.quic_port} on {settings.host}; allowed: an address of this machine with a "
            f"free UDP port ({error})"
        ) from error
    return bound


def _alternatives(ports: _Ports) -> list[tuple[str, str]]:
    """Headers of every reply: that there is HTTP/3 on this host, too (RFC 7838)."""
    if ports.quic is None:
        return []
    return [("alt-svc", f'h3=":{ports.quic.getsockname()[1]}"; ma={limits.ALT_SVC_S}')]


def _url(bound: socket.socket, tls: Tls | None) -> str:
    host, port = bound.getsockname()[:2]
    return f"{'https' if tls else 'http'}://" + (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

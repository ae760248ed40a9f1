"""The UDP port of HTTP/3 from its opening to its end, on the loop that serves REST, for the application of REST.

A client has to show that it is where it says (Retry; RFC 9000, section 8) before anything is kept for it, so nobody can
be hit with our answers to what others sent. Every handshake takes the certificate as it is then. No session is taken up
again, and so nothing comes before the end of a handshake, which could be sent twice.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aioquic.asyncio.server import QuicServer
from aioquic.h3.connection import H3_ALPN, ErrorCode
from aioquic.h3.events import Headers
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import NetworkAddress, QuicConnection
from aioquic.tls import load_pem_private_key, load_pem_x509_certificates

from constellation import limits
from constellation.api.connections import PATIENCE, Connections, Patience
from constellation.api.edge import Edge
from constellation.api.quic.connection import Connection
from constellation.api.quic.request import Request
from constellation.api.service import Service
from constellation.identity import Tls

_LONG_HEAD = 0x80


class Door:
    """What the connections share."""

    def __init__(
        self,
        service: Service,
        edge: Edge,
        address: tuple[str, int],
        default_headers: Callable[[], Headers],
        connections: Connections[Connection],
    ) -> None:
        self.service, self.address, self.default_headers = service, address, default_headers
        self.connections = connections
        self._edge = edge
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    def run(self, request: Request, answered: Callable[[Request], None]) -> None:
        task = asyncio.get_running_loop().create_task(request.run(self._edge))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            answered(request)

        task.add_done_callback(done)

    def go_away(self) -> None:
        """Ask every client for no more requests; those that are under way are answered."""
        for connection in list(self.connections):
            connection.go_away()

    async def close(self) -> None:
        for connection in list(self.connections):
            connection.end(ErrorCode.H3_NO_ERROR)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Endpoint(QuicServer):
    """The socket: finds the connection of a datagram, or makes one."""

    def __init__(self, door: Door, tls: Tls) -> None:
        configuration = QuicConfiguration(
            alpn_protocols=H3_ALPN,
            is_client=False,
            idle_timeout=limits.KEEP_ALIVE_S_MAX,
            max_data=limits.QUIC_WINDOW_BYTES,
            max_stream_data=limits.QUIC_WINDOW_BYTES,
        )
        super().__init__(configuration=configuration, create_protocol=self._connect, retry=True)
        self._door, self._tls = door, tls
        self._certify()

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        assert isinstance(data, bytes)
        if not data or len(data) > limits.QUIC_DATAGRAM_BYTES_MAX:
            return
        if data[0] & _LONG_HEAD and len(data) < SMALLEST_MAX_DATAGRAM_SIZE and self._is_strange(data):
            return  # an answer would be longer (RFC 9000, section 5.2.2)
        super().datagram_received(data, addr)

    def _is_strange(self, data: bytes) -> bool:
        return int.from_bytes(data[1:5], "big") not in self._configuration.supported_versions

    def _connect(self, quic: QuicConnection, stream_handler: object) -> Connection:
        if self._tls.material is not self._material:
            self._certify()
        return Connection(quic, self._door)

    def _certify(self) -> None:
        self._material = self._tls.material
        certificate, *chain = load_pem_x509_certificates(self._material.certificate)
        self._configuration.certificate, self._configuration.certificate_chain = certificate, chain
        self._configuration.private_key = load_pem_private_key(self._material.key)

    def _connection_terminated(self, protocol: object) -> None:
        # The library looks through all connections for those of one; it knows them itself.
        assert isinstance(protocol, Connection)
        for name in protocol.names():
            self._protocols.pop(name, None)


@asynccontextmanager
async def opened(
    service: Service,
    held: socket.socket,
    edge: Edge,
    default_headers: Callable[[], Headers],
    most: int,
    patience: Patience = PATIENCE,
) -> AsyncIterator[Door]:
    """Serves on a socket that was bound. `default_headers` are those of the REST port; `most` connections."""
    assert service.tls is not None, "checked with the settings"
    tls = service.tls
    for name in ("quic", "http3"):
        # What clients do wrong is counted, not told line by line.
        logging.getLogger(name).setLevel(max(logging.ERROR, logging.getLogger().level))
    host, port = held.getsockname()[:2]
    connections: Connections[Connection] = Connections(service, edge, most, patience)
    door = Door(service, edge, (host, port), default_headers, connections)
    held.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Endpoint(door, tls), sock=held)
    watching = asyncio.create_task(connections.watch())
    try:
        yield door
    finally:
        watching.cancel()
        await door.close()
        transport.close()

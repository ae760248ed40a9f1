"""A shard with mutual TLS and keys, for the tests of both doors, and who signs what."""

import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import httpx

from tests.api.process import Server, serving
from tests.identity.authority import Authority
from tests.identity.fleet import Fleet


class Secured(NamedTuple):
    """It, where its files are, and the authorities of its certificate and of those that it asks for."""

    server: Server
    fleet: Fleet
    folder: Path
    servers: Authority
    clients: Authority

    def context(self, clients: Authority | None) -> ssl.SSLContext:
        """A client's, which trusts the authority of servers, and shows a certificate of the one given."""
        context = ssl.create_default_context(cafile=str(self.servers.certificate))
        if clients is not None:
            context.load_cert_chain(*clients.issue("tv"))
        return context

    def status(self, clients: Authority | None) -> int | None:
        """Of a request over a new connection; None if there was none to be had."""
        try:
            with httpx.Client(verify=self.context(clients)) as client:
                return client.get(f"{self.server.url}/health").status_code
        except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
            return None

    def shown(self) -> bytes | None:
        """The certificate that a new handshake gets, by an address without a name."""
        context = self.context(self.clients)
        with (
            socket.create_connection(self.server.address, timeout=10) as connection,
            context.wrap_socket(connection, server_hostname="127.0.0.1") as secured,
        ):
            return secured.getpeercert(True)

    def channel(self, clients: Authority | None) -> grpc.Channel:
        """The same by gRPC."""
        shown = None if clients is None else clients.issue("tv")
        pair = (None, None) if shown is None else (shown[1].read_bytes(), shown[0].read_bytes())
        credentials = grpc.ssl_channel_credentials(self.servers.certificate.read_bytes(), *pair)
        return grpc.secure_channel(self.server.grpc, credentials)


@contextmanager
def securely_serving(folder: Path) -> Iterator[Secured]:
    """For as long as the block lasts; all files are in the folder."""
    servers, clients, fleet = Authority(folder, "servers"), Authority(folder, "clients"), Fleet(folder)
    certificate, key = servers.issue("shard")
    ca = shutil.copy(clients.certificate, folder / "client-ca.pem")
    files = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(ca))
    with serving(*files, *fleet.options) as server:
        yield Secured(server, fleet, folder, servers, clients)

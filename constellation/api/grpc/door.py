"""The gRPC port from its opening to its end, on the loop that serves REST: one loop of a process touches the library.

What a peer can take is bounded: messages as the bodies of REST (the library stops decompressing at that size, too),
calls and streams at once, and the time that a connection may idle.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from constellation import limits
from constellation.api.grpc.calls import Calls
from constellation.api.grpc.health import HEALTH, Health
from constellation.api.grpc.strangers import Places, Reflection
from constellation.api.grpc.sync import SERVICE, handlers
from constellation.api.service import Service
from constellation.config import Settings, WrongSetting
from constellation.identity import Tls


@asynccontextmanager
async def opened(service: Service, held: socket.socket) -> AsyncIterator[Calls]:
    """Serves on the address of a socket that was bound to hold it, as the library binds one of its own.

    Raises `WrongSetting` if somebody else got the address in between.
    """
    calls = Calls(service)
    server = grpc.aio.server(options=_options(service.settings), maximum_concurrent_rpcs=limits.CALLS_MAX)
    server.add_generic_rpc_handlers((handlers(service, calls),))
    places = Places()
    health_pb2_grpc.add_HealthServicer_to_server(Health(service, places), server)
    served = SERVICE, HEALTH, reflection.SERVICE_NAME
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(served, places), server)
    address = address_of(held)
    held.close()
    try:
        if service.tls is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, _credentials(service.tls))
    except RuntimeError as error:
        raise WrongSetting(f"--grpc-port: got {address}; allowed: a free port ({error})") from error
    await server.start()
    try:
        yield calls
    finally:
        await server.stop(limits.CALLS_END_S_MAX)


def address_of(bound: socket.socket) -> str:
    """As gRPC clients write it."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Every handshake takes the certificates as they are then."""

    def current() -> grpc.ServerCertificateConfiguration:
        material = tls.material
        pair = material.key, material.certificate
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=material.client_ca)

    needs_client = tls.material.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(current(), current, require_client_authentication=needs_client)


def _options(settings: Settings) -> tuple[tuple[str, Any], ...]:
    return (
        ("grpc.so_reuseport", 0),  # a second process on the port is a mistake
        # The library's own refusal ends a stream and has no code; what is not far too long is left to `Calls`.
        ("grpc.max_receive_message_length", 2 * settings.max_body_bytes),
        ("grpc.max_concurrent_streams", limits.CALLS_MAX),
        ("grpc.max_connection_idle_ms", limits.KEEP_ALIVE_S_MAX * 1_000),
        # Of a connection with an open stream; a peer that went away without a word would keep it for ever.
        ("grpc.keepalive_time_ms", limits.KEEP_ALIVE_S_MAX * 1_000),
        ("grpc.keepalive_timeout_ms", limits.BODY_READ_S_MAX * 1_000),
    )

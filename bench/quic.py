"""What does a sync cost over HTTP/3, beside HTTP/1 over TLS?

First on open connections (`doors`). Then as TVs come, which sync every ten minutes and are gone in between: each sync
has a connection of its own, and a compact reply of 5 KB where those before are of 40. Both doors show the same
certificate (P-256). What the clients take is not counted: the library of this one is in Python, too.
"""

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.doors import TICK_S, Door, Measured, Traffic, by_turns, compared, prepare
from bench.generator import connected, make_request
from bench.plan import Answers, Note, Plan
from bench.report import Row, Yardstick
from bench.served import Server, in_memory, serving
from bench.sync_http import CONNECTIONS, HEADERS, body_of, decode, fill, post, running_on, two_cores
from constellation.codebook import default_codebook

NEW_PER_S = 30
"""Connections for one sync each, for every second of the plan."""
NEW_TURNS = 10
BESIDE = "HTTP/1 over TLS"
DAY = datetime.timedelta(days=1)

Connect = Callable[[], AbstractAsyncContextManager[list[Any]]]


def measure(plan: Plan) -> Answers:
    if find_spec("aioquic") is None:
        yield Note("not measured: HTTP/3 needs pip install 'constellation[quic]'")
        return
    rng = plan.rng("quic")
    traffic = prepare(plan, rng)
    servers_core, generators_core = two_cores()
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = _certify(Path(folder))
        files = (f"--tls-cert={certificate}", f"--tls-key={key}", "--quic-port=0")
        with running_on(servers_core), serving(*in_memory(plan), *files) as server, running_on(generators_core):
            tls, quic, new_us = uvloop.run(_load(server, certificate, traffic, plan, rng))
    yield from compared(BESIDE, tls, quic, lambda reply: len(decode(reply).similar))
    yield Row(
        name="the same, compact, with a new connection for it",
        value=new_us[1],
        unit="us",
        quality="all answered",
        yardstick=Yardstick(BESIDE, new_us[0]),
    )


async def _load(
    server: Server, certificate: Path, traffic: Traffic, plan: Plan, rng: np.random.Generator
) -> tuple[Measured, Measured, list[float]]:
    from bench import http3

    context = ssl.create_default_context(cafile=str(certificate))
    async with (
        connected(server.url, CONNECTIONS, context) as posting,
        http3.connected(server.quic, CONNECTIONS, certificate) as asking,
    ):
        await fill(posting, traffic.filling)
        posts, asks = traffic.asked
        tls = Door(list(posting), *([post(request) for request in each] for each in posts))
        quic = Door(list(asking), *([body_of(request) for request in each] for each in asks))
        measured = await by_turns(server, (tls, quic), plan, rng)
    target = f"/api/v1/sync?embedding=compact&codebook={default_codebook().version}&similar=100&trending=50"
    bodies = [body_of(request) for request in posts[0]]
    new_us = await _connect_by_turns(
        server,
        [
            (
                lambda: connected(server.url, 1, context),
                [make_request("POST", target, HEADERS, body) for body in bodies],
            ),
            (lambda: http3.connected(server.quic, 1, certificate, target), bodies),
        ],
        max(NEW_TURNS, int(NEW_PER_S * plan.seconds)),
    )
    return *measured, new_us


async def _connect_by_turns(server: Server, doors: list[tuple[Connect, list[bytes]]], count: int) -> list[float]:
    """Processor time of the server for a connection with one sync, by each door, in microseconds."""
    cpu_s = [0.0 for _ in doors]
    for turn in range(NEW_TURNS):
        for door, (connect, requests) in enumerate(doors):
            before_s = server.cpu_s()
            for number in range(count // NEW_TURNS):
                async with connect() as (connection,):
                    reply = await connection.exchange(requests[(turn * count + number) % len(requests)])
                    assert reply.status == 200
            cpu_s[door] += server.cpu_s() - before_s
    return [max(spent_s, TICK_S) / (count // NEW_TURNS * NEW_TURNS) * 1e6 for spent_s in cpu_s]


def _certify(folder: Path) -> tuple[Path, Path]:
    """Files of a certificate that is its own authority, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)
    made = made.add_extension(hosts, False).add_extension(x509.BasicConstraints(True, None), True)
    files = folder / "tls.crt", folder / "tls.key"
    files[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    no_password = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password))
    return files

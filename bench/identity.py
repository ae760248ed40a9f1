"""What does a token cost, and what a request that is refused?

A check alone, of a token that comes for the first time and of one that was checked before, beside a sync without HTTP.
Then whole requests through the application without sockets, as devices with tokens send them: good syncs that bring
nothing new and ask for whole lists, and by turns with them those that are refused.
"""

import asyncio
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench import workload
from bench.loaded import Loaded, load_shard
from bench.plan import Answers, Plan, Timings, tracked
from bench.report import Row, Yardstick, at_most
from constellation.api.app import create_app
from constellation.api.service import Service
from constellation.codebook import default_codebook
from constellation.config import Settings
from constellation.errors import Unauthenticated
from constellation.identity import Identity, Issuer, open_identity, read_issuer
from constellation.identity.issuing import make_keys
from constellation.wire.body import compress
from constellation.wire.dictionary import newest
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta

CACHED_US_MAX = 3.0
REFUSED_SHARE_MAX = 0.2
CHECKS = 1_000
IN_A_ROW = 10
"""Requests of one kind, before those of another have their turn: who floods a shard does not take turns."""
HOUR_S = 3_600


class Asking(NamedTuple):
    """One kind of request: a token and a body for each time it is sent, and what it must be answered."""

    name: str
    token: Callable[[int], str]
    body: Callable[[int], bytes]
    status: int


class Signed(NamedTuple):
    """Devices of the load, each with its token; and tokens that are good for nothing."""

    settings: Settings
    devices: list[bytes]
    tokens: list[str]
    expired: list[str]
    scopeless: list[str]
    forged: list[str]


def measure(plan: Plan) -> Answers:
    loaded = load_shard(plan)
    with tempfile.TemporaryDirectory() as folder:
        signed = _sign(loaded, plan, Path(folder))
        yield from _measure_checks(loaded, signed)
        yield from asyncio.run(_measure_refusals(loaded, signed))


def _sign(loaded: Loaded, plan: Plan, folder: Path) -> Signed:
    make_keys(folder / "key.pem", folder / "keys.jwks")
    issuer = read_issuer(folder / "key.pem")
    chosen = plan.rng("identity").choice(len(loaded.households), min(plan.queries, len(loaded.households)), False)
    devices = [loaded.households.device_ids[device].tobytes() for device in chosen.tolist()]
    settings = msgspec.structs.replace(
        workload.shard_settings(plan.patterns), token_keys=str(folder / "keys.jwks"), access_log=False
    )
    tokens = [_issue(issuer, device, HOUR_S) for device in devices]
    return Signed(
        settings,
        devices,
        tokens,
        [_issue(issuer, device, -1) for device in devices],
        [issuer.issue(str(uuid.UUID(bytes=device)), ["metrics"], HOUR_S) for device in devices],
        [_forge(token, tokens[place - 1]) for place, token in enumerate(tokens)],
    )


def _forge(token: str, other: str) -> str:
    """The dearest forgery: a true signature of the fleet's own key, of something else."""
    return f"{token.rpartition('.')[0]}.{other.rpartition('.')[2]}"


def _issue(issuer: Issuer, device: bytes, expires_s: int) -> str:
    return issuer.issue(str(uuid.UUID(bytes=device)), ["device"], expires_s)


def _measure_checks(loaded: Loaded, signed: Signed) -> Answers:
    identity = open_identity(signed.settings)
    uncached, forged, sync = Timings(), Timings(), Timings()
    headers = [[(b"host", b"shard"), (b"authorization", b"Bearer " + token.encode())] for token in signed.tokens]
    strange = [[(b"host", b"shard"), (b"authorization", b"Bearer " + token.encode())] for token in signed.forged]
    for place in tracked(range(len(headers)), "checking tokens"):
        uncached.measure(identity.authenticate, headers[place])
        forged.measure(_refused, identity, strange[place])
        request = workload.make_request(signed.devices[place], workload.no_patterns(), workload.no_updates())
        sync.start()
        loaded.shard.apply(request, loaded.now)
        loaded.shard.answer(signed.devices[place], workload.EVERYTHING)
        sync.stop()
    beside = Yardstick("a sync without HTTP, nothing new, p50", sync.p50 * 1e3)
    believed = f"{len(headers):,} tokens believed"
    yield Row(
        name="a token for the first time: p50", value=uncached.p50 * 1e3, unit="us", quality=believed, yardstick=beside
    )
    yield Row(name="a forged token: p50", value=forged.p50 * 1e3, unit="us", quality="all refused", yardstick=beside)
    cached = Timings()
    for _ in range(max(10, CHECKS // len(headers))):
        cached.measure(_check_all, identity, headers)
    yield Row(
        name="a token that was checked before: p50 of turns",
        value=cached.p50 * 1e3 / len(headers),
        unit="us",
        quality=believed,
        yardstick=beside,
        target=at_most(CACHED_US_MAX),
    )


def _check_all(identity: Identity, headers: list[list[tuple[bytes, bytes]]]) -> None:
    for each in headers:
        identity.authenticate(each)


def _refused(identity: Identity, headers: list[tuple[bytes, bytes]]) -> None:
    try:
        identity.authenticate(headers)
    except Unauthenticated:
        return
    raise AssertionError("a forged token was believed")


async def _measure_refusals(loaded: Loaded, signed: Signed) -> list[Row]:
    service = Service(
        signed.settings, loaded.shard, default_codebook(), lambda: loaded.now, identity=open_identity(signed.settings)
    )
    service.open()
    app = create_app(service)
    bodies = [_body(device) for device in signed.devices]
    kinds = [
        Asking("a good sync", signed.tokens.__getitem__, bodies.__getitem__, 200),
        Asking("no token", lambda _: "", bodies.__getitem__, 401),
        Asking("forged token", signed.forged.__getitem__, bodies.__getitem__, 401),
        Asking("expired token", signed.expired.__getitem__, bodies.__getitem__, 401),
        Asking("another scope", signed.scopeless.__getitem__, bodies.__getitem__, 403),
        Asking("another device", signed.tokens.__getitem__, lambda place: bodies[place - 1], 403),
        Asking("no body", signed.tokens.__getitem__, lambda _: b"", 400),
        Asking("a body that is nothing", signed.tokens.__getitem__, lambda _: compress(b"\xc1" * 900), 400),
    ]
    timings = {kind.name: Timings(time.process_time) for kind in kinds}
    for known in (*signed.tokens, *signed.scopeless):
        service.identity.authenticate([(b"authorization", b"Bearer " + known.encode())])
    for first in tracked(range(0, len(bodies), IN_A_ROW), "refusing"):
        for kind in kinds:
            timings[kind.name].start()
            for number in range(first, first + IN_A_ROW):
                place = number % len(bodies)
                status = await _ask(app, kind.token(place), kind.body(place))
                assert status == kind.status, (kind.name, status)
            timings[kind.name].stop()
    good, *refused = kinds
    good_us = timings[good.name].p50 * 1e3 / IN_A_ROW
    return [
        Row(
            name=f"refused, {kind.name}: CPU, p50",
            value=timings[kind.name].p50 * 1e3 / IN_A_ROW,
            unit="us",
            quality=f"{kind.status} each of {len(bodies):,} times",
            yardstick=Yardstick("a good sync by the same way", good_us),
            target=at_most(REFUSED_SHARE_MAX * good_us),
        )
        for kind in refused
    ]


def _body(device: bytes) -> bytes:
    delta = workload.make_request(device, workload.no_patterns(), workload.no_updates()).delta
    return compress(encode_delta(device, delta, Media.MSGPACK, "i8"), newest())


async def _ask(app: Callable[..., Awaitable[None]], token: str, body: bytes) -> int:
    status = 0

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = [
        (b"host", b"shard"),
        (b"content-type", Media.MSGPACK.value.encode()),
        (b"content-encoding", b"zstd"),
        (b"accept-encoding", b"zstd"),
        (b"content-length", b"%d" % len(body)),
    ]
    scope = {
        "type": "http", "method": "POST", "path": "/api/v1/sync", "raw_path": b"/api/v1/sync", "query_string": b"",
        "headers": [*headers, (b"authorization", b"Bearer " + token.encode())] if token else headers, "state": {},
        "root_path": "", "http_version": "1.1", "scheme": "http", "server": ("shard", 80), "client": ("tv", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    return status

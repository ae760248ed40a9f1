"""Is it alive, does it take work, and how are its parts: `GET /health`, `/health/live`, `/ready`, `/detailed`."""

import time
from collections.abc import Callable
from typing import Literal

import msgspec
from litestar import get
from litestar.di import NamedDependency

from constellation.api.operations import described
from constellation.api.replies import AnyRequest, Reply, reply
from constellation.api.service import Service
from constellation.config import NONE
from constellation.errors import Draining, NotReady
from constellation.model import ID_BYTES, SyncOptions
from constellation.storage.write_behind import Circuit

_NOBODY = bytes(ID_BYTES)
"""A device that nobody is: asking for it registers nothing and reads the index."""


class Health(msgspec.Struct):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Component(msgspec.Struct):
    """One part, how long a small probe of it took, and what is wrong if something is; of the database its circuit."""

    status: Literal["ok", "failed"]
    latency_ms: float
    detail: str | None = None
    circuit: Circuit | None = None


class DetailedHealth(msgspec.Struct):
    """`status` as in the shard map; latencies of shard and index are of a probe just made, of the loop its lag."""

    status: Literal["ready", "loading", "draining", "failed"]
    components: dict[str, Component]


@get(
    ["/health", "/health/live"],
    opt=described(tag="health", summary="Is the process alive", reply=Health, reply_text="It answers."),
)
async def live(request: AnyRequest) -> Reply:
    return reply(request, Health())


@get(
    "/health/ready",
    opt=described(
        tag="health",
        summary="Does it take work",
        reply=Health,
        reply_text="Loaded, not draining, nothing broken.",
        problems=(Draining, NotReady),
    ),
)
async def ready(request: AnyRequest, service: NamedDependency[Service]) -> Reply:
    refusal = service.refusal()
    if refusal is not None:
        raise refusal
    return reply(request, Health())


@get(
    "/health/detailed",
    opt=described(tag="health", summary="How are its parts", reply=DetailedHealth, reply_text="Every part, probed."),
)
async def detailed(request: AnyRequest, service: NamedDependency[Service]) -> Reply:
    components = {
        "shard": _probe(service.stats),
        "index": _probe(lambda: service.shard.answer(_NOBODY, SyncOptions(similar=1, trending=0, embedding="i8"))),
        "loop": Component("ok", service.loop_lag_s * 1e3),
        **_files(service),
        **_storage(service),
        **_federation(service),
        **{part: Component("failed", 0.0, why) for part, why in service.broken.items()},
    }
    return reply(request, DetailedHealth(service.status, components))


def _files(service: Service) -> dict[str, Component]:
    """Keys, revocations and certificates: failed while what was written last cannot be used."""
    watched = {"identity": service.identity if service.identity.required else None, "tls": service.tls}
    return {
        part: Component("failed" if each.failing else "ok", 0.0, each.failing or None)
        for part, each in watched.items()
        if each is not None
    }


def _storage(service: Service) -> dict[str, Component]:
    """The journal with its last commit, the database with its last write. Syncs do not need the database."""
    measures = service.keeper.measures()
    if measures is None:
        return {}
    failing = measures.failing
    parts = (("journal", measures.commit_s, None), ("database", measures.flush_s, measures.circuit))
    return {
        part: Component("failed" if part in failing else "ok", took_s * 1e3, failing.get(part), circuit)
        for part, took_s, circuit in parts
    }


def _federation(service: Service) -> dict[str, Component]:
    """The coordinator database, with the time of the last look at it. Syncs do not need it."""
    if service.settings.coordinator_url == NONE:
        return {}
    federation = service.federation
    status: Literal["ok", "failed"] = "failed" if federation.failing else "ok"
    return {"federation": Component(status, federation.looked_s * 1e3, federation.failing or None)}


def _probe(call: Callable[[], object]) -> Component:
    started_at = time.perf_counter()
    call()
    return Component("ok", (time.perf_counter() - started_at) * 1e3)

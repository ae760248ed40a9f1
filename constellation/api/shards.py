"""What the operator asks a shard about itself: `GET /api/v1/stats`, `/shards` and `/info`."""

import msgspec
from litestar import get
from litestar.di import NamedDependency

from constellation import __version__, limits
from constellation.api.operations import described
from constellation.api.replies import AnyRequest, Reply, reply
from constellation.api.service import Service
from constellation.federation.database import MapEntry
from constellation.wire.dictionary import newest, packaged


class Stats(msgspec.Struct):
    """One shard's counts, the round that it serves (0: none yet), and its last 4,096 syncs as measured."""

    shard_id: str
    region: str
    total_devices: int
    active_devices: int
    patterns_stored: int
    patterns_served: int
    content_items: int
    global_version: int
    index_lists: int
    prototypes: int
    federation_round: int
    bytes_resident: int
    sync_requests_per_min: float
    avg_sync_latency_ms: float
    p99_sync_latency_ms: float
    uptime_s: float


class ShardEntry(msgspec.Struct):
    """One shard of the map. `slots` is first and last of each of its ranges, one after the other."""

    id: str
    region: str
    url: str
    slots: list[int]
    devices: int
    status: str
    epoch: int


class Shards(msgspec.Struct):
    """The shard map."""

    shards: list[ShardEntry]


class Limits(msgspec.Struct):
    """What one shard and one sync can hold."""

    max_devices: int
    max_patterns: int
    max_patterns_per_device: int
    max_body_bytes: int
    max_compressed_bytes: int
    patterns_added_max: int
    patterns_changed_max: int
    similar_max: int
    trending_max: int
    quality_threshold: float
    serve_threshold: float


class Info(msgspec.Struct):
    """Who answers, and within which limits. `dictionaries` are those that it reads, `dictionary_version` the newest."""

    name: str
    version: str
    shard_id: str
    region: str
    limits: Limits
    grpc_port: int
    codebook_version: int
    dictionary_version: int
    dictionaries: list[int]


@get(
    "/api/v1/stats",
    opt=described(tag="shard", summary="Counts and latencies", reply=Stats, reply_text="All measured, at this moment."),
)
async def stats(request: AnyRequest, service: NamedDependency[Service]) -> Reply:
    held = service.stats()
    latencies = service.latencies
    return reply(
        request,
        Stats(
            shard_id=service.settings.shard_id,
            region=service.settings.region,
            **msgspec.structs.asdict(held),
            federation_round=service.federation.round,
            sync_requests_per_min=latencies.per_minute(),
            avg_sync_latency_ms=latencies.average_ms(),
            p99_sync_latency_ms=latencies.p99_ms(),
            uptime_s=service.clock() - service.started_at,
        ),
    )


@get(
    "/api/v1/shards",
    opt=described(tag="shard", summary="The shard map", reply=Shards, reply_text="Every shard of the map."),
)
async def shards(request: AnyRequest, service: NamedDependency[Service]) -> Reply:
    return reply(request, Shards([_entry(service, entry) for entry in service.map.shards]))


def _entry(service: Service, entry: MapEntry) -> ShardEntry:
    """This shard as it is now, others as the map last told."""
    mine = entry.shard_id == service.settings.shard_id
    return ShardEntry(
        id=entry.shard_id,
        region=entry.region,
        url=service.url if mine else entry.url,
        slots=[slot for ends in entry.slots for slot in ends],
        devices=service.stats().total_devices if mine else entry.devices,
        status=service.status if mine else "ready" if entry.live else "gone",
        epoch=service.map.epoch,
    )


@get(
    "/api/v1/info",
    opt=described(tag="shard", summary="Who answers, and its limits", reply=Info, reply_text="Name, version, limits."),
)
async def info(request: AnyRequest, service: NamedDependency[Service]) -> Reply:
    settings = service.settings
    held = Limits(
        max_devices=settings.max_devices,
        max_patterns=settings.max_patterns,
        max_patterns_per_device=settings.max_patterns_per_device,
        max_body_bytes=settings.max_body_bytes,
        max_compressed_bytes=settings.max_compressed_bytes,
        patterns_added_max=limits.ADDED_PER_DELTA_MAX,
        patterns_changed_max=limits.CHANGED_PER_DELTA_MAX,
        similar_max=limits.SIMILAR_MAX,
        trending_max=limits.TRENDING_MAX,
        quality_threshold=settings.quality_threshold,
        serve_threshold=settings.serve_threshold,
    )
    return reply(
        request,
        Info(
            name="constellation",
            version=__version__,
            shard_id=settings.shard_id,
            region=settings.region,
            limits=held,
            grpc_port=settings.public_grpc_port or int(service.grpc_address.rpartition(":")[2]),
            codebook_version=service.codebook.version,
            dictionary_version=newest(),
            dictionaries=list(packaged()),
        ),
    )

"""What the page is told, as types, and each made of the service in one short turn of the loop.

Everything is measured elsewhere and only read here. `map` is made by `drawing`.
"""

import math
from collections.abc import Iterable

import msgspec
import numpy as np

from constellation import __version__
from constellation.api.service import Service
from constellation.config import NONE
from constellation.errors import NotFound
from constellation.federation.database import RoundRow
from constellation.limits import AGGREGATES_DEVICES_MIN
from constellation.model import GENRE_PREFIX, ContentItem, Trend
from constellation.rounds import GLOBAL
from constellation.storage.write_behind import Circuit

PERCENTS = (50.0, 99.0, 99.9)
LATENCY_WINDOW_S = 10.0
"""Of which the percentiles are: one second of a small fleet is too few."""
TRENDS_SHOWN = 15


class Storage(msgspec.Struct):
    """How the journal and the way to the database do."""

    position: int
    journal_bytes: int
    commit_ms: float
    backlog_records: int
    backlog_age_s: float
    flush_ms: float
    flushes: int
    circuit: Circuit
    failing: dict[str, str]


class Federated(msgspec.Struct):
    """How the part in the federation does."""

    epoch: int
    round: int
    looked_ms: float
    failing: str


class Now(msgspec.Struct):
    """One second. Rates and percentiles are of syncs that were answered with 200; null where there was none."""

    at: float
    status: str
    uptime_s: float
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    devices: int
    active: int
    patterns: int
    served: int
    titles: int
    prototypes: int
    global_version: int
    codebook_version: int
    bytes_resident: int
    in_flight: int
    lag_ms: float
    listeners: int
    storage: Storage | None
    federation: Federated | None


class History(msgspec.Struct):
    """Who tells, and the last minutes: fields of `now` as columns, oldest first."""

    shard_id: str
    region: str
    version: str
    sharing: str
    url: str
    columns: dict[str, list[float | None]]


class Taste(msgspec.Struct):
    """Buckets with anything in them. None with fewer devices than `devices_min`."""

    codebook_version: int
    devices_min: int
    numbers: list[int]
    patterns: list[int]
    devices: list[int]
    success: list[float]


class TitledTrend(msgspec.Struct):
    """A trend; without a title in the shard's content it goes by its id."""

    content_id: str
    title: str
    score: float
    year: int | None = None
    genre: str = ""


class RegionTrends(msgspec.Struct):
    """The best of one region."""

    region: str
    trends: list[TitledTrend]


class Trends(msgspec.Struct):
    """Of the shard's region first, then of the others, then of all."""

    regions: list[RegionTrends]


class Round(msgspec.Struct):
    """As `constellation rounds` shows it; `opened_at` in unix seconds."""

    number: int
    state: str
    opened_at: float
    took_s: float
    expected: int
    reported: int
    devices: int
    patterns: int
    prototypes: int
    trends: int
    epsilon: float | None
    spent: float | None
    why: str


class Rounds(msgspec.Struct):
    """The last ones, newest first; `federated`: is there a coordinator database?"""

    federated: bool
    rounds: list[Round]


def history(service: Service) -> History:
    settings = service.settings
    columns = service.live.history.columns()
    return History(settings.shard_id, settings.region, __version__, settings.shares, service.url, columns)


def now(service: Service, syncs_before: int, since_s: float) -> Now:
    """`syncs_before`: the count of `latencies` so many seconds ago."""
    stats, latencies, live = service.stats(), service.latencies, service.live
    percentiles = latencies.percentiles_ms(PERCENTS, LATENCY_WINDOW_S)
    p50, p99, p999 = (None if math.isnan(value) else round(value, 3) for value in percentiles)
    lag_s, live.lag_s_max = live.lag_s_max, 0.0
    return Now(
        at=round(service.clock(), 3),
        status=service.status,
        uptime_s=service.clock() - service.started_at,
        rate=(latencies.count - syncs_before) / since_s,
        p50_ms=p50, p99_ms=p99, p999_ms=p999,
        devices=stats.total_devices,
        active=stats.active_devices,
        patterns=stats.patterns_stored,
        served=stats.patterns_served,
        titles=stats.content_items,
        prototypes=stats.prototypes,
        global_version=stats.global_version,
        codebook_version=service.shard.codebook_version,
        bytes_resident=stats.bytes_resident,
        in_flight=service.in_flight(),
        lag_ms=round(lag_s * 1e3, 3),
        listeners=len(live),
        storage=_storage(service),
        federation=_federated(service),
    )  # fmt: skip


def row(moment: Now) -> dict[str, object]:
    """The columns of the history."""
    fields = msgspec.structs.asdict(moment)
    if moment.storage is not None:
        fields |= msgspec.structs.asdict(moment.storage)
    return fields


def taste(service: Service) -> Taste:
    """About 0.5 ms."""
    found = service.shard.taste()
    devices_min = AGGREGATES_DEVICES_MIN if service.settings.shares == "aggregates" else 1
    if found is None:
        return Taste(0, devices_min, [], [], [], [])
    return Taste(
        codebook_version=found.codebook.version,
        devices_min=devices_min,
        numbers=found.numbers.tolist(),
        patterns=found.patterns.tolist(),
        devices=found.devices.tolist(),
        success=np.round(found.success.astype(np.float64), 3).tolist(),
    )


def trends(service: Service) -> Trends:
    mine = service.settings.region
    others = {entry.region for entry in service.map.shards} - {mine}
    regions = [mine, *sorted(others), *([GLOBAL] if service.settings.coordinator_url != NONE else [])]
    return Trends([RegionTrends(region, _best(service, region)) for region in regions])


def rounds(service: Service) -> Rounds:
    at = service.clock()
    federated = service.settings.coordinator_url != NONE
    return Rounds(federated, [_round(each, at) for each in service.live.rounds])


def genres(items: Iterable[ContentItem]) -> list[str]:
    """Every genre of every item: posted as one string, some in it."""
    told = ((item.metadata or {}).get("genre") or "" for item in items)
    return [genre.strip() for each in told for genre in each.replace("|", "/").replace(",", "/").split("/") if genre]


def titled(item: ContentItem) -> str:
    """With its year, where that is known and not in the title."""
    year = (item.metadata or {}).get("year")
    return f"{item.title} ({year})" if year else item.title


def _best(service: Service, region: str) -> list[TitledTrend]:
    found = service.shard.trending(TRENDS_SHOWN, service.clock(), region)
    return [_titled_trend(service, trend) for trend in found]


def _titled_trend(service: Service, trend: Trend) -> TitledTrend:
    if trend.content_id.startswith(GENRE_PREFIX):
        return TitledTrend(trend.content_id, trend.content_id.removeprefix(GENRE_PREFIX), trend.trending_score)
    try:
        item = service.shard.content(trend.content_id)
    except NotFound:  # of another shard
        return TitledTrend(trend.content_id, trend.content_id, trend.trending_score)
    genre = ", ".join(genres([item])[:2])
    return TitledTrend(trend.content_id, item.title, trend.trending_score, (item.metadata or {}).get("year"), genre)


def _round(row: RoundRow, at: float) -> Round:
    same = {name: getattr(row, name) for name in Round.__struct_fields__ if name != "opened_at"}
    return Round(opened_at=at - row.age_s, **same)


def _storage(service: Service) -> Storage | None:
    measures = service.keeper.measures()
    if measures is None:
        return None
    return Storage(
        position=measures.position,
        journal_bytes=measures.journal_bytes,
        commit_ms=measures.commit_s * 1e3,
        backlog_records=measures.backlog_records,
        backlog_age_s=measures.backlog_age_s,
        flush_ms=measures.flush_s * 1e3,
        flushes=measures.flushes,
        circuit=measures.circuit,
        failing=measures.failing,
    )


def _federated(service: Service) -> Federated | None:
    if service.settings.coordinator_url == NONE:
        return None
    state = service.federation
    return Federated(state.map_epoch, state.round, state.looked_s * 1e3, state.failing)

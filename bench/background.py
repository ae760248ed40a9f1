"""How long do storage and federation hold the event loop at worst?

What a process does beside answering, on a shard that is restored from what a load left (`kept`), with a real embedded
PostgreSQL: restoring, from the database and from a snapshot; commits, flushes, trimming the journal and moving its log,
a snapshot; regrouping under another codebook, a partial for a round, taking a round over. Timed as in `turns`.
"""

import asyncio
import gc
import itertools
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import kept, sync_http, workload
from bench.crowd import Crowd
from bench.loaded import load_shard
from bench.plan import Answers, Plan
from bench.watch import Watch, watched
from constellation import limits
from constellation.codebook import build, default_codebook
from constellation.config import Settings
from constellation.federation import FederationCoordinator
from constellation.model import SyncRequest
from constellation.rounds import FederationResult
from constellation.shard import Shard
from constellation.storage import snapshot
from constellation.storage.keeper import JournaledKeeper

SYNCS = 10_000
SYNCS_A_COMMIT = 16
SHARDS = 4
BUCKETS_MAX, TITLES_MAX = 1_024, 10_000
"""Of the round that is taken over."""


class Material(NamedTuple):
    """What the shard is given to do; it holds what is kept in the settings' directory."""

    settings: Settings
    syncs: Iterator[SyncRequest]
    now: float
    result: FederationResult


def measure(plan: Plan) -> Answers:
    loaded = load_shard(plan)
    rng = plan.rng("background")
    part = workload.load_library(plan.patterns, plan.seed).known
    crowd = Crowd(part, SHARDS, min(BUCKETS_MAX, plan.patterns // 20), min(TITLES_MAX, plan.content_items), rng)
    partials = (crowd.partial(shard_id) for shard_id in crowd.terms.shards)
    result = FederationCoordinator(crowd.terms).run_federation(partials)
    syncs = iter(list(sync_http.mix(loaded.households, part, 2 * min(SYNCS, plan.patterns), 1, rng)))
    with tempfile.TemporaryDirectory() as directory:
        settings = kept.settings_in(directory, plan)
        kept.fill(settings, loaded.shard)
        yield from watched(plan, lambda watch: _live(watch, Material(settings, syncs, loaded.now, result)))


async def _live(watch: Watch, material: Material) -> None:
    settings = material.settings
    snapshot.drop(Path(settings.data_dir))
    async with kept.opened(settings) as keeper:
        await _restore(watch, "the database", keeper, Shard(settings, material.now))
    async with kept.opened(settings) as keeper:
        shard = Shard(settings, material.now)
        await _restore(watch, "the snapshot", keeper, shard)
        while await watch.turn("upkeep after a start", shard.maintain):
            pass
        await _keep(watch, keeper, shard, material)
        await _federate(watch, shard, material.result)


async def _restore(watch: Watch, source: str, keeper: JournaledKeeper, shard: Shard) -> None:
    await watch.turns_of(f"reading {source}", keeper.restore(shard))
    await watch.turns_of(f"getting ready after {source}", _steps(shard.restored()))
    keeper.begin(shard)
    gc.collect()
    gc.freeze()  # as a server does before it opens


async def _keep(watch: Watch, keeper: JournaledKeeper, shard: Shard, material: Material) -> None:
    journal, write_behind = keeper.journal, keeper.write_behind
    assert write_behind is not None

    def take(syncs: Iterator[SyncRequest]) -> None:
        for request in syncs:
            shard.apply(request, material.now)
            keeper.keep(shard.change)

    for _ in range(SYNCS // SYNCS_A_COMMIT):
        take(itertools.islice(material.syncs, SYNCS_A_COMMIT))
        await watch.turn("a commit", journal.commit)
    await watch.turns_of("a flush", write_behind.flush())
    moving = asyncio.create_task(asyncio.to_thread(journal.checkpoint))
    while not moving.done():
        take(itertools.islice(material.syncs, SYNCS_A_COMMIT))
        await watch.turn("a commit while the log is moved", journal.commit)
    await moving
    now = time.time() + 1
    most = write_behind.flushed, now, limits.JOURNAL_TRIMMED_PER_STEP_MAX
    while await watch.turn("trimming the journal", journal.trim, *most):
        pass
    snapshots = snapshot.Snapshots(Path(material.settings.data_dir), journal, 1, journal.commit)
    await watch.turns_of("taking a snapshot", snapshots.take(shard))


async def _federate(watch: Watch, shard: Shard, result: FederationResult) -> None:
    codebook = default_codebook()
    newer = build(codebook.version + 1, codebook.sections)
    await watch.turn("another codebook", shard.use, newer)
    while await watch.turn("grouping by another codebook", shard.maintain):
        pass
    partial = await watch.turns_of("a partial for a round", shard.partial(1, 1, newer.version))
    published = msgspec.structs.replace(result, codebook_version=newer.version)
    await watch.turn("taking a round over", shard.publish, published, partial)


def _steps(steps: Iterator[None]) -> Generator[None, None, None]:
    yield from steps

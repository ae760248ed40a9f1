"""How long does the event loop stand still at worst?

One turn on a real uvloop is timed for everything a shard is made to do: growing, answering, upkeep, content posts, the
largest delta allowed, the turn of an hour, samples, forgetting devices, letting others expire, collecting garbage
(`watch`).
"""

import asyncio
import gc

import numpy as np

from bench import workload
from bench.plan import Answers, Plan, tracked
from bench.watch import Watch, watched
from bench.workload import Households, Part
from constellation import limits
from constellation.config import Settings
from constellation.model import ContentItem
from constellation.shard import Shard

ANSWER_EVERY = 10
CONTENT_EVERY = 5
FORGOTTEN = 500
LARGE_DELTAS = 50
HOURS = 24
SAMPLES = 10
COLLECTIONS = 10


def measure(plan: Plan) -> Answers:
    yield from watched(plan, lambda watch: _live(watch, plan))


async def _live(watch: Watch, plan: Plan) -> None:
    rng = plan.rng("turns")
    part = workload.load_library(plan.patterns, plan.seed).known
    shard = Shard(workload.shard_settings(plan.patterns))
    life = _Life(watch, shard, part, rng)
    households = workload.make_households(part, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    upkeep = asyncio.create_task(life.keep_up())
    try:
        await life.grow(households)
        await life.take_large_deltas(households)
        await life.let_hours_pass()
        for _ in range(SAMPLES):
            await life.draw_sample()
        await life.forget(households)
        await life.expire()
        for _ in range(COLLECTIONS):
            await watch.turn("gc.collect()", gc.collect)
    finally:
        upkeep.cancel()


class _Life:
    """What happens to a shard, a turn at a time."""

    def __init__(self, watch: Watch, shard: Shard, part: Part, rng: np.random.Generator) -> None:
        self._watch, self._shard, self._part, self._rng = watch, shard, part, rng
        self._now = float(workload.START_S)

    async def keep_up(self) -> None:
        """As `api.background` does."""
        while True:
            if not await self._watch.turn("upkeep", self._shard.maintain):
                await asyncio.sleep(limits.MAINTAIN_EVERY_MS / 1e3)

    async def grow(self, households: Households) -> None:
        requests = tracked(workload.first_syncs(households, self._rng), "growing", len(households))
        for number, request in enumerate(requests):
            self._now += workload.TICK_S
            await self._watch.turn("growing, ten patterns a sync", self._shard.apply, request, self._now)
            if number % ANSWER_EVERY == 0:
                await self._answer(request.device_id)
            if number % CONTENT_EVERY == 0:
                await self._post(number)

    async def take_large_deltas(self, households: Households) -> None:
        """100 added and 1,000 changed patterns: what the contract allows at most."""
        for number in range(min(LARGE_DELTAS, len(households))):
            ids = workload.make_ids(limits.ADDED_PER_DELTA_MAX, self._rng)
            films = self._part.draw(len(ids), self._rng)
            added = workload.make_batch(ids, self._part.patterns(films, self._rng), self._rng)
            changed = ids[self._rng.integers(0, len(ids), limits.CHANGED_PER_DELTA_MAX)]
            updates = workload.make_updates(changed, self._rng)
            request = workload.make_request(households.device_ids[number].tobytes(), added, updates)
            await self._watch.turn("the largest delta", self._shard.apply, request, self._now)
            await self._answer(request.device_id)

    async def let_hours_pass(self) -> None:
        for _ in range(HOURS):
            self._now += 3_600
            await self._watch.turn("an hour begins", self._shard.trending, limits.TRENDING_MAX, self._now)

    async def draw_sample(self) -> None:
        pieces = self._shard.sample(limits.SAMPLE_MAX, self._rng)
        while await self._watch.turn("drawing a sample", lambda: next(pieces, None)) is not None:
            pass

    async def forget(self, households: Households) -> None:
        for device_id in households.device_ids[:FORGOTTEN]:
            await self._watch.turn("forgetting a device", self._shard.forget, device_id.tobytes(), self._now)

    async def expire(self) -> None:
        """All that are left, who did not sync for long."""
        late = self._now + (Settings().device_ttl_days + 1) * limits.DAY_S
        while await self._watch.turn("devices expire", self._shard.expire, late):
            pass

    async def _answer(self, device_id: bytes) -> None:
        await self._watch.turn("answering", self._shard.answer, device_id, workload.EVERYTHING)

    async def _post(self, number: int) -> None:
        """Every third post replaces a title, so that the content graph is rebuilt now and then."""
        title = number if number % 3 else number // 2
        code = self._part.patterns(self._part.draw(1, self._rng), self._rng)[0]
        item = ContentItem(f"title:{title}", f"Title {title}", code, None)
        await self._watch.turn("posting content", self._shard.put_content, item, self._now)

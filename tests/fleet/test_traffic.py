"""The loop is open: what a slow or failing shard costs a TV is seen, not skipped."""

import asyncio
import random
from typing import Any

from constellation.client import SyncReport, Unreachable
from constellation.fleet.traffic import Tally, Traffic
from constellation.model import Accepted


class SlowTv:
    """A TV whose syncs take `seconds` each, one after the other, or fail. Stands in for shard and network."""

    def __init__(self, seconds: float, failure: Exception | None = None) -> None:
        self.client: Any = self
        self.trending: list[object] = []
        self._seconds = seconds
        self._failure = failure
        self._syncing = asyncio.Lock()

    def live(self) -> None:
        pass

    async def sync(self) -> SyncReport:
        async with self._syncing:
            await asyncio.sleep(self._seconds)
        if self._failure:
            raise self._failure
        return SyncReport(Accepted(added=1), 1, 10, 20, reset=True)


def run(tvs: list[Any], interval_s: float, duration_s: float) -> Tally:
    async def go() -> Tally:
        traffic = Traffic(tvs, interval_s, random.Random(1))
        await traffic.run(duration_s)
        return traffic.tally

    return asyncio.run(go())


def test_latency_counts_from_when_the_sync_was_due() -> None:
    tally = run([SlowTv(0.05)], interval_s=0.01, duration_s=0.3)
    assert tally.syncs >= 15, "a slow answer does not slow the timetable"
    assert tally.latencies.quantile_s(0.5) > 0.25, "and the queue that grows is seen"


def test_each_tv_keeps_its_pace() -> None:
    tally = run([SlowTv(0) for _ in range(50)], interval_s=0.1, duration_s=0.5)
    assert 50 * 3 <= tally.syncs <= 50 * 7
    assert (tally.bytes_up, sum(tally.cold), len(tally.warm)) == (10 * tally.syncs, 20 * tally.syncs, 0)
    assert tally.accepted["added"] == tally.syncs


def test_failures_are_counted_by_what_they_say_and_no_latency_is() -> None:
    tally = run([SlowTv(0, Unreachable("away")), SlowTv(0, ValueError("bug"))], interval_s=0.1, duration_s=0.15)
    assert set(tally.errors) == {"Unreachable: away", "ValueError: bug"}
    assert tally.failed >= 2 and tally.syncs == 0


def test_errors_of_many_kinds_take_bounded_room() -> None:
    tally = Tally()
    for number in range(1_000):
        tally.error(str(number))
    assert tally.failed == 1_000 and len(tally.errors) <= 21

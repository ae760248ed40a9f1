"""When TVs sync, and what came of it: an open loop, so that a slow server is seen as slow.

Each TV has its own jittered timetable, made without regard to how long its syncs take. A latency counts from the moment
the sync was due, so that time spent waiting for a connection, or for the TV's previous sync, is part of it.
"""

import asyncio
import collections
import heapq
import random
import time
from array import array
from collections.abc import Sequence

from constellation.client import Client, SyncReport
from constellation.fleet.latencies import Latencies
from constellation.fleet.tv import Tv
from constellation.model import Trend

JITTER = 0.5
"""Two syncs of a TV are (1 - JITTER) to (1 + JITTER) times the mean interval apart."""
GRACE_S = 30.0
"""Syncs under way at the end get this long; what is not answered by then is an error."""
ERRORS_KEPT_MAX = 20


class Tally:
    """What the fleet has seen so far."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.ended: float | None = None
        self.latencies = Latencies()
        self.lateness = Latencies()
        self.bytes_up = 0
        self.cold, self.warm = array("I"), array("I")
        """Bytes of each reply: with a whole list of patterns, with what changed."""
        self.repeated = 0
        self.cpu_s = 0.0
        self.accepted: collections.Counter[str] = collections.Counter()
        self.errors: collections.Counter[str] = collections.Counter()
        self.trending: list[Trend] = []

    @property
    def syncs(self) -> int:
        return self.latencies.count

    @property
    def failed(self) -> int:
        return self.errors.total()

    def answered(self, report: SyncReport, client: Client, latency_s: float) -> None:
        self.latencies.observe(latency_s)
        self.bytes_up += report.bytes_up
        (self.cold if report.reset else self.warm).append(report.bytes_down)
        self.repeated += report.attempts - 1
        for name in ("added", "filtered", "evicted", "updated", "removed", "rejected"):
            self.accepted[name] += getattr(report.accepted, name)
        if client.trending:
            self.trending = client.trending

    def error(self, text: str, count: int = 1) -> None:
        known = text in self.errors or len(self.errors) < ERRORS_KEPT_MAX
        self.errors[text if known else "other"] += count

    def merge(self, other: "Tally") -> None:
        """Add what another part of the fleet saw, on the same machine's clock."""
        self.started = min(self.started, other.started)
        self.ended = max(filter(None, (self.ended, other.ended)), default=None)
        self.latencies.merge(other.latencies)
        self.lateness.merge(other.lateness)
        self.bytes_up += other.bytes_up
        self.cold.extend(other.cold)
        self.warm.extend(other.warm)
        self.repeated += other.repeated
        self.cpu_s += other.cpu_s
        self.accepted.update(other.accepted)
        for text, count in other.errors.items():
            self.error(text, count)
        self.trending = other.trending or self.trending


class Traffic:
    """The timetable of all TVs, and the tasks that carry it out."""

    def __init__(self, tvs: Sequence[Tv], interval_s: float, rng: random.Random) -> None:
        self.tally = Tally()
        self._tvs = tvs
        self._interval_s = interval_s
        self._rng = rng
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, duration_s: float) -> None:
        """Sync until the time is over, then wait for what is under way."""
        now = time.monotonic
        self.tally.started, cpu_started = now(), time.process_time()
        end = now() + duration_s
        timetable = [(now() + self._rng.random() * self._interval_s, number) for number in range(len(self._tvs))]
        heapq.heapify(timetable)
        try:
            while timetable[0][0] < end:
                due, number = timetable[0]
                if due > now():
                    await asyncio.sleep(due - now())
                self._start(self._tvs[number], due)
                heapq.heapreplace(timetable, (due + self._pause_s(), number))
            await asyncio.sleep(max(0.0, end - now()))
        finally:
            self.tally.ended = now()
            await self._finish()
            self.tally.cpu_s = time.process_time() - cpu_started

    def _pause_s(self) -> float:
        return self._interval_s * (1 - JITTER + 2 * JITTER * self._rng.random())

    def _start(self, tv: Tv, due: float) -> None:
        task = asyncio.create_task(self._sync(tv, due))
        self._under_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.tally.error(f"{type(error).__name__}: {error}")

    async def _sync(self, tv: Tv, due: float) -> None:
        self.tally.lateness.observe(time.monotonic() - due)
        tv.live()
        report = await tv.client.sync()
        self.tally.answered(report, tv.client, time.monotonic() - due)

    async def _finish(self) -> None:
        if not self._under_way:
            return
        _, unanswered = await asyncio.wait(self._under_way, timeout=GRACE_S)
        for task in unanswered:
            task.cancel()
            self.tally.error(f"no answer {GRACE_S:.0f} s after the end")

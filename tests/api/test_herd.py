"""A herd, simulated: everybody comes back after the shard was away, and one in a hundred ignores all that it is told.

The rules are the real ones (`api/admission.py`, `shard/devices.py`); the shard is a queue with one server, and time is
counted. Devices do what `constellation.client` does: a refused one comes again after `Retry-After` and a random while,
one that was served when it was told to. `CONSTELLATION_SOAK=1`: ten times the herd.
"""

import heapq
import itertools
import os
import random
from collections import Counter, deque

import pytest

from constellation import limits
from constellation.api.admission import CAPACITY_FIRST_PER_S, Admission, Class
from constellation.config import Settings
from constellation.shard.devices import Devices
from tests.shard.material import START, id_of

SYNC_S = 1e-3
REFUSAL_S = 0.035e-3
RATE_LIMITED_S = 0.2e-3
"""About what `python -m bench overload` measures."""
HERD = 100_000 if os.environ.get("CONSTELLATION_SOAK") else 10_000
OFFERED = 10
"""Times as many as can be served come at first."""
IGNORING = 0.01
IMPATIENT_S = HERD * IGNORING * SYNC_S / 0.4
"""After which one that ignores every hint asks again, refused or served: two fifths of the capacity by all of them."""
SAMPLE_S = 0.05


class Simulation:
    """Events in the order of their time; the loop reads whatever has come when it is free, and serves in order."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.admission = Admission(lambda: len(self._queue), lambda: self.now, self.rng.random)
        self.served_at: dict[int, list[float]] = {device: [] for device in range(HERD)}
        self.refused: Counter[int] = Counter()
        self._settings = Settings()
        self._devices = Devices(HERD, seed=1)
        self._rows = [self._devices.add(id_of(device)) for device in range(HERD)]
        self._queue: deque[int] = deque()
        self._ties = itertools.count()
        self._arrivals: list[tuple[float, int, int]] = []
        self._sampled_at, self._sample_due, self._worked_s = 0.0, SAMPLE_S, 0.0
        for device in range(HERD):
            self._come(device, self.rng.random() * HERD * SYNC_S / OFFERED)

    def run(self, until_s: float) -> None:
        while self.now < until_s:
            self._read()
            if self._queue:
                self._serve(self._queue.popleft())
            else:
                self.now = max(self.now, min(self._arrivals[0][0], self._sample_due))
            if self.now >= self._sample_due:
                self.admission.sample(self.now - self._sampled_at, self._worked_s, 0.0)
                self._sampled_at, self._sample_due, self._worked_s = self.now, self.now + SAMPLE_S, 0.0

    def ignores(self, device: int) -> bool:
        return device < HERD * IGNORING

    def served_between(self, start_s: float, end_s: float) -> int:
        return sum(start_s <= at < end_s for times in self.served_at.values() for at in times)

    def expected(self) -> list[tuple[int, float]]:
        """Devices, and when each of them comes again."""
        return [(device, at) for at, _, device in self._arrivals]

    def _read(self) -> None:
        """All that has come; each is refused at once, or waits."""
        while self._arrivals and self._arrivals[0][0] <= self.now:
            device = heapq.heappop(self._arrivals)[2]
            if self.admission.has_room(Class.TELLING if device % 3 == 0 else Class.QUIET):
                self._queue.append(device)
            else:
                self._refuse(device)

    def _refuse(self, device: int) -> None:
        self._work(REFUSAL_S)
        retry_after_s = self.admission.overloaded("no_room").retry_after_s
        backoff_s = min(60.0, 0.5 * 2 ** min(self.refused[device], 10))
        self.refused[device] += 1
        self._come_later(device, retry_after_s + self.rng.random() * backoff_s)

    def _serve(self, device: int) -> None:
        per_s, burst = self._settings.device_syncs_per_min / 60, self._settings.device_burst
        if self._devices.spend(self._rows[device], START + self.now, per_s, burst):
            self._work(RATE_LIMITED_S)
            self.admission.answered(429)
        else:
            self._work(SYNC_S)
            self.admission.answered(200)
            self.served_at[device].append(self.now)
        told = self.admission.next_sync
        self._come_later(device, told.after_s + self.rng.random() * told.within_s)

    def _come_later(self, device: int, hint_s: float) -> None:
        self._come(device, self.now + (IMPATIENT_S if self.ignores(device) else hint_s))

    def _come(self, device: int, at: float) -> None:
        heapq.heappush(self._arrivals, (at, next(self._ties), device))

    def _work(self, seconds: float) -> None:
        self.now += seconds
        self._worked_s += seconds


@pytest.fixture(scope="module")
def herd() -> Simulation:
    """After a time in which the bursts of those that ignore every hint are over, too, if they come so often."""
    simulation = Simulation(seed=1)
    settings = Settings()
    beyond_per_s = 1 / IMPATIENT_S - settings.device_syncs_per_min / 60
    over_s = settings.device_burst / beyond_per_s if beyond_per_s > 0 else 0.0
    simulation.run(4 * HERD * SYNC_S + over_s + 30)
    return simulation


def test_goodput_stays_at_nine_tenths_of_the_capacity_until_all_were_served(herd: Simulation) -> None:
    obeying = [times for device, times in herd.served_at.items() if not herd.ignores(device)]
    assert all(obeying), "somebody was never served"
    first = sorted(times[0] for times in obeying)
    # At the full capacity the herd alone takes 1; those that ignore every hint take a large part of it, too.
    assert first[-1] <= 4 * HERD * SYNC_S
    most = first[len(first) * 9 // 10]  # the last ones wait for the time that they were told, not for room
    assert herd.served_between(0, most) >= 0.9 * most / SYNC_S
    # Nobody has been told to wait yet: nine refusals for each that is served take a third of the first second.
    assert herd.served_between(0, 1) >= 0.6 / SYNC_S


def test_who_obeys_is_refused_a_few_times_at_most(herd: Simulation) -> None:
    refused = [herd.refused[device] for device in range(HERD) if not herd.ignores(device)]
    assert sum(refused) / len(refused) < 3 and max(refused) < 15


def test_the_herd_comes_back_spread_over_the_time_it_was_told(herd: Simulation) -> None:
    busiest = max(Counter(int(at) for device, at in herd.expected() if not herd.ignores(device)).values())
    assert busiest < 0.1 / SYNC_S, "of a capacity, where at first ten came"


def test_all_is_as_before_without_anybody_doing_anything(herd: Simulation) -> None:
    assert herd.admission.load < 0.7 and not herd.admission.flooded
    assert herd.admission.next_sync.after_s == limits.NEXT_SYNC_AFTER_S
    assert CAPACITY_FIRST_PER_S < herd.admission.capacity_per_s < 1.1 / SYNC_S

"""Who gets in while more comes than can be served, who waits how long, and how loaded the shard is.

Requests that are here and not answered are bounded, by class: what can wait is refused first. Who is refused gets a
place in a timetable that is as dense as the shard has shown to serve, and somewhat denser, so that it does not run idle
for those who do not come. Who is served is sent away for longer, the more loaded the shard is. Counts, and a clock that
is given; called by the edge for every request, by the background for every sample.
"""

import math
import random
import time
from collections.abc import Callable
from enum import IntEnum
from http import HTTPStatus
from typing import Literal

from constellation import limits
from constellation.errors import Overloaded
from constellation.model import NextSync

SMOOTHED_OVER_S = 5.0
LAG_FULL_S = 0.25
"""A loop that runs this late is fully loaded, whatever share of a core it gets."""
LOAD_CALM = 0.7
"""Up to here devices come as often as ever."""
CAPACITY_FIRST_PER_S = 500.0
"""What a shard is taken to serve until it was overloaded once and has shown it."""
OVERBOOKED = 1.5
"""Times as many refused requests are asked to come again as the shard serves."""

Shed = Literal["no_room", "waited", "deadline", "slow_bodies"]
SHED: dict[Shed, str] = {
    "no_room": "too many requests are in flight",
    "waited": f"it waited more than {limits.QUEUED_S_MAX:g} s for its turn",
    "deadline": "its deadline passed before its turn came",
    "slow_bodies": "too much is held of bodies that come slowly",
}
"""Why a request is refused that may be served another time -> as it is told."""

_PATHS_VITAL = ("/health", "/metrics")
_PATH_SYNC = "/api/v1/sync"


class Class(IntEnum):
    """What a request may expect when not all can be served; the first waits first."""

    OTHER = 0
    QUIET = 1
    """A sync that brings no new pattern."""
    TELLING = 2
    VITAL = 3
    """Health and metrics: they cost little, and who judges the process by them must not take it for dead."""


PLACES = {
    Class.OTHER: limits.IN_FLIGHT_OTHER_MAX,
    Class.QUIET: limits.IN_FLIGHT_QUIET_MAX,
    Class.TELLING: limits.IN_FLIGHT_MAX,
    Class.VITAL: math.inf,
}
"""Requests that may be in flight where one of this class is taken."""


def classify(method: str, path: str, body_bytes: int | None) -> Class:
    """Of an HTTP request; `body_bytes` as declared, None if they are not."""
    if method == "POST" and path == _PATH_SYNC:
        return Class.QUIET if body_bytes is not None and body_bytes <= limits.QUIET_BODY_BYTES_MAX else Class.TELLING
    return Class.VITAL if path.startswith(_PATHS_VITAL) else Class.OTHER


class Admission:
    """One for a process. `in_flight`: requests accepted and not answered, at any moment."""

    def __init__(
        self,
        in_flight: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._in_flight, self._clock, self._draw = in_flight, clock, draw
        self.awaiting_client = 0
        """Requests in flight that wait for bytes of their own client: they take no place."""
        self.body_bytes = 0
        """Held of bodies that came in part."""
        self.load = 0.0
        """0: idle; 1: all that it can, smoothed."""
        self.capacity_per_s = CAPACITY_FIRST_PER_S
        self.flooded = False
        """Are more refused than can be served? Then even refusing takes much of what there is."""
        self.spare_s = 0.0
        """Worked since the last sample on what fills the time that requests leave."""
        self.next_sync = next_sync_at(0.0)
        """What a device that is served now is told."""
        self.shed: dict[str, int] = {why: 0 for why in SHED}
        """Requests refused since the start."""
        self._served = self._refused = 0
        self._booked_to_s = 0.0

    @property
    def queued(self) -> int:
        return self._in_flight() - self.awaiting_client

    @property
    def crowded(self) -> bool:
        """Is anybody refused at the moment?"""
        return self._in_flight() - self.awaiting_client >= limits.IN_FLIGHT_OTHER_MAX

    def has_room(self, kind: Class) -> bool:
        """For one more request of this class."""
        return self.queued < PLACES[kind]

    def answered(self, status: int) -> None:
        """One more was; what was refused cost little, and says nothing about how much can be served."""
        self._served += status < HTTPStatus.BAD_REQUEST

    def overloaded(self, why: Shed) -> Overloaded:
        """The refusal of one more request, with a place in the timetable."""
        self.shed[why] += 1
        return Overloaded(SHED[why], retry_after_s=self._book())

    def _book(self) -> int:
        """One more is refused; the seconds after which it may come again, by a place in the timetable."""
        self._refused += 1
        now = self._clock()
        booked_to_s = max(now, self._booked_to_s) + 1 / (OVERBOOKED * self.capacity_per_s)
        self._booked_to_s = min(booked_to_s, now + limits.RETRY_AFTER_S_MAX)
        return self.jittered(self._booked_to_s - now)

    def jittered(self, wait_s: float) -> int:
        """Whole seconds around these, so that who was refused together does not come again together."""
        return 1 + int(wait_s * (0.5 + self._draw()))

    def sample(self, elapsed_s: float, worked_s: float, lag_s: float) -> None:
        """What the loop did since the last sample: seconds it worked, and how late it ran a timer."""
        kept = math.exp(-elapsed_s / SMOOTHED_OVER_S)
        busy = max(0.0, worked_s - self.spare_s) / elapsed_s
        now_loaded = 1.0 if self._refused else min(1.0, max(busy, lag_s / LAG_FULL_S))
        self.load = kept * self.load + (1 - kept) * now_loaded
        if self._refused:
            kept = math.exp(-elapsed_s)
            self.capacity_per_s = max(1.0, kept * self.capacity_per_s + (1 - kept) * self._served / elapsed_s)
        self.flooded = self._refused > elapsed_s * self.capacity_per_s
        self.next_sync = next_sync_at(self.load)
        self._served = self._refused = 0
        self.spare_s = 0.0


def next_sync_at(load: float) -> NextSync:
    """When a device that is served now should come back: later under load, and spread wider by as much."""
    over = min(1.0, max(0.0, (load - LOAD_CALM) / (1 - LOAD_CALM)))
    stretch = limits.NEXT_SYNC_STRETCH_MAX**over
    return NextSync(
        after_s=round(stretch * limits.NEXT_SYNC_AFTER_S), within_s=round(stretch * limits.NEXT_SYNC_WITHIN_S)
    )

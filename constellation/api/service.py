"""What one process owns: its settings, the shard, the clock, its measurements, and whether it takes work.

The only object that the handlers, the background tasks and the server share. Loading -> ready -> draining, or failed
for as long as a part that syncs need is broken; only a ready service admits a change.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from constellation import limits
from constellation.api.access_log import AccessLog
from constellation.api.admission import Admission
from constellation.api.hiding import Hiding
from constellation.api.latencies import Latencies
from constellation.api.metrics import Metrics
from constellation.api.page.listeners import Live
from constellation.api.slot_map import alone
from constellation.api.tracing import Tracer
from constellation.codebook import Codebook
from constellation.config import Settings
from constellation.errors import Draining, Moving, NotReady, Unavailable, WrongShard
from constellation.identity import Identity, Tls, open_identity
from constellation.model import ShardStats
from constellation.shard import Shard
from constellation.slots import slot_of
from constellation.storage.keeper import Keeper, NothingKept

STORAGE = "storage"
"""The part whose failure ends the process: another one owns the shard, or nothing can be kept."""


class Federation:
    """How the shard's part in the federation stands."""

    def __init__(self) -> None:
        self.map_epoch = 0
        """Of the map that came from the coordinator database; 0 before the first."""
        self.round = 0
        """Number of the one that is served; 0 before the first."""
        self.looked_s = 0.0
        self.failing = ""
        """Why the last look at the coordinator database failed, if it did."""


class Service:
    """Made once by `server.serve`, or by a test with a clock of its own."""

    def __init__(
        self,
        settings: Settings,
        shard: Shard,
        codebook: Codebook,
        clock: Callable[[], float] = time.time,
        keeper: Keeper | None = None,
        tracer: Tracer | None = None,
        hiding: Hiding | None = None,
        identity: Identity | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.settings = settings
        self.shard = shard
        self.codebook = codebook
        self.clock = clock
        self.keeper: Keeper = keeper or NothingKept()
        self.tracer = tracer or Tracer()
        self.hiding = hiding or Hiding()
        self.identity = identity or open_identity(settings)
        self.tls = tls
        self.files_written = asyncio.Event()
        """Set when keys, revocations and certificates have to be read again at once."""
        self.url = f"http://{settings.host}:{settings.port}"
        self.grpc_address = f"{settings.host}:{settings.grpc_port}"
        self.federation = Federation()
        self.map = alone(settings.shard_id, settings.region)
        self.started_at = clock()
        self.latencies = Latencies(limits.LATENCY_SAMPLES)
        self.metrics = Metrics(self)
        self.live = Live()
        self.access_log = AccessLog(self.hiding) if settings.access_log else None
        self.in_flight: Callable[[], int] = lambda: 0
        """Requests accepted and not answered yet, those that wait for their first turn of the loop included; without
        those of `live`, which go on until somebody leaves."""
        self.connections: Callable[[], int] = lambda: 0
        """Open ones of the API port, and of HTTP/3."""
        self.admission = Admission(lambda: self.in_flight())
        self.on_failure: Callable[[], None] = lambda: None
        """Called when this process must end, because it may not keep anything any more."""
        self.loop_lag_s = 0.0
        self.loop_lag_s_max = 0.0
        self.opened = asyncio.Event()
        """Set while all is loaded."""
        self._closed_by: type[Unavailable] = NotReady
        self._draining = False
        self._broken: dict[str, str] = {}

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def broken(self) -> dict[str, str]:
        """Parts that syncs need and that broke -> why."""
        return dict(self._broken)

    @property
    def status(self) -> Literal["ready", "loading", "draining", "failed"]:
        """As the shard map tells it."""
        if self._draining:
            return "draining"
        if self._broken:
            return "failed"
        return "ready" if self.opened.is_set() else "loading"

    def open(self) -> None:
        """All is loaded and warm."""
        self.opened.set()

    def close(self, why: type[Unavailable]) -> None:
        """What was loaded may not be served any more, until it is loaded anew."""
        self.opened.clear()
        self._closed_by = why

    def drain(self) -> None:
        """Take no new work; what is in flight finishes, and what would never do so ends."""
        self._draining = True
        self.live.end()

    def fail(self, part: str, why: str) -> None:
        """A part that syncs need broke: not ready until the process is replaced."""
        self._broken[part] = why
        if part == STORAGE:
            self.on_failure()

    def refusal(self) -> Unavailable | None:
        """Why this process is not ready, or None when it is."""
        retry_after_s = self.admission.jittered(limits.RETRY_AFTER_S)  # all devices hear it
        if self._draining:
            return Draining("this process is stopping", retry_after_s=retry_after_s)
        if self._broken:
            return NotReady(f"out of order: {', '.join(sorted(self._broken))}", retry_after_s=retry_after_s)
        if not self.opened.is_set():
            return self._closed_by("the shard is still loading", retry_after_s=retry_after_s)
        return None

    def admit(self) -> None:
        """Raises `Draining`, `NotReady` or `Overloaded` when no new work is taken; called before a body is read."""
        refusal = self.refusal()
        if refusal is not None:
            raise refusal
        if self.admission.queued > limits.IN_FLIGHT_MAX:
            raise self.admission.overloaded("no_room")

    def admit_device(self, device_id: bytes) -> None:
        """Raises `WrongShard` for a device whose slot another shard has, `Moving` while it is on its way there.

        And `NotReady` while nobody has the slot: whoever gets it later must not find the device on two shards.
        """
        slot = slot_of(device_id)
        owner = self.map.owner(slot)
        if owner is None:
            raise NotReady("no shard of the map has the device's slot", retry_after_s=limits.RETRY_AFTER_S)
        if owner.shard_id != self.settings.shard_id:
            raise WrongShard(f"the device belongs to shard {owner.shard_id}", url=owner.url)
        if slot in self.map.leaving:
            raise Moving("the device goes to another shard", retry_after_s=limits.MOVING_RETRY_AFTER_S)

    def admit_change(self) -> None:
        """Raises `StorageFailed` or what `refusal` says; called in the turn of the loop that changes the shard."""
        refusal = self.refusal()
        if refusal is not None and not self._draining:
            raise refusal
        self.keeper.admit()

    def keep(self) -> int:
        """Write down what the last call changed in the shard; the position that its reply waits for."""
        return self.keeper.keep(self.shard.change)

    def stats(self) -> ShardStats:
        return self.shard.stats(self.clock())

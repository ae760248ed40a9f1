"""One shard: the patterns of its devices and the rules by which they change. The one owner of all state.

`apply` takes a delta in, as a whole or not at all; `answer` says what the device learns from the others. No I/O, no
clock, no randomness in what is decided: the same state, delta and time give the same state again.
Called by `api`, one call at a time; no method waits.
"""

import secrets

from constellation.config import Settings
from constellation.digest import answer_digest
from constellation.errors import SequenceConflict, ShardFull
from constellation.limits import RETRY_AFTER_S
from constellation.model import (
    Accepted,
    Answer,
    Applied,
    ContentItem,
    Delta,
    ShardStats,
    SyncOptions,
    SyncRequest,
    Trend,
)
from constellation.shard.asking import Asking
from constellation.shard.devices import BYTES_PER_DEVICE
from constellation.shard.patterns import BYTES_PER_PATTERN
from constellation.shard.tables import Tables
from constellation.shard.taking import Moment, Taking


class Shard:
    """All state of one shard, empty at first, bounded by the settings."""

    def __init__(self, settings: Settings, now: float = 0.0) -> None:
        """`now` (unix seconds): versions are above those of every earlier life of the shard."""
        tables = Tables(settings, secrets.randbits(128))  # nothing that a caller sees depends on the seed
        self._devices, self._patterns, self._index = tables.devices, tables.patterns, tables.index
        self._content, self._trends = tables.content, tables.trends
        self._taking = Taking(settings, tables)
        self._asking = Asking(tables)
        self._version = self._version_at(now)

    @property
    def global_version(self) -> int:
        """Strictly increasing with every change; the microsecond of the last one where the clock allows."""
        return self._version

    def apply(self, request: SyncRequest, now: float) -> Applied:
        """Take a delta in. Raises ShardFull and SequenceConflict, with nothing changed."""
        delta = request.delta
        device = self._devices.find(request.device_id)
        if device >= 0 and self._is_duplicate(device, delta):
            accepted = Accepted(duplicate=True)
        else:
            if device < 0:
                self._check_room_for_device()
            prepared = self._taking.prepare(device, delta.added)
            if device < 0:
                device = self._devices.add(request.device_id)
            moment = Moment(int(now), self._trends.hour(now), self._next_version(now))
            accepted, changed = self._taking.take(device, delta, prepared, moment)
            if changed:
                self._version = moment.version
            self._remember(device, delta)
        self._devices.touch(device, int(now))
        return Applied(accepted, int(self._devices.sequence[device]) or None, self._version)

    def answer(self, device_id: bytes, options: SyncOptions) -> Answer:
        """What the device learns from the others; it need not be known."""
        similar = self._patterns.gather(self._asking.similar(self._devices.find(device_id), options.similar))
        digest = answer_digest(similar.ids, similar.rates, similar.counts, similar.updated_at)
        return Answer(similar, self._trends.top(options.trending), self._version, digest)

    def trending(self, limit: int, now: float) -> list[Trend]:
        """The region's best items, best first."""
        self._trends.hour(now)
        return self._trends.top(limit)

    def forget(self, device_id: bytes, now: float) -> bool:
        """Drop the device, its patterns and what trends credited them with; False if it was not known."""
        device = self._devices.find(device_id)
        if device < 0:
            return False
        self._trends.hour(now)
        self._taking.forget(device)
        self._devices.drop(device, int(now))
        self._version = self._next_version(now)
        return True

    def put_content(self, item: ContentItem, now: float) -> None:
        """Enter a title, or replace the one of its id. Raises ShardFull."""
        self._trends.title(self._content.put(item), item.content_id)
        self._version = self._next_version(now)

    def content(self, content_id: str) -> ContentItem:
        """Raises NotFound."""
        return self._content.get(content_id)

    def stats(self, now: float) -> ShardStats:
        """Counts of what is there, as of now."""
        return ShardStats(
            total_devices=len(self._devices),
            active_devices=self._devices.active.count(int(now)),
            patterns_stored=len(self._patterns),
            patterns_served=len(self._index),
            content_items=len(self._content),
            global_version=self._version,
            index_lists=self._index.list_count,
            bytes_resident=self._bytes_resident(),
        )

    def maintain(self) -> bool:
        """One bounded step of background work; True if more is waiting. Changes no answer but for its recall."""
        return self._index.settle() | self._content.maintain()

    def _is_duplicate(self, device: int, delta: Delta) -> bool:
        """Was this delta, or a later one, applied already? Raises SequenceConflict if another was in its place."""
        last = int(self._devices.sequence[device])
        if delta.sequence is None or delta.sequence > last:
            return False
        if delta.sequence == last and delta.fingerprint != int(self._devices.fingerprint[device]):
            raise SequenceConflict(
                f"sequence {last} was applied with other content; continue above it", last_sequence=last
            )
        return True

    def _check_room_for_device(self) -> None:
        if len(self._devices) >= self._devices.capacity:
            raise ShardFull(
                f"{self._devices.capacity} devices are registered, no new one fits", retry_after_s=RETRY_AFTER_S
            )

    def _remember(self, device: int, delta: Delta) -> None:
        if delta.sequence is not None:
            self._devices.sequence[device] = delta.sequence
            self._devices.fingerprint[device] = delta.fingerprint
        if delta.local_version is not None:
            self._devices.cursor[device] = delta.local_version

    def _next_version(self, now: float) -> int:
        return max(self._version + 1, self._version_at(now))

    @staticmethod
    def _version_at(now: float) -> int:
        return int(now * 1e6)

    def _bytes_resident(self) -> int:
        return (
            self._patterns.rows.high * BYTES_PER_PATTERN
            + self._devices.rows.high * BYTES_PER_DEVICE
            + self._index.bytes_resident
        )

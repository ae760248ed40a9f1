"""One shard: the patterns of its devices and the rules by which they change. The one owner of all state.

`apply` takes a delta in, as a whole or not at all; `answer` says what the device learns from the others. No I/O, no
clock, no randomness in what is decided: the same state, delta and time give the same state again.
Called by `api`, one call at a time; no method waits.
"""

import math
import secrets
from collections.abc import Generator, Iterator

import numpy as np
import numpy.typing as npt

from constellation.codebook import Codebook, default_codebook
from constellation.config import Settings
from constellation.digest import answer_digest
from constellation.errors import RateLimited, SequenceConflict, ShardFull
from constellation.limits import DAY_S, EXPIRED_PER_STEP_MAX, RETRY_AFTER_S, SEEN_EVERY_S
from constellation.model import (
    Accepted,
    Answer,
    Applied,
    Codes,
    ContentItem,
    Delta,
    Rows,
    ShardStats,
    SyncOptions,
    SyncRequest,
    Trend,
)
from constellation.records import Change, Forgotten, Piece, TrendCells
from constellation.rounding import compact_digest
from constellation.rounds import FederationResult, Partial
from constellation.shard.asking import Asking, Lists
from constellation.shard.cursors import Listed
from constellation.shard.devices import BYTES_PER_DEVICE
from constellation.shard.federating import Federating, Taste
from constellation.shard.moving import Mask, Moving
from constellation.shard.patterns import BYTES_PER_PATTERN
from constellation.shard.pieces import Pieces
from constellation.shard.restoring import Restoring
from constellation.shard.sampling import sample
from constellation.shard.sizing import BYTES_PER_CURSOR
from constellation.shard.tables import Tables
from constellation.shard.taking import Moment, Taking
from constellation.shard.tombstones import KEY_BYTES, Tombstones

VERSIONS_UNWRITTEN_MAX = 1 << 20
"""So many answers may have been told under a version of their own since the last one that was written down."""
LOOKED_AT_PER_STEP = 100_000
"""Devices whose last sync one step of `expire` looks at: 0.1 ms."""


class Shard:
    """All state of one shard, empty at first, bounded by the settings."""

    def __init__(
        self,
        settings: Settings,
        now: float = 0.0,
        tombstone_key: bytes | None = None,
        codebook: Codebook | None = None,
    ) -> None:
        """`now` (unix seconds): versions are above those of every earlier life of the shard."""
        tables = Tables(settings, secrets.randbits(128))  # nothing that a caller sees depends on the seed
        self._tables = tables
        self._devices, self._patterns, self._index = tables.devices, tables.patterns, tables.index
        self._content, self._trends = tables.content, tables.trends
        self._prototypes, self._changes, self._cursors = tables.prototypes, tables.changes, tables.cursors
        self._tombstones = Tombstones(tombstone_key or secrets.token_bytes(KEY_BYTES))
        self._taking = Taking(settings, tables)
        self._asking = Asking(settings, tables)
        self._restoring = Restoring(tables, self._tombstones, settings.serve_threshold)
        self._federating = Federating(settings, tables, codebook or default_codebook())
        self._moving = Moving(settings, tables, self._tombstones, self._taking, self._restoring, self._federating)
        self._syncs_per_s, self._burst = settings.device_syncs_per_min / 60, settings.device_burst
        self._ttl_s = settings.device_ttl_days * DAY_S
        self._version = self._started_at = self._version_at(now)
        self._expired_to = 0
        self.change: Change | None = None
        """What the last call that can change something changed, to be written down; or None."""

    @property
    def global_version(self) -> int:
        """Strictly increasing with every change; the microsecond of the last one where the clock allows."""
        return self._version

    def charge(self, device_id: bytes, now: float) -> None:
        """Count one more sync of the device. Raises RateLimited if there were too many, and then counts none.

        Nothing of it is written down. One that is not known costs no memory, and is not held to anything here.
        """
        device = self._devices.find_again(device_id)
        if device < 0:
            return
        wait_s = self._devices.spend(device, now, self._syncs_per_s, self._burst)
        if wait_s:
            raise RateLimited(
                f"more than {self._burst} syncs at once, or {self._syncs_per_s * 60:g} a minute",
                retry_after_s=math.ceil(wait_s),
            )

    def apply(self, request: SyncRequest, now: float) -> Applied:
        """Take a delta in. Raises ShardFull and SequenceConflict, with nothing changed."""
        self.change = None
        self._trends.hour(now)  # time passes, whatever came: the answer to a repeated delta has the trends of now
        device = self._devices.find_again(request.device_id)
        forgotten_at = self._tombstones.last_sequence(request.device_id) if device < 0 else None
        if forgotten_at and request.delta.sequence is not None and request.delta.sequence <= forgotten_at:
            return Applied(Accepted(duplicate=True), forgotten_at, self._version)
        if device < 0 and not request.registers:
            return Applied(Accepted(), None, self._version)
        if device >= 0 and self._is_duplicate(device, request.delta):
            accepted = Accepted(duplicate=True)
            self._devices.touch(device, int(now))
        else:
            device, accepted = self._take(device, request, now)
        return Applied(accepted, int(self._devices.sequence[device]) or None, self._version)

    def _take(self, device: int, request: SyncRequest, now: float) -> tuple[int, Accepted]:
        """Apply a delta that is no duplicate, of a device row or of a new device (-1); the row."""
        if device < 0:
            self._check_room_for_device()
        prepared = self._taking.prepare(device, request.delta.added)
        if device < 0:
            device = self._devices.add(request.device_id)
        moment = Moment(int(now), self._trends.hour(now), self._next_version(now))
        seen_on = int(self._devices.last_sync[device]) // SEEN_EVERY_S
        accepted = Accepted()
        if len(request.delta):  # most syncs bring nothing
            with self._federating.counted_anew(device):
                accepted = self._taking.take(device, request.delta, prepared, moment)
        self._remember(device, request.delta)
        self._devices.touch(device, int(now))
        if self._changes.pending or int(self._devices.last_sync[device]) // SEEN_EVERY_S != seen_on:
            self._changes.device(device)
        if self._changes.patterns_pending:
            self._version = moment.version
        self.change = self._changes.take(self._version)
        return device, accepted

    def answer(self, device_id: bytes, options: SyncOptions, local_version: int | None = None) -> Answer:
        """What the device learns from the others; it need not be known.

        If `local_version` is that of the last answer to the device, or of the one before the last, and both were asked
        for with these options: what is different in that one. Else, or if it is not remembered: everything.
        """
        device = self._devices.find_again(device_id)
        cursor = self._cursors.place(device)
        rows = self._asking.similar(device, options.similar, cursor)
        quantising = self._federating.quantising(options.codebook) if options.embedding == "compact" else None
        compact = quantising is not None
        trends_told = self._trends.fingerprint(options.trending)
        listed = Listed(rows, trends_told, hash((options, compact)), by_handle=compact)
        news = self._cursors.tell(cursor, listed, local_version)
        if news and local_version == self._version:
            self._version += 1  # the device has another list under this one
        digest = news.digest or self._digest(rows, news.listed if compact else None)
        self._cursors.sent(cursor, self._version, digest)
        told = rows[news.places]
        similar = self._patterns.gather(told)
        backing = self._prototypes.put_into(similar, told)
        return Answer(
            similar=similar,
            trending=self._trends.top(options.trending) if news.trends else None,
            global_version=self._version,
            digest=digest,
            reset=news.reset,
            handles=news.handles,
            whole=news.whole,
            gone=news.gone,
            removed=news.removed,
            prototypes=backing,
            quantised=quantising.of(told, similar.codes) if quantising else None,
        )

    def _digest(self, rows: Rows, handles: npt.NDArray[np.uint8] | None) -> str:
        """Of a list of rows (n,), that goes by handles (n,) if there are any."""
        facts = self._prototypes.put_facts(self._patterns.facts(rows), rows)
        return answer_digest(*facts) if handles is None else compact_digest(handles, *facts[1:])

    def trending(self, limit: int, now: float, region: str | None = None) -> list[Trend]:
        """The best items of a region, "global" for all, by default the shard's own; none of one that is not known."""
        self._trends.hour(now)
        return self._trends.top(limit, region)

    def forget(self, device_id: bytes, now: float) -> bool:
        """Drop the device, its patterns and what trends credited them with; False if it was not known.

        A tombstone stays: a delta that it sent before is answered as a duplicate.
        """
        self.change = None
        device = self._devices.find(device_id)
        if device < 0:
            return False
        tombstone = self._tombstones.hash_of(device_id)
        self._tombstones.put(tombstone, int(self._devices.sequence[device]))
        self._forget(device, tombstone, now)
        self.change = self._changes.take(self._version)
        return True

    def expire(self, now: float) -> bool:
        """Forget some of the devices that did not sync for `device_ttl_days`; True if the pass over all goes on.

        One bounded step: `EXPIRED_PER_STEP_MAX` devices at most. No tombstone: such a device may come back as it is.
        """
        self.change = None
        since = int(now) - self._ttl_s
        stop = min(self._expired_to + LOOKED_AT_PER_STEP, self._devices.rows.high)
        seen = self._devices.last_sync[self._expired_to : stop]
        stale = np.flatnonzero((seen > 0) & (seen < since))[:EXPIRED_PER_STEP_MAX] + self._expired_to
        for device in stale.tolist():
            self._forget(device, b"", now)
        self._expired_to = int(stale[-1]) + 1 if len(stale) == EXPIRED_PER_STEP_MAX else stop
        if self._expired_to >= self._devices.rows.high:
            self._expired_to = 0
        self.change = self._changes.take(self._version)
        return self._expired_to > 0

    def tell(self, slots: Mask, patterns_at_once: int) -> Iterator[Change]:
        """The devices in slots (SLOTS,), and all tombstones, for `take_in` of another shard; they must not change
        meanwhile. In steps of about so many patterns, some of which tell nothing."""
        return self._moving.tell(slots, self._version, patterns_at_once)

    def take_in(self, came: Change, now: float) -> None:
        """Devices that another shard told; what is here of them already is left as it is, or replaced if it differs.

        Raises ShardFull, with none of them taken in.
        """
        self.change = None
        self._version = max(self._version, came.version)  # so that versions that devices know stay behind
        came, others = self._moving.missing(came)
        for device in others:
            self._forget(device, b"", now)
        moment = Moment(int(now), self._trends.hour(now), self._next_version(now))
        try:
            self._moving.take_in(came, moment)
        finally:
            self._version = moment.version
            self.change = self._changes.take(self._version)

    def drop(self, slots: Mask, start: int, now: float) -> int:
        """Forget some of the devices in slots (SLOTS,) from row `start` on, without tombstones: they are elsewhere.

        One bounded step. The row to go on from, -1 after the last.
        """
        self.change = None
        rows, stop = self._moving.next_within(slots, start)
        for device in rows.tolist():
            self._forget(device, b"", now)
        self.change = self._changes.take(self._version)
        return stop if stop < self._devices.rows.high else -1

    def _forget(self, device: int, tombstone: bytes, now: float) -> None:
        self._trends.hour(now)
        with self._federating.counted_anew(device):
            self._taking.forget(device)
        self._cursors.forget(device)
        sequence = int(self._devices.sequence[device])
        device_id = self._devices.ids[device].tobytes()
        self._devices.drop(device, int(now))
        self._changes.forgotten(Forgotten(device_id, tombstone, sequence, int(now)))
        self._version = self._next_version(now)

    def put_content(self, item: ContentItem, now: float) -> None:
        """Enter a title, or replace the one of its id. Raises ShardFull."""
        number = self._content.put(item)
        self._trends.title(number, item.content_id)
        self._version = self._next_version(now)
        self._changes.content(number)
        self.change = self._changes.take(self._version)

    def read(self, keys: dict[bytes, set[bytes]], titles: list[int], cells: TrendCells) -> Change:
        """What is there now of devices and their patterns by id, titles by number, counts by name and hour.

        Patterns that are not there are `gone`; a device that is not there is left out.
        """
        return self._changes.read(self._version, keys, titles, cells)

    def pieces(self, patterns_at_once: int) -> Iterator[Piece]:
        """All that is there, in steps of about so many patterns; it may change in between."""
        return Pieces(self._tables, self._tombstones, self._version, patterns_at_once).all()

    def sample(self, limit: int, rng: np.random.Generator) -> Iterator[Codes]:
        """Codes of up to `limit` served patterns drawn at random, a piece a step; they may change in between."""
        return sample(self._tables, limit, rng)

    def layout(self) -> bytes:
        """How the similarity index lies at the moment: for `expect`."""
        return self._index.layout()

    def expect(self, layout: bytes) -> None:
        """Before the first `restore` of pieces: how the index lay when they were taken, or before. A hint."""
        self._index.expect(layout)

    def restore(self, change: Change, places: bytes = b"") -> None:
        """Put back what was written down; in the order of writing. Nothing is answered before `restored`."""
        self._restoring.put(change, places)
        self._version = max(self._version, change.version)

    def restored(self) -> Iterator[None]:
        """Make what was restored ready to be asked, in steps of a few milliseconds."""
        if self._version > self._started_at:  # the clock was set back: only this keeps the version above what was told
            self._version += VERSIONS_UNWRITTEN_MAX
        yield from self._restoring.finish()
        self._federating.settle()  # where there is nothing, this is all: the first TV is told in compact replies

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
            prototypes=len(self._prototypes),
            bytes_resident=self._bytes_resident(),
        )

    @property
    def lists(self) -> Lists:
        """Of patterns for devices: how many were brought up to date, and how many sought."""
        return self._asking.lists

    def maintain(self) -> bool:
        """One bounded step of background work; True if more is waiting. Changes no answer but for its recall."""
        return self._index.settle() | self._content.maintain() | self._federating.settle()

    def use(self, codebook: Codebook) -> None:
        """Group the patterns by this codebook too, from now on: `maintain` does it. The one before stays."""
        self._federating.use(codebook)

    @property
    def codebook_version(self) -> int:
        """The newest under which every pattern is in its bucket; 0 before the first is."""
        return self._federating.version

    def taste(self) -> Taste | None:
        """What is liked, bucket by bucket; None before every pattern is in its bucket. 0.1 ms."""
        return self._federating.taste()

    def titles_near(self, codes: Codes, k: int) -> list[list[ContentItem]]:
        """Of each of codes (n, 384) up to k titles that are most like it, best first. About 0.1 ms each."""
        return [self._content.most_like(code, k) for code in codes]

    def partial(
        self, number: int, map_epoch: int, codebook_version: int, group_key: bytes = b""
    ) -> Generator[None, None, Partial | None]:
        """What the shard gives to a round, returned after steps of about 1 ms; None if it is not grouped that way.

        With the means of groups of devices, if the round has a key for them.
        """
        return self._federating.partial(number, map_epoch, codebook_version, group_key)

    def publish(self, result: FederationResult, given: Partial | None) -> None:
        """Take a round over, in place of the one before; `given`: the partial of this shard that is in it."""
        self._federating.publish(result, given)

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
            + self._federating.bytes_resident
            + self._devices.rows.high * BYTES_PER_DEVICE
            + self._cursors.high * BYTES_PER_CURSOR
            + self._index.bytes_resident
        )

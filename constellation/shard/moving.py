"""Devices that go to another shard, or come from one, with all that is kept of them. Part of `shard.shard`.

The shard that they leave tells them; nothing of them changes from then on. The other one takes them in, and the first
drops them. What trends credited them with goes along: it is taken back there, and counted here.
"""

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from constellation.config import Settings
from constellation.errors import ShardFull
from constellation.limits import RETRY_AFTER_S
from constellation.model import Rows
from constellation.records import Change, Forgotten, NumberedItem, empty_change, only
from constellation.shard.federating import Federating
from constellation.shard.restoring import Restoring
from constellation.shard.tables import Tables
from constellation.shard.taking import Moment, Taking
from constellation.shard.tombstones import Tombstones
from constellation.slots import slots_of
from kernels import chains

LOOKED_AT_PER_STEP = 20_000
"""Devices whose slots one step computes: 1 ms."""
DROPPED_PER_STEP = 80
"""Patterns: 2 ms."""
_TOMBSTONES_AT_ONCE = 1_000

Mask = npt.NDArray[np.bool_]


class Moving:
    """Both ways, over the shard's tables."""

    def __init__(
        self,
        settings: Settings,
        tables: Tables,
        tombstones: Tombstones,
        taking: Taking,
        restoring: Restoring,
        federating: Federating,
    ) -> None:
        self._tables, self._tombstones = tables, tombstones
        self._taking, self._restoring, self._federating = taking, restoring, federating
        self._patterns_max = settings.max_patterns

    def within(self, slots: Mask, start: int) -> Rows:
        """Rows of the devices in slots (SLOTS,), of the next LOOKED_AT_PER_STEP rows."""
        devices = self._tables.devices
        stop = min(start + LOOKED_AT_PER_STEP, devices.rows.high)
        there = (devices.last_sync[start:stop] > 0) & slots[slots_of(devices.ids[start:stop])]
        return (start + np.flatnonzero(there)).astype(np.int32)

    def next_within(self, slots: Mask, start: int) -> tuple[Rows, int]:
        """The first of them, of about DROPPED_PER_STEP patterns, and the row to go on from."""
        rows = self.within(slots, start)
        patterns = np.cumsum(self._tables.devices.patterns[rows] + np.int64(1))
        some = rows[: 1 + int(np.searchsorted(patterns, DROPPED_PER_STEP))]
        return some, int(some[-1]) + 1 if len(some) < len(rows) else start + LOOKED_AT_PER_STEP

    def tell(self, slots: Mask, version: int, patterns_at_once: int) -> Iterator[Change]:
        """All tombstones, then the devices in slots (SLOTS,) in changes of about so many patterns; some are empty."""
        tombstones = self._tombstones.portable()
        for start in range(0, len(tombstones), _TOMBSTONES_AT_ONCE):
            change = empty_change(version)
            some = tombstones[start : start + _TOMBSTONES_AT_ONCE]
            change.forgotten = [Forgotten(b"", *tombstone, at=0) for tombstone in some]
            yield change
        devices = self._tables.devices
        for start in range(0, devices.rows.high, LOOKED_AT_PER_STEP):
            rows = self.within(slots, start)
            parts = np.cumsum(devices.patterns[rows] + np.int64(1)) // patterns_at_once
            for part in np.split(rows, np.flatnonzero(np.diff(parts)) + 1):
                yield self._told(part, version)

    def take_in(self, came: Change, moment: Moment) -> None:
        """Put devices that another shard told into the tables. Raises ShardFull, with nothing of them taken in."""
        tables = self._tables
        for forgotten in came.forgotten:
            if self._tombstones.put(forgotten.tombstone, forgotten.sequence):
                tables.changes.forgotten(forgotten)
        self._check_room(came)
        for _, item in came.content:
            if item.content_id not in tables.content:
                number = tables.content.put(item)
                tables.trends.title(number, item.content_id)
                tables.changes.content(number)
        came.devices.last_syncs = np.minimum(came.devices.last_syncs, moment.now_s)
        came.patterns.versions = np.full(len(came.patterns), moment.version)
        # So that they are known and nothing can fail below.
        held = tables.patterns.contexts.intern_many(came.patterns.patterns.contexts)
        devices = self._restoring.put_devices(came.devices)
        with self._federating.counted_anew(*devices.tolist()):
            rows = self._restoring.put_patterns(came.patterns)
        for words in held:
            tables.patterns.contexts.release(words)
        tables.devices.active.enter_many(came.devices.last_syncs, moment.now_s)
        self._taking.serve(rows.tolist())
        self._credit(rows)
        for device in devices.tolist():
            tables.changes.device(device)
        tables.changes.patterns(rows.tolist())

    def missing(self, came: Change) -> tuple[Change, list[int]]:
        """What of the change is not here as it is told, and the rows of devices that are here otherwise."""
        devices, told = self._tables.devices, came.devices
        rows = devices.find_many(told.ids)
        same = (rows >= 0) & (devices.sequence[rows] == told.sequences)
        same &= devices.fingerprint[rows] == told.fingerprints
        if same.any():
            lacking = {row.tobytes() for row in told.ids[~same]}
            owners = np.array([owner.tobytes() in lacking for owner in came.patterns.owners], np.bool_)
            came = msgspec.structs.replace(came, devices=only(told, ~same), patterns=only(came.patterns, owners))
        return came, rows[(rows >= 0) & ~same].tolist()

    def _told(self, rows: Rows, version: int) -> Change:
        tables = self._tables
        _, patterns = chains.rows_of_many(tables.devices.first, tables.patterns.following, rows)
        change = empty_change(version)
        change.devices = tables.devices.gather(rows)
        change.patterns = tables.changes.gather_patterns(tables.changes.as_entered(patterns))
        titles = tables.trends.titles(tables.patterns.credited_item[patterns])
        change.content = [NumberedItem(number, tables.content.item(number)) for number in titles]
        return change

    def _check_room(self, came: Change) -> None:
        devices, patterns = self._tables.devices, self._tables.patterns
        for held, more, most, of in (
            (len(devices), len(came.devices), devices.capacity, "devices"),
            (len(patterns), len(came.patterns), self._patterns_max, "patterns"),
        ):
            if held + more > most:
                raise ShardFull(f"{held} of {most} {of} are stored, {more} more came", retry_after_s=RETRY_AFTER_S)

    def _credit(self, rows: Rows) -> None:
        """Count what the patterns were credited with where they come from, in the hour of the last credit."""
        patterns, trends = self._tables.patterns, self._tables.trends
        credited = rows[(patterns.credited_item[rows] >= 0) & (patterns.credited_samples[rows] > 0)]
        columns = patterns.credited_hour, patterns.credited_item, patterns.credited_samples
        for hour, item, samples in zip(*(column[credited].tolist() for column in columns), strict=True):
            trends.credit_in(hour, item, samples)

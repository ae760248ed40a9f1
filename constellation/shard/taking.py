"""How a delta changes the patterns of a device: quality filter, ownership, replacement, eviction, credit to trends.

Two steps, so that a delta is taken whole or not at all: `prepare` finds out whether everything fits and changes
nothing, `take` cannot fail. Part of `shard.shard`, which decides whether a delta is taken.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.config import Settings
from constellation.errors import ShardFull
from constellation.limits import (
    ADDED_PER_DELTA_MAX,
    RETRY_AFTER_S,
    SAMPLE_COUNT_MAX,
    TREND_SAMPLES_PER_DEVICE_HOUR_MAX,
)
from constellation.model import Accepted, Delta, Ids, PatternBatch, RateUpdates
from constellation.shard.contexts import Words
from constellation.shard.tables import Tables
from kernels import chains
from kernels.rates import merge_rates
from kernels.trends import HOURS


class Prepared(NamedTuple):
    """What a delta needs and has been given: which of its added patterns are good enough, and their context words."""

    kept: npt.NDArray[np.bool_]
    words: list[Words]


_NONE_KEPT = np.empty(0, np.bool_)


class Moment(NamedTuple):
    """When a delta is taken: unix seconds, the trends' hour, the global version it makes if it changes anything."""

    now_s: int
    hour: int
    version: int


class Learned:
    """The patterns that a delta changed and that are still there, in the order of their first change."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        """Row -> samples that are new."""

    def note(self, row: int, samples: int) -> None:
        self.rows[row] = self.rows.get(row, 0) + samples


class Taking:
    """The rules of change over the shard's tables."""

    def __init__(self, settings: Settings, tables: Tables) -> None:
        self._devices, self._patterns, self._index = tables.devices, tables.patterns, tables.index
        self._best_known, self._content, self._trends = tables.best_known, tables.content, tables.trends
        self._changes = tables.changes
        self._quality_threshold = np.float32(settings.quality_threshold)
        self._serve_threshold = np.float32(settings.serve_threshold)
        self._patterns_max = settings.max_patterns
        self._per_device_max = settings.max_patterns_per_device

    def prepare(self, device: int, added: PatternBatch) -> Prepared:
        """What is needed to take these patterns of a device, a row or -1 for one that is new.

        Raises ShardFull, with nothing changed, if the patterns or their context strings do not fit.
        """
        if not len(added):  # most syncs bring nothing
            return Prepared(_NONE_KEPT, [])
        kept = added.rates >= self._quality_threshold
        self._check_room(device, added.ids, kept)
        words: list[Words] = []
        try:
            for i in np.flatnonzero(kept).tolist():
                words.append(self._patterns.contexts.intern(added.contexts[i]))
        except ShardFull:
            for taken in words:
                self._patterns.contexts.release(taken)
            raise
        return Prepared(kept, words)

    def take(self, device: int, delta: Delta, prepared: Prepared, moment: Moment) -> Accepted:
        """Apply the delta to the device's patterns, in order: added, updated, removed.

        What the patterns are about, whether others may have them and what trends count is settled once for each
        pattern, however often the delta names it.
        """
        accepted = Accepted(added=len(prepared.words), filtered=len(delta.added) - len(prepared.words))
        learned = Learned()
        if len(delta.added):
            accepted.evicted = self._add(device, delta.added, prepared, learned, moment)
        if len(delta.updated):
            accepted.updated = self._update(device, delta.updated, learned, moment)
        self._credit(device, learned, moment)
        if len(delta.removed):
            accepted.removed = self._remove(device, delta.removed, learned)
        accepted.rejected = len(delta.updated) - accepted.updated + len(delta.removed) - accepted.removed
        self.serve(learned.rows)
        self._changes.patterns(learned.rows)
        return accepted

    def forget(self, device: int) -> None:
        """Drop all patterns of the device and take back what trends credited them with."""
        patterns = self._patterns
        for row in chains.rows_of(self._devices.first, patterns.following, device).tolist():
            if patterns.credited_item[row] >= 0:
                self._trends.debit(
                    int(patterns.credited_item[row]),
                    int(patterns.credited_samples[row]),
                    int(patterns.credited_hour[row]),
                )
            self._withdraw(row)
            self._unlink(device, row)

    def _check_room(self, device: int, ids: Ids, kept: npt.NDArray[np.bool_]) -> None:
        """Raises ShardFull if too many patterns would be stored, those that then go taken off."""
        room = self._patterns_max - len(self._patterns)
        if np.count_nonzero(kept) <= room:
            return
        last = list({pattern_id.tobytes(): i for i, pattern_id in enumerate(ids)}.values())
        is_stored = self._patterns.find(device, ids)[last] >= 0
        own = int(self._devices.patterns[device]) if device >= 0 else 0
        becoming = own + int(np.count_nonzero(kept[last] & ~is_stored)) - int(np.count_nonzero(~kept[last] & is_stored))
        growth = min(becoming, self._per_device_max) - own
        if growth > room:
            raise ShardFull(f"room is left for {room} patterns, {growth} more came", retry_after_s=RETRY_AFTER_S)

    def _add(self, device: int, added: PatternBatch, prepared: Prepared, learned: Learned, moment: Moment) -> int:
        """Store the kept patterns, drop the filtered ones; returns how many patterns were evicted."""
        words = iter(prepared.words)
        known: dict[int, int] = {}
        for i, kept in enumerate(prepared.kept.tolist()):
            row = int(self._patterns.find(device, added.ids[i : i + 1])[0])
            if kept:
                row, count = self._store(device, row, added, i, next(words), moment)
                known.setdefault(row, count)
            elif row >= 0:
                known.pop(row, None)
                self._drop(device, row)
        evicted = self._evict(device)
        for row in [row for row in known if row not in evicted]:
            if known[row]:
                self._find_item(row)  # replaced: it may be about something else now
            learned.note(row, max(0, int(self._patterns.counts[row]) - known[row]))
        return len(evicted)

    def _store(
        self, device: int, row: int, added: PatternBatch, i: int, words: Words, moment: Moment
    ) -> tuple[int, int]:
        """Write pattern i to the row that it has, or a new one if `row` is -1; the row and the count it had before."""
        patterns = self._patterns
        if row < 0:
            row, count = patterns.new_row(device, added.ids[i], moment.version * ADDED_PER_DELTA_MAX + i), 0
            chains.link(self._devices.first, patterns.following, device, row)
            self._devices.patterns[device] += 1
        else:
            count = int(patterns.counts[row])
            self._withdraw(row)
        patterns.write(row, added, i, words, moment.version)
        return row, count

    def _evict(self, device: int) -> set[int]:
        """Drop the lightest patterns over the limit, of equal ones the longest stored."""
        excess = int(self._devices.patterns[device]) - self._per_device_max
        if excess <= 0:
            return set()
        rows = chains.rows_of(self._devices.first, self._patterns.following, device)[::-1]
        lightest = rows[np.argsort(self._patterns.weights(rows), kind="stable")[:excess]].tolist()
        for row in lightest:
            self._drop(device, row)
        return set(lightest)

    def _update(self, device: int, updates: RateUpdates, learned: Learned, moment: Moment) -> int:
        """Merge the updates of patterns that are there; returns how many."""
        patterns = self._patterns
        rows = patterns.find(device, updates.ids)
        there = rows >= 0
        rows, samples = rows[there], updates.samples[there]
        merge_rates(patterns.rates, patterns.counts, rows, updates.rates[there], samples, SAMPLE_COUNT_MAX)
        patterns.updated_at[rows] = moment.now_s
        patterns.changed_version[rows] = moment.version
        patterns.revisions.changed(rows)
        for row, count in zip(rows.tolist(), samples.tolist(), strict=True):
            learned.note(row, count)
        return len(rows)

    def _remove(self, device: int, ids: Ids, learned: Learned) -> int:
        """Drop the patterns that are there; returns how many. An id may come twice."""
        rows = {row for row in self._patterns.find(device, ids).tolist() if row >= 0}
        for row in sorted(rows):
            learned.rows.pop(row, None)
            self._drop(device, row)
        return len(rows)

    def _drop(self, device: int, row: int) -> None:
        self._changes.gone(row)
        self._withdraw(row)
        self._unlink(device, row)

    def _unlink(self, device: int, row: int) -> None:
        chains.unlink(self._devices.first, self._patterns.following, device, row)
        self._devices.patterns[device] -= 1
        self._patterns.drop_row(row)

    def serve(self, rows: Iterable[int]) -> None:
        """Let others have those of the patterns that are good enough now, and no longer those that are not."""
        patterns = self._patterns
        for row in rows:
            rate = patterns.rates[row]
            if rate < self._serve_threshold:
                self._withdraw(row)
                continue
            if row not in self._index:
                self._index.add(row)
            self._best_known.put(row, rate, int(patterns.counts[row]))

    def _withdraw(self, row: int) -> None:
        if row in self._index:
            self._index.remove(row)
            self._best_known.drop(row)

    def _credit(self, device: int, learned: Learned, moment: Moment) -> None:
        """Count new samples for what the patterns are about, within the device's share of the hour, in their order."""
        devices = self._devices
        if devices.credit_hour[device] != moment.hour:
            devices.credit_hour[device], devices.credit_used[device] = moment.hour, 0
        left = TREND_SAMPLES_PER_DEVICE_HOUR_MAX - int(devices.credit_used[device])
        for row, samples in learned.rows.items():
            if left <= 0:
                return
            if samples and self._has_item(row):
                taken = self._credit_row(row, min(samples, left), moment)
                devices.credit_used[device] += taken
                left -= taken

    def _has_item(self, row: int) -> bool:
        if self._patterns.credited_item[row] < 0:
            self._find_item(row)
        return bool(self._patterns.credited_item[row] >= 0)

    def _credit_row(self, row: int, samples: int, moment: Moment) -> int:
        patterns = self._patterns
        if moment.hour - int(patterns.credited_hour[row]) >= HOURS:
            patterns.credited_samples[row] = 0  # what left the week cannot be taken back
        taken = self._trends.credit(int(patterns.credited_item[row]), samples)
        patterns.credited_samples[row] += taken
        patterns.credited_hour[row] = moment.hour
        return taken

    def _find_item(self, row: int) -> None:
        """Settle what the pattern is about; its earlier credit is remembered as long as that stays the same."""
        patterns = self._patterns
        item = self._item_of(row)
        if patterns.credited_item[row] != item:
            patterns.credited_item[row], patterns.credited_samples[row] = item, 0

    def _item_of(self, row: int) -> int:
        """The trend item that a pattern is about: the nearest title, else its first genre hint, else none (-1)."""
        number = self._content.nearest(self._patterns.codes[row])
        if number is not None:
            return self._trends.title_item(number)
        hints = self._patterns.contexts.context(self._patterns.words[row]).genre_hints
        return self._trends.genre_item(hints[0]) if hints else -1

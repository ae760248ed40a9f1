"""The shard as a dict: the rules of the REST contract, nothing fast, nothing approximate."""

import math
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from constellation.codebook import Codebook
from constellation.config import Settings
from constellation.errors import SequenceConflict, ShardFull
from constellation.model import DIM, Accepted, Context, PatternBatch, SyncRequest
from kernels.codes import inverse_norms

ACTIVE_S = 900

Pattern = tuple[bytes, bytes, float, int, int, int, Context]
"""id, code, rate, count, created_at, updated_at, context"""


@dataclass
class Stored:
    """One pattern; the rate is what a float32 holds."""

    code: bytes
    rate: float
    count: int
    created_at: int
    updated_at: int
    context: Context


@dataclass
class Device:
    """Patterns by id, longest stored first."""

    patterns: dict[bytes, Stored] = field(default_factory=dict)
    sequence: int = 0
    fingerprint: int = 0
    synced_at: int = 0


class ModelShard:
    """Devices by id."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._aggregates = settings.sharing == "aggregates"
        self.devices: dict[bytes, Device] = {}
        self.clock = 0
        self.tombstones: dict[bytes, int] = {}
        """Forgotten devices -> the last sequence of each."""
        self.prototypes: list[Pattern] = []
        """Those of the last round that may be served, those of most devices first."""
        self.changed = False
        """Did the last call change a pattern?"""

    def apply(self, request: SyncRequest, now: float) -> Accepted:
        self.changed = False
        known = self.devices.get(request.device_id)
        device = known or Device()
        sequence = request.delta.sequence
        if known is None and sequence is not None and sequence <= self.tombstones.get(request.device_id, 0):
            return Accepted(duplicate=True)
        accepted = Accepted(duplicate=True)
        if known is None or sequence is None or sequence > known.sequence:
            if known is None and len(self.devices) >= self.settings.max_devices:
                raise ShardFull("devices", retry_after_s=1)
            patterns = dict(device.patterns)
            accepted = self._take(patterns, request, int(now))
            others = self.stored() - len(device.patterns)
            if others + self._after_added > self.settings.max_patterns:
                raise ShardFull("patterns", retry_after_s=1)
            self.changed = patterns != device.patterns or accepted.added + accepted.updated + accepted.removed > 0
            device.patterns = patterns
            if sequence is not None:
                device.sequence, device.fingerprint = sequence, request.delta.fingerprint
        elif sequence == known.sequence and request.delta.fingerprint != known.fingerprint:
            raise SequenceConflict("other content", last_sequence=sequence)
        self.devices[request.device_id] = device
        self.clock = max(self.clock, int(now))
        device.synced_at = self.clock
        return accepted

    def forget(self, device_id: bytes, now: float) -> bool:
        self.changed = device_id in self.devices
        if self.changed:
            self.clock = max(self.clock, int(now))
            self.tombstones[device_id] = max(self.tombstones.get(device_id, 0), self.devices[device_id].sequence)
        return self.devices.pop(device_id, None) is not None

    def last_sequence(self, device_id: bytes) -> int:
        """As a reply tells it, 0 for none."""
        device = self.devices.get(device_id)
        return device.sequence if device else self.tombstones.get(device_id, 0)

    def stored(self) -> int:
        return sum(len(device.patterns) for device in self.devices.values())

    def active(self, now: float) -> int:
        self.clock = max(self.clock, int(now))
        return sum(self.clock - device.synced_at < ACTIVE_S for device in self.devices.values())

    def available(self, asking: bytes) -> list[Pattern]:
        """What a device may get."""
        return self.prototypes + ([] if self._aggregates else self.served(asking))

    def served(self, asking: bytes | None = None) -> list[Pattern]:
        """What all devices but the asking one let others have."""
        return [
            (pattern_id, stored.code, stored.rate, stored.count, stored.created_at, stored.updated_at, stored.context)
            for device_id, device in self.devices.items()
            if device_id != asking
            for pattern_id, stored in device.patterns.items()
            if np.float32(stored.rate) >= np.float32(self.settings.serve_threshold)
        ]

    def sums(self, codebook: Codebook) -> dict[int, tuple[list[int], int, int, int, int]]:
        """By bucket: weighted embeddings, weight, samples, patterns and devices, as `rounds.BucketSums` says."""
        sums: dict[int, tuple[list[int], int, int, int, int]] = {}
        cap = 25_600 if self._aggregates else 256_000
        for device in self.devices.values():
            for bucket, members in self._grouped(device, codebook).items():
                vector, weight, samples, patterns, devices = sums.get(bucket, ([0] * DIM, 0, 0, 0, 0))
                total = sum(map(_samples, members))
                for stored in members:
                    share, seen = _contribution(stored), _samples(stored)
                    if total > cap:
                        share, seen = share * cap // total, seen * cap // total
                    vector = [x + e for x, e in zip(vector, _embedding(stored, share), strict=True)]
                    weight, samples, patterns = weight + share, samples + seen, patterns + 1
                sums[bucket] = vector, weight, samples, patterns, devices + 1
        return sums

    def contexts(self, codebook: Codebook) -> Counter[tuple[int, int, str]]:
        """Devices by bucket, place and string."""
        counted: Counter[tuple[int, int, str]] = Counter()
        for device in self.devices.values():
            words: dict[tuple[int, int], Counter[str]] = {}
            for bucket, members in self._grouped(device, codebook).items():
                for known in (stored.context for stored in members):
                    told = {(0, known.time_of_day), (1, known.day_of_week), (2, known.content_type)}
                    for place, word in told | {(3, hint) for hint in known.genre_hints}:
                        words.setdefault((bucket, place), Counter()).update({word} - {""})
            for (bucket, place), of in words.items():
                ranked = sorted((-count, word) for word, count in of.items())
                counted.update((bucket, place, word) for _, word in ranked[: 1 if self._aggregates else None])
        return counted

    def _grouped(self, device: Device, codebook: Codebook) -> dict[int, list[Stored]]:
        """The patterns by bucket, of those that the device counts in."""
        grouped: dict[int, list[Stored]] = {}
        for stored in device.patterns.values():
            grouped.setdefault(_bucket(codebook, stored), []).append(stored)
        heaviest = sorted(grouped, key=lambda bucket: (-sum(map(_contribution, grouped[bucket])), bucket))
        return {bucket: grouped[bucket] for bucket in heaviest[: 4 if self._aggregates else None]}

    def _take(self, patterns: dict[bytes, Stored], request: SyncRequest, now_s: int) -> Accepted:
        accepted = Accepted()
        delta = request.delta
        for i, pattern_id in enumerate(map(bytes, delta.added.ids)):
            if delta.added.rates[i] < np.float32(self.settings.quality_threshold):
                accepted.filtered += 1
                patterns.pop(pattern_id, None)
            else:
                accepted.added += 1
                patterns[pattern_id] = _stored(delta.added, i)
        while len(patterns) > self.settings.max_patterns_per_device:
            accepted.evicted += 1
            del patterns[min(patterns, key=lambda key: _weight(patterns[key]))]
        self._after_added = len(patterns)
        for pattern_id, rate, samples in zip(
            map(bytes, delta.updated.ids), delta.updated.rates, delta.updated.samples.tolist(), strict=True
        ):
            if pattern_id not in patterns:
                accepted.rejected += 1
                continue
            stored = patterns[pattern_id]
            n = stored.count
            exact = (Fraction(stored.rate) * n + Fraction(float(rate)) * samples) / (n + samples)
            patterns[pattern_id] = Stored(
                stored.code,
                float(np.float32(float(exact))),
                min(n + samples, 1_000_000),
                stored.created_at,
                now_s,
                stored.context,
            )
            accepted.updated += 1
        for pattern_id in map(bytes, delta.removed):
            if patterns.pop(pattern_id, None) is None:
                accepted.rejected += 1
            else:
                accepted.removed += 1
        return accepted


def _bucket(codebook: Codebook, stored: Stored) -> int:
    dots = codebook.codes.astype(np.int64) @ np.frombuffer(stored.code, np.int8)
    return int(np.argmax(dots.astype(np.float32) * codebook.inverse))


def _contribution(stored: Stored) -> int:
    """A float32 times 18 bits: exact, so that the rounding to even is the only one."""
    return round(Fraction(float(np.float32(stored.rate))) * _samples(stored))


def _samples(stored: Stored) -> int:
    return min(stored.count, 1_000) * 256


def _embedding(stored: Stored, weight: int) -> list[int]:
    """Its code, weighted."""
    code = np.frombuffer(stored.code, np.int8)
    factor = math.floor(weight * Fraction(float(inverse_norms(code.reshape(1, -1))[0])) * 2**14)
    return [factor * component for component in code.tolist()]


def _weight(stored: Stored) -> Fraction:
    return Fraction(stored.rate) * min(stored.count, 1_000)


def _stored(batch: PatternBatch, i: int) -> Stored:
    return Stored(
        code=batch.codes[i].tobytes(),
        rate=float(batch.rates[i]),
        count=int(batch.counts[i]),
        created_at=int(batch.created_at[i]),
        updated_at=int(batch.updated_at[i]),
        context=batch.contexts[i],
    )


def patterns_of(batch: PatternBatch) -> list[Pattern]:
    """An answer in the words of the model."""
    stored = [_stored(batch, i) for i in range(len(batch))]
    return [
        (bytes(pattern_id), s.code, s.rate, s.count, s.created_at, s.updated_at, s.context)
        for pattern_id, s in zip(batch.ids, stored, strict=True)
    ]

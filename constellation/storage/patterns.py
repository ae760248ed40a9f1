"""The operations on stored patterns by name, for operators' tools and tests: `postgres` and `memory` implement them.

A running shard answers from its own tables and writes by `writing`: a store is for a database that no shard serves.
One caller at a time.

Constraints, what must hold, whichever store it is:
- The key of a pattern is (device, id): equal ids of two devices are two patterns.
- What is put is what `writing.write` would store, and each change of a pattern has a global version of its own.
- Rates merge as on a shard: weighted by samples, in double precision, kept as float32.
- Similar patterns are other devices' with a success rate of at least SERVED_RATE_MIN, the nearest by cosine first;
  exactly the nearest, unless a store says otherwise.
- Trends count the last week, decayed by the hour, as shares of the highest.
What must fail: nothing quietly; what is not there is told by False.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from constellation.limits import SAMPLE_COUNT_MAX, TRENDING_MAX
from constellation.model import Ids, PatternBatch, Trend
from constellation.records import Change, DeviceRows, PatternKeys, PatternRows, empty_change

SERVED_RATE_MIN = 0.8


class PatternStore(Protocol):
    """Patterns, devices and trends of one shard. Device and pattern ids are 16 bytes."""

    async def put(self, change: Change) -> None:
        """Store what the change says."""
        ...

    async def store_patterns(self, device_id: bytes, patterns: PatternBatch) -> None:
        """Add the patterns to the device's, or replace those of the same id; it need not be known yet."""
        ...

    async def update_pattern(
        self, device_id: bytes, pattern_id: bytes, new_success_rate: float, additional_samples: int
    ) -> bool:
        """Merge a rate observed over more samples; False if there is no such pattern."""
        ...

    async def remove_pattern(self, device_id: bytes, pattern_id: bytes) -> bool:
        """False if there is no such pattern."""
        ...

    async def similar_patterns(self, device_id: bytes, code: npt.NDArray[np.int8], limit: int) -> PatternBatch:
        """The other devices' patterns nearest to a code (384,) int8, best first."""
        ...

    async def trending(self, hour: int, limit: int = TRENDING_MAX) -> list[Trend]:
        """What is watched most in the week up to this hour (unix seconds / 3,600), best first, then by name."""
        ...

    async def total_patterns(self) -> int: ...

    async def device_pattern_count(self, device_id: bytes) -> int: ...


def added(device_id: bytes, patterns: PatternBatch, version: int, entered: int, known: bool) -> Change:
    """The device's patterns as a change, entered from this number on; a device that is not known comes with them."""
    change = empty_change(version)
    n = len(patterns)
    if not known:
        zero = np.zeros(1, np.int64)
        change.devices = DeviceRows(
            ids=as_ids(device_id),
            sequences=zero,
            fingerprints=zero.astype(np.uint64),
            cursors=zero,
            last_syncs=zero,
            credit_hours=zero.astype(np.uint32),
            credit_used=zero.astype(np.uint32),
        )
    change.patterns = PatternRows(
        owners=np.repeat(as_ids(device_id), n, axis=0),
        patterns=patterns,
        entered=np.arange(entered, entered + n, dtype=np.int64),
        versions=np.full(n, version, np.int64),
        items=[""] * n,
        item_samples=np.zeros(n, np.uint32),
        item_hours=np.zeros(n, np.uint32),
    )
    return change


def removed(device_id: bytes, pattern_id: bytes, version: int) -> Change:
    change = empty_change(version)
    change.gone = PatternKeys(as_ids(device_id), as_ids(pattern_id))
    return change


def merged(rate: float, count: int, new_rate: float, samples: int) -> tuple[np.float32, int]:
    """Rate and count of a pattern after more samples."""
    old, new = float(np.float32(rate)), float(np.float32(new_rate))
    return np.float32((old * count + new * samples) / (count + samples)), min(count + samples, SAMPLE_COUNT_MAX)


def shares(scores: list[tuple[str, float]], region: str) -> list[Trend]:
    """Trends of (item, score), best first."""
    return [Trend(item, round(score / scores[0][1], 6), region) for item, score in scores]


def as_ids(id_: bytes) -> Ids:
    return np.frombuffer(id_, np.uint8).reshape(1, -1)

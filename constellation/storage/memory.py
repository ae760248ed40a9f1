"""Patterns in the process's memory, plainly and exactly: what the store in PostgreSQL is held against."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.limits import TREND_DECAY_PER_HOUR, TRENDING_MAX
from constellation.model import DIM, Context, PatternBatch, Trend
from constellation.records import Change, PatternRows
from constellation.storage.patterns import SERVED_RATE_MIN, added, merged, removed, shares
from kernels.trends import HOURS

Key = tuple[bytes, bytes]
"""Device and pattern id."""


class Row(NamedTuple):
    code: npt.NDArray[np.int8]
    rate: np.float32
    samples: int
    created_at: int
    updated_at: int
    context: Context
    entered: int


class MemoryPatternStore:
    """A `PatternStore`; nothing of it outlives the process."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._devices: set[bytes] = set()
        self._rows: dict[Key, Row] = {}
        self._trends: dict[tuple[str, int], int] = {}
        self._version = 0

    async def put(self, change: Change) -> None:
        for forgotten in change.forgotten:
            self._devices.discard(forgotten.device_id)
            self._rows = {key: row for key, row in self._rows.items() if key[0] != forgotten.device_id}
        self._devices |= {id_.tobytes() for id_ in change.devices.ids}
        for owner, id_ in zip(change.gone.owners, change.gone.ids, strict=True):
            self._rows.pop((owner.tobytes(), id_.tobytes()), None)
        self._rows |= _rows(change.patterns)
        cells = change.trends
        for item, hour, count in zip(cells.items, cells.hours.tolist(), cells.counts.tolist(), strict=True):
            self._trends[item, hour] = count
        self._version = max(self._version, change.version)

    async def store_patterns(self, device_id: bytes, patterns: PatternBatch) -> None:
        entered = max((row.entered for key, row in self._rows.items() if key[0] == device_id), default=-1) + 1
        await self.put(added(device_id, patterns, self._version + 1, entered, device_id in self._devices))

    async def update_pattern(
        self, device_id: bytes, pattern_id: bytes, new_success_rate: float, additional_samples: int
    ) -> bool:
        key = (device_id, pattern_id)
        if (row := self._rows.get(key)) is None:
            return False
        rate, count = merged(float(row.rate), row.samples, new_success_rate, additional_samples)
        self._rows[key] = row._replace(rate=rate, samples=count)
        self._version += 1
        return True

    async def remove_pattern(self, device_id: bytes, pattern_id: bytes) -> bool:
        if (device_id, pattern_id) not in self._rows:
            return False
        await self.put(removed(device_id, pattern_id, self._version + 1))
        return True

    async def similar_patterns(self, device_id: bytes, code: npt.NDArray[np.int8], limit: int) -> PatternBatch:
        found = [
            (key, row)
            for key, row in self._rows.items()
            if key[0] != device_id and row.rate >= np.float32(SERVED_RATE_MIN)
        ]
        codes = np.array([row.code for _, row in found], np.float64).reshape(-1, DIM)
        cosines = codes @ code / np.linalg.norm(codes, axis=1)
        return _batch([found[k] for k in np.argsort(-cosines, kind="stable")[:limit]])

    async def trending(self, hour: int, limit: int = TRENDING_MAX) -> list[Trend]:
        scores: dict[str, float] = {}
        for (item, counted), count in self._trends.items():
            if count and hour - HOURS < counted <= hour:
                scores[item] = scores.get(item, 0) + count * TREND_DECAY_PER_HOUR ** (hour - counted)
        best = sorted(scores.items(), key=lambda entry: (-entry[1], entry[0].encode()))
        return shares(best[:limit], self._region)

    async def total_patterns(self) -> int:
        return len(self._rows)

    async def device_pattern_count(self, device_id: bytes) -> int:
        return sum(key[0] == device_id for key in self._rows)


def _rows(came: PatternRows) -> dict[Key, Row]:
    batch = came.patterns
    columns = (batch.codes, batch.rates, batch.counts.tolist(), batch.created_at.tolist(), batch.updated_at.tolist())
    return {
        (owner.tobytes(), id_.tobytes()): Row(*values)
        for owner, id_, *values in zip(
            came.owners, batch.ids, *columns, batch.contexts, came.entered.tolist(), strict=True
        )
    }


def _batch(found: list[tuple[Key, Row]]) -> PatternBatch:
    rows = [row for _, row in found]
    return PatternBatch(
        ids=np.frombuffer(b"".join(key[1] for key, _ in found), np.uint8).reshape(-1, 16),
        codes=np.array([row.code for row in rows], np.int8).reshape(-1, DIM),
        rates=np.array([row.rate for row in rows], np.float32),
        counts=np.array([row.samples for row in rows], np.uint32),
        created_at=np.array([row.created_at for row in rows], np.int64),
        updated_at=np.array([row.updated_at for row in rows], np.int64),
        contexts=[row.context for row in rows],
    )

"""The latencies of the last syncs, measured, for `GET /stats`: a ring of fixed size, written once per sync."""

import math
import time
from collections.abc import Callable

import numpy as np


class Latencies:
    """The last `size` durations and when each ended, on a monotonic clock. `record` costs less than a microsecond."""

    def __init__(self, size: int, monotonic: Callable[[], float] = time.perf_counter) -> None:
        self._ended_at = [0.0] * size
        self._durations_s = [0.0] * size
        self._monotonic = monotonic
        self._count = 0

    def record(self, ended_at: float, duration_s: float) -> None:
        slot = self._count % len(self._ended_at)
        self._ended_at[slot] = ended_at
        self._durations_s[slot] = duration_s
        self._count += 1

    @property
    def count(self) -> int:
        """Of all that were recorded."""
        return self._count

    def percentiles_ms(self, percents: tuple[float, ...], within_s: float) -> list[float]:
        """Of those that ended in the last seconds, as far as the ring reaches; NaN where none did. About 0.3 ms."""
        filled = min(self._count, len(self._ended_at))
        recent = np.array(self._ended_at[:filled]) >= self._monotonic() - within_s
        durations = np.array(self._recorded())[recent]
        found: list[float] = (np.percentile(durations, percents) * 1e3).tolist() if len(durations) else []
        return found or [math.nan] * len(percents)

    def average_ms(self) -> float:
        return float(np.mean(self._recorded())) * 1e3 if self._count else 0.0

    def p99_ms(self) -> float:
        return float(np.percentile(self._recorded(), 99)) * 1e3 if self._count else 0.0

    def per_minute(self) -> float:
        """Syncs of the last minute; when the ring holds less than that, its own rate, times a minute."""
        now = self._monotonic()
        filled = min(self._count, len(self._ended_at))
        within = sum(1 for ended_at in self._ended_at[:filled] if now - ended_at <= 60.0)
        oldest_s = now - min(self._ended_at[:filled], default=now)
        if within < len(self._ended_at) or oldest_s <= 0.0:
            return float(within)
        return within / oldest_s * 60.0

    def _recorded(self) -> list[float]:
        return self._durations_s[: min(self._count, len(self._durations_s))]

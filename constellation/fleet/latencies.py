"""Latencies in a fixed number of buckets, each 1% wider than the one before (the idea of HdrHistogram).

Costs a logarithm an observation and 15 KB whatever the length of the run; a quantile is exact to 1%.
"""

import math

SHORTEST_S = 1e-5
LONGEST_S = 1e3
_GROWTH = math.log(1.01)
_BUCKETS = math.ceil(math.log(LONGEST_S / SHORTEST_S) / _GROWTH) + 1


class Latencies:
    """Counts of observed durations, in seconds; what lies outside the range counts as its nearest end."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_s = 0.0
        self._counts = [0] * _BUCKETS

    def observe(self, duration_s: float) -> None:
        bounded = min(max(duration_s, SHORTEST_S), LONGEST_S)
        self._counts[int(math.log(bounded / SHORTEST_S) / _GROWTH)] += 1
        self.count += 1
        self.longest_s = max(self.longest_s, duration_s)

    def merge(self, other: "Latencies") -> None:
        """Add what another one observed."""
        self._counts = [ours + theirs for ours, theirs in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.longest_s = max(self.longest_s, other.longest_s)

    def quantile_s(self, share: float) -> float:
        """The upper end of the bucket that holds the `share` quantile, never beyond the longest; 0 while empty."""
        wanted = max(1, math.ceil(share * self.count))
        seen = 0
        for number, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(SHORTEST_S * math.exp((number + 1) * _GROWTH), self.longest_s)
        return 0.0

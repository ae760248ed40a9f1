"""Quantiles from buckets agree with exact ones to their width."""

import numpy as np
import pytest

from constellation.fleet.latencies import LONGEST_S, SHORTEST_S, Latencies


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 0.999, 1.0])
def test_quantiles_are_exact_to_one_percent(share: float) -> None:
    durations = np.random.default_rng(2).lognormal(-5, 1.5, size=10_000)
    latencies = Latencies()
    for duration in durations:
        latencies.observe(float(duration))
    exact = float(np.quantile(durations, share, method="inverted_cdf"))
    assert exact <= latencies.quantile_s(share) * 1.000_001 <= exact * 1.011


def test_empty_has_no_latency() -> None:
    assert Latencies().quantile_s(0.99) == 0


def test_what_is_out_of_range_counts_at_the_nearest_end() -> None:
    latencies = Latencies()
    for duration in (0.0, -1.0, LONGEST_S * 2):
        latencies.observe(duration)
    assert latencies.count == 3
    assert latencies.quantile_s(0.5) == pytest.approx(SHORTEST_S, rel=0.011)
    assert latencies.longest_s == LONGEST_S * 2

"""The measured latencies against plain arithmetic over the last records."""

import numpy as np
import pytest

from constellation.api.latencies import Latencies


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_percentiles_are_of_the_last_seconds_and_nan_where_there_were_none(rng: np.random.Generator) -> None:
    clock = Clock()
    latencies, durations = Latencies(100, clock), rng.random(50)
    assert np.isnan(latencies.percentiles_ms((50, 99), 10)).all()
    for second, duration_s in enumerate(durations):
        latencies.record(1_000.0 + second, float(duration_s))
    clock.now = 1_000.0 + len(durations)
    expected = np.percentile(durations[-10:], (50, 99.9)) * 1e3
    assert latencies.percentiles_ms((50, 99.9), 10) == pytest.approx(expected.tolist())
    assert latencies.count == 50
    clock.now += 100
    assert np.isnan(latencies.percentiles_ms((50,), 10)).all()


def test_nothing_recorded_is_zero() -> None:
    latencies = Latencies(4)
    assert (latencies.average_ms(), latencies.p99_ms(), latencies.per_minute()) == (0.0, 0.0, 0.0)


def test_only_the_last_ones_count(rng: np.random.Generator) -> None:
    latencies, durations = Latencies(100, Clock()), rng.random(250)
    for duration_s in durations:
        latencies.record(1_000.0, float(duration_s))
    assert latencies.average_ms() == pytest.approx(durations[-100:].mean() * 1e3)
    assert latencies.p99_ms() == pytest.approx(np.percentile(durations[-100:], 99) * 1e3)


def test_rate_counts_the_last_minute() -> None:
    clock = Clock()
    latencies = Latencies(100, clock)
    for second in range(90):
        clock.now = 1_000.0 + second
        latencies.record(clock.now, 0.001)
    assert latencies.per_minute() == 61  # both ends of the minute


def test_rate_beyond_the_ring_is_extrapolated() -> None:
    clock = Clock()
    latencies = Latencies(100, clock)
    for step in range(500):
        clock.now = 1_000.0 + step * 0.01
        latencies.record(clock.now, 0.001)
    assert latencies.per_minute() == pytest.approx(6_000, rel=0.02)

"""What came lately, and what of it is near a query."""

import numpy as np
import pytest

from kernels import reference
from kernels.arrivals import LOW_BITS, ROW, Arrivals, came_since, empty_arrivals, likely, note
from kernels.sketches import AXES, Sketch
from tests.kernels.material import random_codes

RING = 64


def came(count: int, points: int, seed: int = 1) -> tuple[Arrivals, list[Sketch]]:
    """Row i % 50 is arrival i + 1."""
    arrivals = empty_arrivals(RING, 50, random_codes(seed + 1, points, AXES))
    sketches = list(random_codes(seed, count, AXES))
    for i, sketch in enumerate(sketches):
        note(arrivals, i % 50, sketch)
    return arrivals, sketches


def numbers(arrivals: Arrivals, sketch: Sketch, since: int, seen: int, want: int) -> set[int]:
    now = int(arrivals.counts[0])
    slots = likely(arrivals, sketch, since, seen, want).tolist()
    found = {now - 1 - (now - 1 - slot) % RING for slot in slots}
    assert len(found) == len(slots)
    assert all(arrivals.words[number % RING, ROW] == (number - 1) % 50 for number in found)
    return found


@pytest.mark.parametrize("points", [1, 3, 40])
@pytest.mark.parametrize("seen", [0, 1_000])
def test_all_that_came_since_are_looked_at_if_they_may_be(points: int, seen: int) -> None:
    for count in (0, 1, 7, 63, 64, 65, 200):
        arrivals, sketches = came(count, points)
        for since in {1, count // 2 + 1, count, count + 1} - {0}:
            since = max(since, count + 1 - RING)
            for want in (1, 5, 1_000):
                found = numbers(arrivals, sketches[0] if count else np.ones(AXES, np.int8), since, seen, want)
                if seen:
                    query = sketches[0] if count else np.ones(AXES, np.int8)
                    assert found == reference.likely(sketches, query, since, want)
                assert all(since <= number <= count for number in found)


def test_of_more_those_of_the_nearest_points_are_looked_at() -> None:
    points = np.random.default_rng(3).integers(-127, 128, (30, AXES), np.int8)
    arrivals = empty_arrivals(RING, 60, points)
    for row in range(60):
        note(arrivals, row, points[row % 30])
    for wanted in range(30):
        found = likely(arrivals, points[wanted], 1, 2, 2)
        assert sorted(arrivals.words[found, ROW].tolist()) == [wanted, wanted + 30]


def test_a_row_arrived_when_it_came_last() -> None:
    arrivals, _ = came(120, 2)
    assert arrivals.arrived.tolist() == [101 + row if row < 20 else 51 + row for row in range(50)]


def test_what_came_since_is_known_by_the_last_time_it_came() -> None:
    arrivals, _ = came(60, 2)
    for row in range(50):
        last = 51 + row if row < 10 else row + 1
        assert [came_since(arrivals, row, since) for since in range(1, 62)] == [since <= last for since in range(1, 62)]


def test_low_bits_that_come_again_are_no_news() -> None:
    arrivals, sketches = came(20, 2)
    arrivals.counts[0] = LOW_BITS + 1 + 10  # so many arrivals later
    note(arrivals, 40, sketches[0])
    since = LOW_BITS + 1 + 10
    assert arrivals.arrived[40] == arrivals.arrived[9] == 10
    assert came_since(arrivals, 40, since) and not came_since(arrivals, 9, since)

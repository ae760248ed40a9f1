"""Trends: what new samples are credited to, how much of a device counts, fading, and what forgetting takes back."""

import numpy as np
import pytest

from constellation.model import Trend
from constellation.shard import Shard
from constellation.shard import trends as shard_trends
from constellation.shard.trends import Trends
from tests.shard.material import EVERYTHING, START, batch, id_of, new_shard, request, title

HOUR = 3_600


def watch(shard: Shard, device: int, pattern: int, count: int, now: float = START, hints: tuple[str, ...] = ()) -> None:
    """The device has a pattern with an embedding of its number and so many samples."""
    shard.apply(request(device, batch([(pattern, 0.9, count)], hints=hints)), now)


def top(shard: Shard, now: float = START) -> dict[str, float]:
    return {trend.content_id: trend.trending_score for trend in shard.trending(50, now)}


def test_samples_count_for_the_nearest_title_else_for_the_first_hint() -> None:
    shard = new_shard()
    shard.put_content(title("solaris", code=1), START)
    shard.put_content(title("stalker", code=2), START)
    watch(shard, 1, 2, 40, hints=("drama",))
    watch(shard, 2, 1, 20, hints=("drama",))
    watch(shard, 3, 3, 10, hints=("drama", "comedy"))
    watch(shard, 4, 4, 50)
    assert shard.trending(50, START) == [
        Trend("stalker", 1.0, "local"),
        Trend("solaris", 0.5, "local"),
        Trend("genre:drama", 0.25, "local"),
    ]
    assert [trend.content_id for trend in shard.trending(2, START)] == ["stalker", "solaris"]
    assert shard.answer(id_of(9), EVERYTHING).trending == shard.trending(50, START)


def test_only_new_samples_count() -> None:
    shard = new_shard()
    watch(shard, 1, 1, 30, hints=("a",))
    watch(shard, 1, 1, 50, hints=("a",))  # 20 more
    watch(shard, 1, 1, 10, hints=("a",))  # none more
    shard.apply(request(1, updated=[(1, 0.9, 25)]), START)
    shard.apply(request(1, [(8, 0.2, 100)]), START)  # filtered
    watch(shard, 2, 2, 75, hints=("b",))
    assert top(shard) == {"genre:a": 1.0, "genre:b": 1.0}


def test_a_device_counts_for_so_much_an_hour() -> None:
    shard = new_shard()
    watch(shard, 1, 1, 150, hints=("a",))
    watch(shard, 1, 2, 1_000_000, hints=("b",))  # 50 are left
    shard.apply(request(1, updated=[(1, 1.0, 500)]), START)
    assert top(shard) == {"genre:a": 1.0, "genre:b": pytest.approx(1 / 3, abs=1e-6)}
    shard.apply(request(1, updated=[(2, 1.0, 500)]), START + HOUR)
    faded = {"genre:a": 150 * 0.95 / (50 * 0.95 + 200), "genre:b": 1.0}
    assert top(shard, START + HOUR) == pytest.approx(faded, abs=1e-6)


def test_an_evicted_pattern_counts_for_nothing() -> None:
    shard = new_shard(per_device=1)
    watch(shard, 1, 1, 100, hints=("a",))
    watch(shard, 1, 2, 5, hints=("b",))
    assert top(shard).keys() == {"genre:a"}


def test_trends_fade_and_are_gone_after_a_week() -> None:
    shard = new_shard()
    watch(shard, 1, 1, 100, hints=("a",))
    watch(shard, 2, 2, 100, now=START + 10 * HOUR, hints=("b",))
    assert top(shard, START + 10 * HOUR) == {"genre:a": pytest.approx(0.95**10, abs=1e-6), "genre:b": 1.0}
    assert top(shard, START + 167 * HOUR).keys() == {"genre:a", "genre:b"}
    assert top(shard, START + 168 * HOUR).keys() == {"genre:b"}
    assert top(shard, START + 400 * HOUR) == {}


def test_a_clock_that_steps_back_fades_nothing_and_loses_nothing() -> None:
    shard = new_shard()
    watch(shard, 1, 1, 100, hints=("a",))
    watch(shard, 2, 2, 100, now=START - 5 * HOUR, hints=("b",))
    assert top(shard, START - 9 * HOUR) == top(shard) == {"genre:a": 1.0, "genre:b": 1.0}


def test_removing_a_pattern_takes_nothing_back_forgetting_does() -> None:
    shard = new_shard()
    watch(shard, 1, 1, 40, hints=("a",))
    watch(shard, 2, 2, 30, hints=("a",))
    watch(shard, 3, 3, 100, hints=("b",))
    shard.apply(request(1, removed=[1]), START)
    assert top(shard) == {"genre:b": 1.0, "genre:a": pytest.approx(0.7)}
    shard.forget(id_of(2), START + HOUR)
    assert top(shard, START + HOUR) == {"genre:b": 1.0, "genre:a": pytest.approx(0.4)}
    shard.forget(id_of(3), START + HOUR)
    assert top(shard, START + HOUR) == {"genre:a": 1.0}


def test_forgetting_takes_back_what_was_counted_over_hours_and_replacements() -> None:
    """A device sends its pattern anew, with more samples, hour after hour."""
    shard = new_shard()
    watch(shard, 2, 2, 10, hints=("b",))
    for hour in range(6):
        watch(shard, 1, 1, 20 * (hour + 1), now=START + hour * HOUR, hints=("a",))
    assert top(shard, START + 6 * HOUR).keys() == {"genre:a", "genre:b"}
    shard.forget(id_of(1), START + 6 * HOUR)
    assert top(shard, START + 6 * HOUR) == {"genre:b": 1.0}


def test_forgetting_takes_back_nothing_that_left_the_week() -> None:
    shard = new_shard()
    watch(shard, 1, 1, 100, hints=("a",))
    later = START + 200 * HOUR
    shard.apply(request(1, updated=[(1, 0.9, 10)]), later)
    watch(shard, 2, 2, 100, now=later, hints=("a",))
    watch(shard, 3, 3, 100, now=later, hints=("b",))
    shard.forget(id_of(1), later)
    assert top(shard, later) == {"genre:a": 1.0, "genre:b": 1.0}


def test_a_pattern_keeps_its_title_until_it_is_replaced() -> None:
    shard = new_shard()
    watch(shard, 1, 1, 10, hints=("a",))
    shard.put_content(title("solaris", code=1), START)
    shard.apply(request(1, updated=[(1, 0.9, 10)]), START)
    assert top(shard).keys() == {"genre:a"}
    watch(shard, 1, 1, 40, hints=("a",))
    assert top(shard) == {"genre:a": 1.0, "solaris": 1.0}


def test_a_genre_without_room_or_with_too_long_a_name_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_trends, "GENRE_TRENDS_MAX", 2)
    trends = Trends(titles=2, region="local")
    assert [trends.genre_item(name) for name in ("a", "b", "c", "a")] == [0, 1, -1, 0]
    assert Trends(titles=2, region="local").genre_item("x" * 59) == -1
    assert Trends(titles=2, region="local").genre_item("x" * 58) == 0


def test_the_best_of_many_are_those_of_a_sort(rng: np.random.Generator) -> None:
    trends = Trends(titles=2_000, region="local")
    for number in range(2_000):
        trends.title(number, f"t{number}")
    hour = trends.hour(START)
    scores = np.zeros(2_000)
    for step in range(3_000):
        if step % 300 == 299:
            hour += 1
            assert trends.hour(hour * HOUR) == hour
            scores *= 0.95
        number, samples = int(rng.integers(2_000)), int(rng.integers(1, 200))
        assert trends.credit(trends.title_item(number), samples) == samples
        scores[number] += samples
        if step % 100 == 0:
            wanted = np.sort(scores[scores > 0])[::-1][:50]
            got = trends.top(50)
            np.testing.assert_allclose([t.trending_score for t in got], wanted / wanted[0], atol=1e-6)
            numbers = [int(t.content_id[1:]) for t in got]
            np.testing.assert_allclose(scores[numbers], wanted, rtol=1e-9)


def test_a_title_may_be_posted_before_the_first_hour_and_costs_no_week() -> None:
    """The first hour after a start is no turn of 168 hours over every item."""
    trends = Trends(titles=10, region="local")
    for number in range(10):
        trends.title(number, f"t{number}")
    trends.hour(START)
    trends.credit(trends.title_item(9), 5)
    assert trends.top(5) == [Trend("t9", 1.0, "local")]


def test_time_passes_for_the_answer_to_a_repeated_delta_too() -> None:
    shard = new_shard()
    delta = request(1, batch([(1, 0.9, 20)], hints=("a",)), sequence=7)
    shard.apply(delta, START)
    week_later = START + 8 * 24 * HOUR
    assert shard.apply(delta, week_later).accepted.duplicate
    assert shard.answer(id_of(1), EVERYTHING).trending == []

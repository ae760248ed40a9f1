"""How many shards and devices must stand behind what is published, one less than that, and that many."""

import numpy as np
import pytest

from constellation.federation import FederationCoordinator
from constellation.rounds import FederationResult, Partial
from tests.federation.material import HOUR, Device, draw_device, partial, terms

WORDS = ["evening", "weekend", "movie", "drama"]


def like_minded(count: int, rng: np.random.Generator, samples: int = 0) -> list[Device]:
    """Devices with one pattern each, all in one bucket, that watched one film."""
    one = draw_device(rng)
    one = one._replace(
        buckets=np.zeros(1, np.int32),
        codes=one.codes[:1],
        rates=one.rates[:1],
        counts=one.counts[:1],
        words=[WORDS],
        views=[("film:1", HOUR, samples)] if samples else [],
    )
    return [one] * count


def run(homes: list[list[Device]], shards: int, **thresholds: int) -> FederationResult:
    """A round of that many shards of which the first ones report."""
    partials: list[Partial] = [partial(number, own) for number, own in enumerate(homes)]
    return FederationCoordinator(terms(shards, **thresholds)).run_federation(partials)


@pytest.mark.parametrize(
    ("homes", "shards", "min_devices", "published"),
    [
        ([1, 1], 5, 1, False),
        ([1, 1, 1], 5, 1, True),
        ([9, 9, 0], 5, 1, False),
        ([6, 6, 7], 5, 20, False),
        ([6, 6, 8], 5, 20, True),
        ([2], 1, 1, False),
        ([3], 1, 1, True),
        ([19], 1, 20, False),
        ([20], 1, 20, True),
        ([1, 1], 2, 1, False),
        ([1, 2], 2, 1, True),
        ([3, 0], 2, 1, False),
    ],
)
def test_prototype_needs_its_shards_and_devices(
    homes: list[int], shards: int, min_devices: int, published: bool, rng: np.random.Generator
) -> None:
    given = [like_minded(count, rng) for count in homes]
    found = run(given, shards, min_devices=min_devices).prototypes
    assert len(found) == published
    if published:
        assert (found.sources.tolist(), found.devices.tolist()) == ([np.count_nonzero(homes)], [sum(homes)])


def test_context_needs_as_many_as_a_prototype(rng: np.random.Generator) -> None:
    """What 19 devices say of themselves is not told, what 20 say is, though the bucket has 30."""
    rare = [device._replace(words=[["night", *WORDS[1:]]]) for device in like_minded(19, rng)]
    for more, time_of_day in ((0, ""), (1, "night")):
        devices = [*rare, *(rare[:1] * more), *like_minded(11, rng)]
        (context,) = run([devices], 1, min_devices=20).prototypes.contexts
        assert (context.time_of_day, context.day_of_week, context.genre_hints) == (time_of_day, "weekend", ("drama",))


@pytest.mark.parametrize(
    ("homes", "shards", "min_devices", "samples", "published"),
    [
        ([1, 1], 5, 1, 200, False),
        ([1, 1, 1], 5, 1, 1, True),
        ([19, 0, 0], 3, 1, 200, False),
        ([6, 6, 7], 3, 20, 200, False),
        ([6, 6, 8], 3, 20, 200, True),
        ([6, 6, 7], 3, 20, 2, False),
        ([6, 6, 8], 3, 20, 2, True),
        ([2], 1, 1, 200, False),
        ([3], 1, 1, 200, True),
    ],
)
def test_trend_needs_shards_and_devices(
    homes: list[int], shards: int, min_devices: int, samples: int, published: bool, rng: np.random.Generator
) -> None:
    given = [like_minded(count, rng, samples) for count in homes]
    for trends in run(given, shards, min_devices=min_devices).trends:
        assert trends.items == ["film:1"] * published
        assert trends.scores.tolist() == [1.0] * published


def test_no_more_trends_are_published_than_asked_and_equals_go_by_name(rng: np.random.Generator) -> None:
    devices = [
        device._replace(views=[(title, HOUR, 7) for title in ("film:3", "film:1", "film:2")])
        for device in like_minded(3, rng)
    ]
    made = run([devices], 1, min_source_count=1, trends_max=2)
    assert [trends.items for trends in made.trends] == [["film:1", "film:2"]] * 2

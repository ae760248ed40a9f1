"""What a device changes of a round, and the noise that hides it."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.federation import FederationCoordinator, RoundTerms
from constellation.federation.gaussian import SIGMA_MAX, Integers
from constellation.federation.noise import DEVICE_SCORE_MAX, Field, Noising, decayed, expected_sources, fields, scale_of
from constellation.federation.terms import Noise
from constellation.model import DIM
from constellation.rounds import BOUNDS, GLOBAL, FederationResult, Partial, Privacy, encode
from constellation.shard import Shard
from kernels.contributions import Totals, empty_totals
from kernels.trends import HOURS
from tests.federation.material import HOUR, Device, draw_device, partial, terms
from tests.shard.material import START, batch, codebook, request
from tests.shard.material import settings as bounds

BOUND = BOUNDS["aggregates"]
NOISE = Noise(0.5, Privacy(1.0, 1e-9))
BOOK = codebook(1, size=9)
DEVICES_MIN = 20

patterns = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from([0.7, 0.9, 1.0]), st.sampled_from([1, 90, 1_000, 1_000_000])),
    min_size=1,
    max_size=9,
    unique_by=lambda pattern: pattern[0],
)


def noising(seed: int = 1) -> Noising:
    return Noising(NOISE, BOUND, DEVICES_MIN, np.random.default_rng(seed).bytes)


def given_by(devices: list[list[tuple[int, float, int]]], hours: int) -> Partial:
    """A shard of aggregates whose devices learn these patterns, and the same in some hours more."""
    shard = Shard(msgspec.structs.replace(bounds(), sharing="aggregates"), START, codebook=BOOK)
    for hour in range(hours):
        for number, added in enumerate(devices):
            hints = [f"genre {number}", "drama", *(f"hint {pattern}" for pattern, *_ in added)]
            of = batch(added, codes=[code for code, *_ in added], hints=hints[:8])
            shard.apply(request(number, of), START + 3_600 * hour)
    while shard.maintain():
        pass
    steps: Any = shard.partial(1, 1, BOOK.version)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def released(of: Partial) -> dict[str, dict[Any, int]]:
    """The vectors that a round of this partial publishes, by component."""
    strings = (of.contexts.strings[number] for number in of.contexts.string_of.tolist())
    columns = of.contexts.buckets.tolist(), of.contexts.places.tolist(), strings
    scores = decayed(of.trends.counts.astype(np.int64), of.hour)
    found: dict[str, dict[Any, int]] = {
        "sums": {
            (bucket, i): x
            for bucket, row in zip(of.buckets.numbers.tolist(), of.buckets.sums.tolist(), strict=True)
            for i, x in enumerate(row)
        },
        "strings": dict(zip(zip(*columns, strict=True), of.contexts.counts.tolist(), strict=True)),
        "trends": dict(zip(of.trends.items, scores.tolist(), strict=True)),
        "all_devices": {0: of.devices},
        "all_patterns": {0: int(of.buckets.patterns.sum())},
    }
    for name in ("weights", "samples", "devices"):
        found[name] = dict(zip(of.buckets.numbers.tolist(), getattr(of.buckets, name).tolist(), strict=True))
    return found


@given(st.lists(patterns, max_size=3), patterns, st.integers(1, 3))
@settings(max_examples=40)
def test_a_device_changes_each_field_by_no_more_than_its_bound(
    others: list[list[tuple[int, float, int]]], extreme: list[tuple[int, float, int]], hours: int
) -> None:
    with_it, without = released(given_by([*others, extreme], hours)), released(given_by(others, hours))
    assert with_it.keys() == fields(BOUND).keys()
    for name, field in fields(BOUND).items():
        more, less = with_it[name], without[name]
        changes = [more.get(key, 0) - less.get(key, 0) for key in more.keys() | less.keys()]
        assert math.sqrt(sum(change**2 for change in changes)) <= field.length, name
        assert np.count_nonzero(changes) <= field.components, name


def test_shares_are_one_whole() -> None:
    assert math.fsum(field.share for field in fields(BOUND).values()) == pytest.approx(1, abs=1e-12)


@given(st.floats(1, 1e15), st.integers(1, 10_000), st.floats(0.1, 100))
def test_sigma_covers_what_a_device_changes_after_rounding(length: float, components: int, multiplier: float) -> None:
    field = Field(length, components, 0.25)
    sigma, unit = scale_of(field, multiplier)
    rounding = math.sqrt(components) if unit > 1 else 0
    assert 1 <= sigma <= SIGMA_MAX and sigma >= 2 * multiplier * (length / unit + rounding)
    assert unit == 1 or 2 * multiplier * (2 * length / unit + math.sqrt(components)) >= SIGMA_MAX


def test_names_that_fewer_have_do_not_get_through_and_those_of_many_do() -> None:
    """However often it is tried; and what gets through is near what it was."""
    drawing = noising()
    assert not drawing.strings(np.full(50_000, DEVICES_MIN - 1)).any()
    many = drawing.strings(np.full(50_000, 10_000))
    assert abs(many.mean() - 10_000) < 1 and 3 < many.std() < 12
    week = np.zeros((HOURS, 5_000), np.int64)
    week[:] = 200
    assert not drawing.trends(week, HOUR).any()
    most = drawing.trends(1_000 * week, HOUR) / (1_000 * DEVICE_SCORE_MAX)
    assert abs(most.mean() - 1) < 1e-3


def test_buckets_of_few_devices_or_of_noise_have_none() -> None:
    totals = empty_totals(2_000, DIM)
    totals.devices[:] = np.arange(2_000) // 500 * (DEVICES_MIN - 1)
    assert not noising().totals(totals).devices.any()
    totals.devices[:] = 1_000_000
    assert not noising().totals(totals).devices.any()  # they cancel each other out
    totals.sums[:, 0] = 10**15
    assert noising().totals(totals).devices.min() > 900_000


def test_rates_stay_rates() -> None:
    noised = noising().totals(empty_totals(3_000, DIM))
    assert noised.samples.min() == 1
    assert (noised.weights >= 1).all() and (noised.weights <= noised.samples).all()


@pytest.mark.parametrize(
    ("devices", "shards", "wanted"), [(0, 5, 0), (1, 5, 1), (1_000, 5, 5), (50, 100, 39), (7, 0, 0)]
)
def test_sources_are_those_of_devices_dealt_evenly(devices: int, shards: int, wanted: int) -> None:
    assert expected_sources(np.array([devices]), shards).tolist() == [wanted]


def like_minded(rng: np.random.Generator, samples: int) -> Device:
    """One pattern of many samples, and a film that is watched all week."""
    one = draw_device(rng)
    views = [("film:1", HOUR - age, samples) for age in range(HOURS)]
    return one._replace(
        buckets=one.buckets[:1],
        codes=one.codes[:1],
        rates=one.rates[:1],
        counts=np.full(1, 100, np.uint32),
        words=[["evening", "weekend", "movie", "drama"]],
        views=views,
    )


def of_many(one: Device, times: int) -> Partial:
    """As if that many devices were the same."""
    made = partial(0, [one])
    for column in (made.buckets.sums, made.buckets.weights, made.buckets.samples, made.buckets.patterns):
        column *= times
    made.buckets.devices *= times
    made.contexts.counts *= times
    made.trends.counts = (made.trends.counts.astype(np.int64) * times).clip(max=1 << 30).astype(np.uint32)
    made.devices, made.sharing = times, "aggregates"
    return made


def noised_terms() -> RoundTerms:
    return msgspec.structs.replace(terms(1), sharing="aggregates", min_devices=DEVICES_MIN, noise=NOISE)


def run(given: list[Partial], seed: int) -> FederationResult:
    return FederationCoordinator(noised_terms(), np.random.default_rng(seed).bytes).run_federation(given)


def test_a_noised_round_is_near_the_truth_and_says_how_private_it_is(rng: np.random.Generator) -> None:
    one = like_minded(rng, samples=20)
    made = run([of_many(one, 100_000)], 1)
    assert made.privacy == NOISE.privacy
    assert 99_000 < made.devices < 101_000 and 90_000 < made.patterns < 110_000
    found = made.prototypes
    assert found.numbers.tolist() == one.buckets.tolist() and found.sources.tolist() == [1]
    code, true = found.codes[0].astype(float), one.codes[0].astype(float)
    assert code @ true / np.linalg.norm(code) / np.linalg.norm(true) > 0.99
    assert found.rates[0] == pytest.approx(one.rates[0], abs=0.01) and found.quality[0] == pytest.approx(1, abs=0.01)
    assert found.contexts[0].genre_hints == ("drama",)
    assert [trends.items for trends in made.trends] == [["film:1"], ["film:1"]]
    assert made.trends[-1].region == GLOBAL and made.trends[0].scores.tolist() == [1.0]


def test_a_noised_round_of_a_few_publishes_nothing(rng: np.random.Generator) -> None:
    for seed in range(5):
        made = run([of_many(like_minded(rng, samples=200), DEVICES_MIN)], seed)
        assert len(made.prototypes) == 0 and [trends.items for trends in made.trends] == [[], []]


def test_noise_is_drawn_anew_from_the_source_alone(rng: np.random.Generator) -> None:
    given = [of_many(like_minded(rng, samples=20), 100_000)]
    assert encode(run(given, 1)) == encode(run(given, 1)) != encode(run(given, 2))
    first, second = (encode(FederationCoordinator(noised_terms()).run_federation(given)) for _ in range(2))
    assert first != second


def test_noise_is_for_aggregates_alone() -> None:
    with pytest.raises(AssertionError):
        msgspec.structs.replace(noised_terms(), sharing="patterns")


def test_noised_totals_have_the_noise_that_was_asked_for() -> None:
    """Of empty buckets it is all that is there; and the excess that quality is corrected by is its square."""
    drawing = noising()
    sums: Integers = drawing.totals(Totals(*empty_totals(2_000, DIM))).sums
    squares = (sums.astype(np.float64) ** 2).sum(axis=1)
    assert squares.mean() == pytest.approx(drawing.excess_square, rel=0.01)
    assert sums.std() == pytest.approx(NOISE.multiplier * math.sqrt(2) * fields(BOUND)["sums"].length, rel=0.01)

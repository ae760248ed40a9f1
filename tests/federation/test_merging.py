"""A round is what its definition says, to the last bit, whoever reports first and wherever a device lives."""

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation import catalogue
from constellation.federation import FederationCoordinator, RoundTerms
from constellation.fleet.households import make_patterns, neighbour_table
from constellation.limits import WEIGHT_COUNT_CAP
from constellation.model import DIM
from constellation.rounds import GLOBAL, FederationResult, Partial, decode_partial, encode
from kernels.codes import inverse_norms, quantise
from kernels.trends import HOURS
from tests.federation import twin
from tests.federation.material import (
    BUCKETS,
    HOUR,
    REGIONS,
    TITLES,
    Device,
    draw_device,
    partial,
    terms,
)

SEEDS = st.integers(0, 2**32 - 1)


def run(partials: Sequence[Partial], of: RoundTerms) -> FederationResult:
    return FederationCoordinator(of).run_federation(iter(partials))


def dealt(devices: Sequence[Device], shard_of: Sequence[int], shards: int) -> list[Partial]:
    """The partials of devices that live on the shards named."""
    homes = [[device for device, home in zip(devices, shard_of, strict=True) if home == n] for n in range(shards)]
    return [partial(number, own) for number, own in enumerate(homes)]


def draw_partials(rng: np.random.Generator, shards: int, devices: int) -> list[Partial]:
    shard_of = rng.integers(0, shards, devices).tolist()
    return dealt([draw_device(rng) for _ in range(devices)], shard_of, shards)


def check_against_twin(partials: Sequence[Partial], of: RoundTerms) -> None:
    made = run(partials, of)
    found, wanted = made.prototypes, twin.prototypes(partials, of)
    assert found.numbers.tolist() == list(wanted)
    for i, want in enumerate(wanted.values()):
        assert found.ids[i].tobytes() == want.id
        assert found.codes[i].tolist() == want.code
        assert (found.rates[i], found.counts[i]) == (want.rate, want.samples)
        assert msgspec.structs.astuple(found.contexts[i]) == want.context
        assert found.quality[i] == pytest.approx(want.quality, rel=1e-6)
        assert (found.sources[i], found.devices[i]) == (want.sources, want.devices)
    for trends in made.trends:
        of_region = [given for given in partials if trends.region in (given.region, GLOBAL)]
        shards = sum(trends.region in (region, GLOBAL) for region in of.shards.values())
        best = twin.trending(of_region, shards, of)
        assert trends.items == [one.item for one in best]
        np.testing.assert_allclose(trends.scores, [one.score for one in best], rtol=1e-6)
        for column, one in enumerate(best):
            wanted_week = [one.week.get(hour, 0) for hour in range(HOUR - HOURS + 1, HOUR + 1)]
            assert np.roll(trends.counts[:, column], -((HOUR + 1) % HOURS)).tolist() == wanted_week


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
@pytest.mark.parametrize(("devices", "min_devices"), [(0, 1), (1, 1), (12, 1), (60, 20)])
def test_round_agrees_with_twin(shards: int, devices: int, min_devices: int, rng: np.random.Generator) -> None:
    partials = draw_partials(rng, shards, devices)
    check_against_twin(partials, terms(shards, min_devices=min_devices))
    check_against_twin(partials, terms(shards, min_source_count=1, trends_max=2))
    check_against_twin(partials[1:], terms(shards, min_source_count=2))


def test_regions_are_told_apart_and_together(rng: np.random.Generator) -> None:
    devices = [draw_device(rng) for _ in range(30)]
    partials = [partial(n, devices[6 * n : 6 * n + 6], REGIONS[n % 2]) for n in range(5)]
    of = msgspec.structs.replace(terms(5), shards={one.shard_id: one.region for one in partials}, min_source_count=2)
    check_against_twin(partials, of)
    assert [trends.region for trends in run(partials, of).trends] == [*REGIONS, GLOBAL]


@given(SEEDS, st.permutations(range(5)))
@settings(max_examples=30)
def test_any_order_of_shards_gives_the_same_bits(seed: int, order: list[int]) -> None:
    partials = draw_partials(np.random.default_rng(seed), 5, 25)
    assert encode(run([partials[i] for i in order], terms(5))) == encode(run(partials, terms(5)))


@given(SEEDS, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
@settings(max_examples=30)
def test_any_split_of_devices_gives_the_same_but_for_sources(seed: int, homes: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(seed)
    devices = [draw_device(rng) for _ in homes]
    of = terms(4, min_source_count=1, min_devices=2)
    made = [run(dealt(devices, shard_of, 4), of) for shard_of in zip(*homes, strict=True)]
    for one in made:
        one.prototypes.sources = np.zeros(0, np.int64)
    assert encode(made[0]) == encode(made[1])


def test_partials_are_taken_one_at_a_time_and_let_go(rng: np.random.Generator) -> None:
    partials = draw_partials(rng, 4, 20)
    told: list[weakref.ref[Any]] = []

    def arriving() -> Iterator[Partial]:
        for content in map(encode, partials):
            one = decode_partial(content)
            told.append(weakref.ref(one.buckets.sums))
            yield one
            del one
            assert sum(sums() is not None for sums in told) <= 1

    made = FederationCoordinator(terms(4)).run_federation(arriving())
    assert len(told) == 4 and encode(made) == encode(run(partials, terms(4)))


def test_a_coordinator_keeps_nothing_of_a_round(rng: np.random.Generator) -> None:
    partials, coordinator = draw_partials(rng, 3, 9), FederationCoordinator(terms(3))
    assert encode(coordinator.run_federation(partials)) == encode(coordinator.run_federation(partials))


def test_empty_round_publishes_nothing_and_says_who_was_missing() -> None:
    made = run([], terms(3))
    assert (len(made.prototypes), made.patterns, made.devices) == (0, 0, 0)
    assert (made.shards_expected, made.shards_reported) == (3, 0)
    assert [(trends.region, trends.items) for trends in made.trends] == [(GLOBAL, [])]


def test_a_bucket_whose_embeddings_cancel_out_has_no_prototype(rng: np.random.Generator) -> None:
    one = draw_device(rng)._replace(buckets=np.zeros(1, np.int32), views=[])
    one = one._replace(codes=one.codes[:1], rates=one.rates[:1], counts=one.counts[:1], words=one.words[:1])
    made = run([partial(0, [one, one._replace(codes=-one.codes)])], terms(1, min_source_count=1))
    assert len(made.prototypes) == 0 and made.patterns == 2


def test_ids_are_those_of_bucket_and_codebook(rng: np.random.Generator) -> None:
    partials = draw_partials(rng, 1, 40)
    first, second = (run(partials, terms(1, min_source_count=1, round=7)).prototypes for _ in range(2))
    np.testing.assert_array_equal(first.ids, second.ids)
    assert len({bytes(one) for one in first.ids}) == BUCKETS
    for one in partials:
        one.codebook_version += 1
    other = run(partials, terms(1, min_source_count=1, codebook_version=4)).prototypes
    assert not {bytes(one) for one in first.ids} & {bytes(one) for one in other.ids}


def test_hours_that_are_not_of_the_rounds_week_do_not_count() -> None:
    """A shard whose clock is an hour ahead or behind, and one that is a year behind."""
    for ahead, counted in ((0, HOURS), (1, HOURS - 1), (-1, HOURS - 1), (-HOURS, 0), (-9_000, 0), (HOURS, 0)):
        given_ = partial(0, [])
        given_.hour += ahead
        given_.trends.items = [TITLES[0]]
        given_.trends.devices = np.ones(1, np.int64)
        given_.trends.counts = np.full((HOURS, 1), 401, np.uint32)
        check_against_twin([given_], terms(1))
        published = run([given_], terms(1)).trends[-1].counts
        assert published.sum() == counted * 401


def test_prototype_is_the_true_weighted_mean_of_real_embeddings(rng: np.random.Generator) -> None:
    vectors = catalogue.load().vectors()[:400]
    films = rng.integers(0, len(vectors), 600).astype(np.int32)
    patterns = make_patterns(vectors, neighbour_table(vectors), films, rng)
    devices = [
        draw_device(rng)._replace(
            buckets=(films[rows] % BUCKETS).astype(np.int32),
            codes=quantise(patterns[rows]),
            rates=rng.uniform(0.7, 1, 3).astype(np.float32),
            counts=rng.integers(1, 300, 3, dtype=np.uint32),
            words=[["", "", "", ""]] * 3,
        )
        for rows in np.arange(600).reshape(-1, 3)
    ]
    made = run(dealt(devices, rng.integers(0, 4, len(devices)).tolist(), 4), terms(4)).prototypes
    means = np.zeros((BUCKETS, DIM))
    for device in devices:
        weights = device.rates.astype(np.float64) * np.minimum(device.counts, WEIGHT_COUNT_CAP)
        units = device.codes * inverse_norms(device.codes).astype(np.float64)[:, None]
        np.add.at(means, device.buckets, weights[:, None] * units)
    codes = made.codes.astype(np.float64)
    cosines = (codes * means).sum(axis=1) / np.linalg.norm(codes, axis=1) / np.linalg.norm(means, axis=1)
    assert len(made) == BUCKETS and cosines.mean() > 1 - 1e-4

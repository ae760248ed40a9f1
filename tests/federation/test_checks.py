"""A partial that is not of this round, or that cannot be true, is refused by name and leaves nothing behind."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.federation import FederationCoordinator, RefusedPartial
from constellation.model import DIM
from constellation.rounds import GROUPS, GroupMeans, Partial, encode
from kernels.sums import PATTERNS_MAX, WEIGHT_SUM_LIMIT
from kernels.trends import HOURS
from tests.federation.material import BUCKETS, REGIONS, TITLES, draw_device, partial, terms

SHARDS, REPORTING = 9, 4
"""With fewer than nine no shard can hold so much that int64 would not hold all of them."""

Lie = Callable[[Partial], None]


def field(name: str, value: Any) -> Lie:
    return lambda lying: setattr(lying, name, value)


def cell(part: str, name: str, value: int) -> Lie:
    """The first number of a column is another."""

    def tell(lying: Partial) -> None:
        getattr(getattr(lying, part), name).flat[0] = value

    return tell


def more(part: str, name: str, beyond: str) -> Lie:
    """The first number of a column is one more than the first of another."""

    def tell(lying: Partial) -> None:
        columns = getattr(lying, part)
        getattr(columns, name)[0] = getattr(columns, beyond)[0] + 1

    return tell


def long_sum(sign: int) -> Lie:
    def tell(lying: Partial) -> None:
        lying.buckets.sums[0, 5] = sign * ((int(lying.buckets.weights[0]) << 14) + 1)

    return tell


def heavy(lying: Partial) -> None:
    """So much that nine of these reach the limit."""
    lying.buckets.patterns[0] = lying.buckets.devices[0] = lying.devices = PATTERNS_MAX
    lying.buckets.samples[0] = lying.buckets.weights[0] = WEIGHT_SUM_LIMIT // SHARDS


def heavy_group(lying: Partial) -> None:
    lying.groups.devices[0] = PATTERNS_MAX
    lying.groups.weights[0] = WEIGHT_SUM_LIMIT // SHARDS


def more_samples_than_devices_have(lying: Partial) -> None:
    lying.buckets.patterns[0], lying.buckets.devices[0] = 9, 2
    lying.buckets.samples[0] = lying.buckets.weights[0] = 512_001


def more_samples_than_a_pattern_gives(lying: Partial) -> None:
    lying.buckets.patterns[0] = lying.buckets.devices[0] = 1
    lying.buckets.samples[0] = (1 << 18) + 1


def a_string_twice_in_a_place(lying: Partial) -> None:
    lying.contexts.buckets[:2] = lying.contexts.buckets[0]
    lying.contexts.places[:2] = 0
    lying.contexts.string_of[:2] = 0
    lying.contexts.counts[:2] = 1


LIES: dict[str, tuple[Lie, str]] = {
    "a stranger": (field("shard_id", "nobody"), "not one of the 9 shards"),
    "another region": (field("region", REGIONS[1]), "region: expected eu, got us"),
    "another round": (field("round", 8), "round: expected 7, got 8"),
    "another map": (field("map_epoch", 1), "map_epoch: expected 2, got 1"),
    "another codebook": (field("codebook_version", 4), "codebook_version: expected 3, got 4"),
    "what patterns are shared by": (field("sharing", "aggregates"), "sharing: expected patterns, got aggregates"),
    "no hour": (field("hour", -1), "hour"),
    "an hour beyond int64": (field("hour", 1 << 63), "hour"),
    "fewer devices than a bucket has": (field("devices", 0), "devices: 0 cannot"),
    "more devices than all buckets have": (field("devices", 1 << 40), "devices: 1099511627776 cannot"),
    "a bucket before the first": (cell("buckets", "numbers", -1), "ascending numbers"),
    "a bucket behind the last": (cell("buckets", "numbers", BUCKETS), "ascending numbers"),
    "a bucket twice": (lambda lying: lying.buckets.numbers.__setitem__(1, lying.buckets.numbers[0]), "ascending"),
    "no device": (cell("buckets", "devices", 0), "at least one device"),
    "more devices than patterns": (more("buckets", "devices", "patterns"), "a pattern a device"),
    "more patterns than a shard holds": (cell("buckets", "patterns", PATTERNS_MAX + 1), "at most 134217728 patterns"),
    "more samples than patterns give": (more_samples_than_a_pattern_gives, "samples of at most 262144 a pattern"),
    "negative weight": (cell("buckets", "weights", -1), "weights from 0"),
    "more weight than samples": (more("buckets", "weights", "samples"), "weights from 0 to the samples"),
    "more samples than devices have": (more_samples_than_devices_have, "at most 256000 a device"),
    "weights that could overflow": (heavy, "so that 9 shards fit into int64"),
    "a sum that is too long": (long_sum(1), "sums of at most 16384 times"),
    "a negative sum that is too long": (long_sum(-1), "sums of at most 16384 times"),
    "the least sum": (cell("buckets", "sums", -(1 << 63)), "sums of at most"),
    "a string that is not there": (cell("contexts", "string_of", 99), "numbers of them"),
    "a string twice": (lambda lying: lying.contexts.strings.append(lying.contexts.strings[0]), "distinct strings"),
    "a long string": (lambda lying: lying.contexts.strings.append("ä" * 17), "at most 32 bytes"),
    "a place that is none": (cell("contexts", "places", 4), "places 0 to 3"),
    "a context of no bucket": (cell("contexts", "buckets", BUCKETS), "buckets below 5"),
    "a context before the first bucket": (cell("contexts", "buckets", -1), "buckets below 5"),
    "a context counted twice": (a_string_twice_in_a_place, "each string once"),
    "a context of too many devices": (cell("contexts", "counts", PATTERNS_MAX + 1), "from 1 to 134217728"),
    "a context of no device": (cell("contexts", "counts", 0), "from 1 to 134217728"),
    "a cell behind the last": (cell("groups", "cells", BUCKETS * GROUPS), "ascending cells below 40"),
    "a cell before the first": (cell("groups", "cells", -1), "ascending cells below 40"),
    "a mean that is too long": (cell("groups", "means", (1 << 14) + 1), "means of at most 16384"),
    "a negative mean that is too long": (cell("groups", "means", -(1 << 14) - 1), "means of at most 16384"),
    "a group of nobody": (cell("groups", "devices", 0), "devices from 1"),
    "a group of too many": (cell("groups", "devices", PATTERNS_MAX + 1), "devices from 1 to 134217728"),
    "a group without weight": (cell("groups", "weights", 0), "weights from 1 to 256000 a device"),
    "a group that is too heavy": (cell("groups", "weights", 256_001), "weights from 1 to 256000 a device"),
    "groups that could overflow": (heavy_group, "groups: expected weights of at most 31274997412294"),
    "an item twice": (lambda lying: lying.trends.items.__setitem__(0, lying.trends.items[1]), "distinct items"),
    "an item without name": (lambda lying: lying.trends.items.__setitem__(0, ""), "1 to 64 bytes"),
    "an item with a long name": (lambda lying: lying.trends.items.__setitem__(0, "x" * 65), "1 to 64 bytes"),
}


def draw_shard(number: int, rng: np.random.Generator) -> Partial:
    """With at least two buckets, contexts and items to lie about."""
    devices = [draw_device(rng) for _ in range(12)]
    views = [(title, 489_000, 7) for title in TITLES[:2]]
    made = partial(number, [device._replace(views=views) for device in devices])
    ones = np.ones(2, np.int64)
    made.groups = GroupMeans(np.arange(2, dtype=np.int32), np.ones((2, DIM), np.int16), ones, ones.copy())
    return made


@pytest.mark.parametrize("lie", LIES)
def test_lie_is_refused_by_the_name_of_its_shard(lie: str, rng: np.random.Generator) -> None:
    lying = draw_shard(1, rng)
    tell, why = LIES[lie]
    tell(lying)
    with pytest.raises(RefusedPartial, match=f"shard '{lying.shard_id}' is refused: .*{why}") as refused:
        FederationCoordinator(terms(SHARDS)).run_federation([lying])
    assert refused.value.shard_id == lying.shard_id


@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(LIES)), st.integers(0, REPORTING - 1))
@settings(max_examples=60)
def test_round_without_a_refused_partial_is_as_if_it_never_came(seed: int, lie: str, at: int) -> None:
    rng = np.random.default_rng(seed)
    partials = [draw_shard(number, rng) for number in range(REPORTING)]
    LIES[lie][0](partials[at])
    refused: list[RefusedPartial] = []
    coordinator = FederationCoordinator(terms(SHARDS))
    made = coordinator.run_federation(partials, refused.append)
    assert [one.shard_id for one in refused] == [partials[at].shard_id]
    assert encode(made) == encode(coordinator.run_federation(partials[:at] + partials[at + 1 :]))


def test_shard_that_reports_twice_counts_once(rng: np.random.Generator) -> None:
    partials = [draw_shard(number, rng) for number in range(REPORTING)]
    refused: list[RefusedPartial] = []
    coordinator = FederationCoordinator(terms(SHARDS))
    made = coordinator.run_federation([*partials, draw_shard(2, rng), partials[0]], refused.append)
    assert [str(one) for one in refused] == [
        f"the partial of shard 'shard-{number}' is refused: it has reported already" for number in (2, 0)
    ]
    assert encode(made) == encode(coordinator.run_federation(partials))


def test_what_is_at_the_limits_is_taken_and_does_not_overflow(rng: np.random.Generator) -> None:
    """Every shard as heavy as it may be, with embeddings that all point one way."""
    partials = [draw_shard(number, rng) for number in range(SHARDS)]
    weight = WEIGHT_SUM_LIMIT // SHARDS - 1
    for one in partials:
        one.buckets.numbers[0] = 0
        one.buckets.patterns[0] = one.buckets.devices[0] = one.devices = PATTERNS_MAX
        one.buckets.samples[0] = one.buckets.weights[0] = weight
        one.buckets.sums[0], one.buckets.sums[0, 3] = 0, -(weight << 14)
        one.trends.counts[:] = 2**32 - 1
    made = FederationCoordinator(terms(SHARDS)).run_federation(partials)
    prototypes = made.prototypes
    assert prototypes.codes[0, 3] == -127 and prototypes.codes[0].any() and np.count_nonzero(prototypes.codes[0]) == 1
    assert (prototypes.rates[0], prototypes.quality[0], prototypes.counts[0]) == (1, 1, 1_000_000)
    assert made.trends[-1].counts.tolist() == [[SHARDS * (2**32 - 1)] * 2] * HOURS

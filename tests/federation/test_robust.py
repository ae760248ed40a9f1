"""The geometric median of groups: a few devices do not move it far, whatever they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.federation import FederationCoordinator
from constellation.federation.robust import geometric_medians
from constellation.federation.terms import RoundTerms
from constellation.model import DIM, Codes
from constellation.rounds import GROUPS, Partial, Prototypes, decode_partial, encode
from constellation.shard import Shard
from constellation.shard.groups import group_of
from kernels.codes import inverse_norms
from tests.federation.material import shard_name, terms
from tests.shard.material import START, batch, code_of, codebook, id_of, ids_of, request
from tests.shard.material import settings as bounds

KEY = b"of this round"
BOOK = codebook(1, size=1)
SHARDS, HONEST = 3, 90


def robust_terms(key: bytes = KEY) -> RoundTerms:
    """One bucket, so that everybody is in it."""
    return terms(SHARDS, map_epoch=1, codebook_version=BOOK.version, buckets=1, group_key=key, min_source_count=1)


def shards_of(devices: dict[int, tuple[int, float, int]], key: bytes = KEY) -> list[Partial]:
    """What shards give whose devices have each one pattern: its code, rate and count."""
    shards = [Shard(bounds(), START, codebook=BOOK) for _ in range(SHARDS)]
    for device, (code, rate, count) in devices.items():
        added = batch([(1, rate, count)], codes=[code])
        shards[device % SHARDS].apply(request(device, added), START)
    found = []
    for number, shard in enumerate(shards):
        while shard.maintain():
            pass
        steps = shard.partial(7, 1, BOOK.version, key)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                end.value.shard_id, end.value.region = shard_name(number), "eu"
                found.append(decode_partial(encode(end.value)))
                break
    return found


def direction(found: Prototypes, code: Codes) -> float:
    """Cosine of the one prototype with a code."""
    codes = np.stack([found.codes[0], code])
    left, right = codes * inverse_norms(codes)[:, None]
    return float(left @ right)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_attackers_in_less_than_half_of_the_groups_do_not_turn_a_prototype(groups: int) -> None:
    """A tenth of all devices, as heavy as they may be, all saying the same; the plain mean says it after them."""
    honest = {device: (0, 0.8, 10) for device in range(HONEST)}
    group_of_id = {n: int(group_of(ids_of([n]), KEY)[0]) for n in range(HONEST, 1_000)}
    caught = [device for device, group in group_of_id.items() if group < groups][: HONEST // 10]
    attack = {device: (1, 1.0, 1_000) for device in caught}
    assert len(attack) == 9 and len({group_of_id[device] for device in attack}) == groups
    given = shards_of(honest | attack)
    robust = FederationCoordinator(robust_terms()).run_federation(given).prototypes
    plain = FederationCoordinator(robust_terms(b"")).run_federation(given).prototypes
    assert direction(robust, code_of(0)) > 0.95
    assert direction(plain, code_of(0)) < 0.3 < 0.9 < direction(plain, code_of(1))
    assert (robust.devices[0], robust.sources[0]) == (plain.devices[0], plain.sources[0])


def test_without_attackers_median_and_mean_agree(rng: np.random.Generator) -> None:
    devices = {device: (int(rng.integers(0, 3)), 0.9, 50) for device in range(300)}
    given = shards_of(devices)
    robust = FederationCoordinator(robust_terms()).run_federation(given).prototypes
    plain = FederationCoordinator(robust_terms(b"")).run_federation(given).prototypes
    assert direction(robust, plain.codes[0]) > 0.98
    assert robust.quality[0] == pytest.approx(plain.quality[0], abs=0.05)


def test_any_order_of_shards_gives_the_same_bits_and_any_split_of_devices_the_same_groups() -> None:
    devices = {device: (device % 5, 0.9, 10 + device) for device in range(60)}
    given = shards_of(devices)
    results = {
        encode(FederationCoordinator(robust_terms()).run_federation(given[turn:] + given[:turn])) for turn in range(3)
    }
    assert len(results) == 1
    moved = shards_of({SHARDS * device: of for device, of in devices.items()})
    assert moved[0].groups.devices.sum() == sum(int(one.groups.devices.sum()) for one in given)


def test_groups_of_a_shard_are_those_of_its_devices() -> None:
    """Sums, weights and devices by group, against each device's own."""
    devices = {device: (device % 4, 0.75 + device % 3 / 10, 10 + 97 * device) for device in range(30)}
    for number, given_ in enumerate(shards_of(devices)):
        own = {device: of for device, of in devices.items() if device % SHARDS == number}
        groups = group_of(ids_of(list(own)), KEY)
        for cell, mean, weight, count in zip(
            given_.groups.cells, given_.groups.means, given_.groups.weights, given_.groups.devices, strict=True
        ):
            members = [of for of, group in zip(own.values(), groups, strict=True) if group == cell]
            units = np.array([code_of(code) * inverse_norms(code_of(code)[None])[0] for code, _, _ in members])
            weights = np.rint([np.float32(rate) * min(samples, 1_000) * 256 for _, rate, samples in members])
            assert (weight, count) == (weights.sum(), len(members))
            np.testing.assert_allclose(mean / 2**14, weights @ units / weights.sum(), atol=2e-4)
        assert given_.groups.devices.sum() == len(own)


def test_a_round_without_a_key_gets_no_groups() -> None:
    assert all(len(one.groups) == 0 for one in shards_of({1: (0, 0.9, 10)}, key=b""))


def test_groups_are_even_and_others_with_another_key() -> None:
    ids = ids_of(range(8_000))
    groups, others = group_of(ids, KEY), group_of(ids, b"another")
    assert np.abs(np.bincount(groups, minlength=GROUPS) - 1_000).max() < 5 * np.sqrt(1_000)
    assert abs(np.count_nonzero(groups == others) - 1_000) < 5 * np.sqrt(1_000)
    assert group_of(ids_of([7]), KEY).tolist() == [groups[7]] and id_of(7) == bytes(ids[7])


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=30)
def test_no_point_nearby_is_nearer_to_all(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.uniform(-1, 1, (3, GROUPS, d)), rng.integers(0, 9, (3, GROUPS))
    weights[:, 0] += 1

    def cost(at: np.ndarray) -> np.ndarray:
        return (weights * np.linalg.norm(points - at[:, None], axis=2)).sum(axis=1)  # type: ignore[no-any-return]

    medians = geometric_medians(points, weights)
    allowed = 1e-3 * weights.sum(axis=1)
    for _ in range(20):
        assert (cost(medians) <= cost(medians + rng.normal(0, 0.05, medians.shape)) + allowed).all()
    assert (cost(medians) <= np.min([cost(points[:, i]) for i in range(GROUPS)], axis=0) + allowed).all()


def test_nobody_gives_no_direction() -> None:
    assert not geometric_medians(np.ones((2, GROUPS, DIM)), np.zeros((2, GROUPS), np.int64)).any()

"""How deltas change patterns: the rules one by one, each where a machine of random deltas may not reach."""

import numpy as np
import pytest

from constellation.config import Settings
from constellation.errors import SequenceConflict, ShardFull
from constellation.model import Accepted
from constellation.shard import Shard
from tests.shard.material import EVERYTHING, START, batch, code_of, id_of, new_shard, request
from tests.shard.model import patterns_of

ASKING = id_of(999)


def rates_of(shard: Shard) -> dict[int, tuple[float, int]]:
    """Rate and count by pattern number, of all served patterns."""
    return {int.from_bytes(p[0], "big"): (p[2], p[3]) for p in patterns_of(shard.answer(ASKING, EVERYTHING).similar)}


def test_equal_ids_of_two_devices_are_two_patterns() -> None:
    shard = new_shard()
    shard.apply(request(1, batch([(7, 0.9, 10)], codes=[1])), START)
    shard.apply(request(2, batch([(7, 0.95, 20)], codes=[2])), START)
    assert shard.stats(START).patterns_stored == 2
    shard.apply(request(1, removed=[7]), START)
    only = shard.answer(ASKING, EVERYTHING).similar
    np.testing.assert_array_equal(only.codes, [code_of(2)])
    assert shard.apply(request(1, updated=[(7, 1.0, 5)], removed=[7]), START).accepted == Accepted(rejected=2)


def test_the_rate_is_the_mean_over_all_samples() -> None:
    shard = new_shard()
    shard.apply(request(1, [(1, 0.9, 30), (2, 1.0, 1_000_000)]), START)
    accepted = shard.apply(request(1, updated=[(1, 1.0, 10), (2, 0.9, 1_000_000), (1, 0.8, 40)]), START + 60).accepted
    assert accepted == Accepted(updated=3)
    rate, count = rates_of(shard)[1]
    assert rate == pytest.approx((0.9 * 30 + 10 + 0.8 * 40) / 80, abs=1e-6) and count == 80
    rate, count = rates_of(shard)[2]
    assert rate == pytest.approx(0.95, abs=1e-6) and count == 1_000_000
    assert set(shard.answer(ASKING, EVERYTHING).similar.updated_at.tolist()) == {START + 60}


def test_an_update_may_take_a_pattern_out_of_service_and_back() -> None:
    shard = new_shard()
    shard.apply(request(1, [(1, 0.9, 100)]), START)
    shard.apply(request(1, updated=[(1, 0.0, 100)]), START)
    assert rates_of(shard) == {} and shard.stats(START).patterns_stored == 1
    shard.apply(request(1, updated=[(1, 1.0, 10_000)]), START)
    assert rates_of(shard)[1][0] > 0.9


def test_patterns_whose_rates_have_gone_to_nothing_still_ask() -> None:
    """Hundreds of failures in one delta bring a rate down to zero, and with it every weight."""
    shard = new_shard()
    shard.apply(request(2, [(5, 0.9, 10)]), START)
    shard.apply(request(1, [(1, 0.8, 1_000_000)]), START)
    shard.apply(request(1, updated=[(1, 0.0, 1_000_000)] * 200), START)
    assert len(shard.answer(id_of(1), EVERYTHING).similar) == 1


def test_a_stored_pattern_that_comes_back_too_poor_goes() -> None:
    shard = new_shard()
    shard.apply(request(1, [(1, 0.9, 10), (2, 0.9, 10)]), START)
    version = shard.global_version
    assert shard.apply(request(1, [(1, 0.5, 20)]), START).accepted == Accepted(filtered=1)
    assert rates_of(shard).keys() == {2}
    assert shard.global_version > version


def test_thresholds_are_compared_as_float32() -> None:
    """0.7 and 0.8 as float32 are not 0.7 and 0.8: what a device sends as exactly those passes."""
    shard = new_shard()
    below = np.nextafter(np.array([0.7, 0.8], np.float32), np.float32(0)).tolist()
    added = [(1, 0.7, 10), (2, below[0], 10), (3, 0.8, 10), (4, below[1], 10)]
    assert shard.apply(request(1, added), START).accepted == Accepted(added=3, filtered=1)
    assert rates_of(shard).keys() == {3}


def test_the_lightest_are_evicted_and_of_equals_the_longest_stored() -> None:
    shard = new_shard(per_device=3)
    shard.apply(request(1, [(1, 0.9, 10), (2, 0.9, 10), (3, 0.9, 10)]), START)
    shard.apply(request(1, [(1, 0.9, 10)]), START)  # replacing makes no pattern younger
    assert shard.apply(request(1, [(4, 0.9, 10)]), START).accepted == Accepted(added=1, evicted=1)
    assert rates_of(shard).keys() == {2, 3, 4}
    assert shard.apply(request(1, [(5, 0.95, 2)]), START).accepted == Accepted(added=1, evicted=1)
    assert rates_of(shard).keys() == {2, 3, 4}
    light, heavy = [(10 + i, 0.9, 9) for i in range(50)], [(100 + i, 0.9, 5_000) for i in range(3)]
    assert shard.apply(request(1, light + heavy), START).accepted == Accepted(added=53, evicted=53)
    assert rates_of(shard).keys() == {100, 101, 102}


def test_counts_above_the_cap_weigh_the_same() -> None:
    shard = new_shard(per_device=1)
    shard.apply(request(1, [(1, 0.9, 1_000)]), START)
    shard.apply(request(1, [(2, 0.9, 1_000_000)]), START)
    assert rates_of(shard).keys() == {2}, "equal weights: the longest stored goes"


def test_equal_ids_in_one_delta_are_applied_in_order() -> None:
    shard = new_shard()
    accepted = shard.apply(request(1, [(1, 0.9, 10), (1, 0.95, 20), (2, 0.9, 5), (2, 0.1, 5)]), START).accepted
    assert accepted == Accepted(added=3, filtered=1)
    assert rates_of(shard) == {1: (float(np.float32(0.95)), 20)}
    assert shard.stats(START).patterns_stored == 1


def test_a_full_shard_takes_what_needs_no_room() -> None:
    shard = new_shard(devices=3, patterns=4, per_device=3)
    shard.apply(request(1, [(1, 0.9, 10), (2, 0.9, 20), (3, 0.9, 30)]), START)
    shard.apply(request(2, [(1, 0.9, 10)]), START)
    full = shard.stats(START)
    for refused in ([(2, 0.9, 10)], [(2, 0.9, 10), (3, 0.9, 10)], [(1, 0.9, 10), (2, 0.9, 10)]):
        with pytest.raises(ShardFull, match="patterns"):
            shard.apply(request(2, refused, sequence=5), START + 1)
    with pytest.raises(ShardFull):
        shard.apply(request(3, [(1, 0.9, 10)]), START + 1)
    assert shard.stats(START) == full
    assert shard.apply(request(2, [(1, 0.95, 11)]), START).accepted == Accepted(added=1)
    assert shard.apply(request(1, [(4, 0.9, 40)]), START).accepted == Accepted(added=1, evicted=1)
    assert shard.apply(request(2, [(1, 0.1, 1), (9, 0.9, 1)]), START).accepted == Accepted(added=1, filtered=1)
    assert shard.apply(request(2, [(8, 0.9, 1), (8, 0.2, 1)]), START).accepted == Accepted(added=1, filtered=1)
    assert shard.stats(START).patterns_stored == 4
    assert shard.apply(request(3), START).accepted == Accepted()


def test_a_hundred_new_patterns_replace_the_old_ones_of_a_full_shard() -> None:
    shard = new_shard(patterns=32)
    shard.apply(request(1, [(i, 0.9, 10) for i in range(32)]), START)
    accepted = shard.apply(request(1, [(100 + i, 0.9, 11) for i in range(100)]), START).accepted
    assert accepted == Accepted(added=100, evicted=100)
    assert shard.stats(START).patterns_stored == 32


def test_a_full_shard_refuses_new_devices_until_one_is_forgotten() -> None:
    shard = new_shard(devices=2)
    for device in (1, 2):
        shard.apply(request(device, [(1, 0.9, 10)]), START)
    with pytest.raises(ShardFull, match="devices"):
        shard.apply(request(3), START)
    shard.apply(request(1, [(2, 0.9, 10)]), START)
    assert shard.forget(id_of(2), START)
    assert not shard.forget(id_of(2), START)
    shard.apply(request(3), START)
    assert shard.stats(START).total_devices == 2 and shard.stats(START).patterns_stored == 2


def test_a_sequence_is_applied_once() -> None:
    shard = new_shard()
    first = request(1, [(1, 0.9, 10)], updated=[(1, 1.0, 10)], sequence=100, fingerprint=5)
    applied = shard.apply(first, START)
    assert applied.last_sequence == 100
    again = shard.apply(first, START + 1)
    assert again.accepted == Accepted(duplicate=True)
    assert (again.last_sequence, again.global_version) == (100, applied.global_version)
    late = shard.apply(request(1, removed=[1], sequence=99, fingerprint=6), START + 2)
    assert late.accepted == Accepted(duplicate=True) and late.last_sequence == 100
    with pytest.raises(SequenceConflict) as refused:
        shard.apply(request(1, removed=[1], sequence=100, fingerprint=6), START + 3)
    assert refused.value.extra == {"last_sequence": 100}
    rate, count = rates_of(shard)[1]
    assert rate == pytest.approx(0.95) and count == 20
    assert shard.apply(request(1, removed=[1]), START + 4).last_sequence == 100, "without a sequence it stays"
    assert shard.apply(request(1, sequence=101, fingerprint=7), START + 5).last_sequence == 101


def test_a_refused_delta_uses_up_no_sequence() -> None:
    shard = new_shard(patterns=1, per_device=1)
    shard.apply(request(2, [(1, 0.9, 1)]), START)
    too_many = request(1, [(1, 0.9, 1)], sequence=7)
    with pytest.raises(ShardFull):
        shard.apply(too_many, START)
    shard.forget(id_of(2), START)
    assert shard.apply(too_many, START).accepted == Accepted(added=1)


def test_what_changes_nothing_makes_no_version() -> None:
    shard = new_shard()
    shard.apply(request(1, [(1, 0.9, 1)]), START)
    version = shard.global_version
    assert version == START * 1_000_000
    for nothing in (request(1), request(2), request(1, [(9, 0.3, 1)]), request(1, updated=[(8, 1, 1)], removed=[8])):
        assert shard.apply(nothing, START + 10).global_version == version
    assert not shard.forget(id_of(77), START + 10)
    assert shard.apply(request(1, [(1, 0.9, 2)]), START - 500).global_version == version + 1, "the clock stepped back"


def test_with_thresholds_at_zero_everything_is_stored_and_served() -> None:
    shard = Shard(Settings(max_devices=9, max_patterns=99, quality_threshold=0, serve_threshold=0))
    shard.apply(request(1, [(1, 0.0, 1), (2, 0.0, 5)]), START)
    shard.apply(request(2, [(3, 0.0, 1)]), START)
    assert len(shard.answer(id_of(2), EVERYTHING).similar) == 2
    assert rates_of(shard).keys() == {1, 2, 3}

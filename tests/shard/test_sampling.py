"""Samples: served patterns only, each as likely as any other, none twice, none of who was forgotten meanwhile."""

import collections

import numpy as np

from constellation.limits import SAMPLE_MAX, SAMPLED_PER_TURN
from constellation.model import DIM, Codes
from constellation.shard import Shard
from tests.shard.material import START, batch, code_of, id_of, new_shard, request

NUMBER_OF = {code_of(number).tobytes(): number for number in range(400)}


def shard_of(*devices: range, rate: float = 0.9) -> Shard:
    """Device d has the patterns of the d-th range, each with the code of its number."""
    shard = new_shard(per_device=255)
    for device, numbers in enumerate(devices):
        for start in range(numbers.start, numbers.stop, 100):
            some = range(start, min(start + 100, numbers.stop))
            shard.apply(request(device, batch([(number, rate, 10) for number in some])), START)
    return shard


def drawn(shard: Shard, limit: int, seed: int = 1) -> list[int]:
    return numbers(shard.sample(limit, np.random.default_rng(seed)))


def numbers(pieces: collections.abc.Iterable[Codes]) -> list[int]:
    return [NUMBER_OF[code.tobytes()] for piece in pieces for code in piece]


def test_sample_has_different_served_patterns_and_no_others() -> None:
    shard = shard_of(range(100))
    shard.apply(request(7, batch([(number, 0.75, 10) for number in range(100, 200)])), START)
    shard.apply(request(7, removed=[150]), START)
    shard.apply(request(0, removed=[3, 4]), START)
    served = sorted(set(range(100)) - {3, 4})
    assert sorted(drawn(shard, SAMPLE_MAX)) == served
    some = drawn(shard, 30)
    assert len(some) == len(set(some)) == 30 and set(some) <= set(served)


def test_every_pattern_is_as_likely_as_any_other() -> None:
    """Of one device or another, in a full stretch of rows or between rows that are free."""
    shard = shard_of(range(10), range(10, 210))
    shard.apply(request(1, removed=range(12, 120)), START)
    left = [*range(12), *range(120, 210)]
    counts = collections.Counter(number for seed in range(500) for number in drawn(shard, 20, seed))
    expected = 500 * 20 / len(left)
    assert set(counts) == set(left)
    # Six standard deviations of a binomial: one in 10^7 runs would fail if the seeds were not fixed.
    assert max(abs(count - expected) for count in counts.values()) < 6 * expected**0.5


def test_sample_of_nothing_is_nothing() -> None:
    assert drawn(new_shard(), 5) == []
    assert drawn(shard_of(range(5), rate=0.75), 5) == []


def test_household_that_is_forgotten_meanwhile_is_not_told() -> None:
    shard = shard_of(range(50), range(50, 100))
    pieces = shard.sample(SAMPLE_MAX, np.random.default_rng(1))
    first = next(pieces)  # they are drawn now
    assert first.shape == (100, DIM)
    late = shard.sample(SAMPLE_MAX, np.random.default_rng(1))
    shard.forget(id_of(1), START)
    assert sorted(numbers(late)) == list(range(50))


def test_steps_are_bounded() -> None:
    shard = new_shard(devices=200, patterns=12_000, per_device=60)
    for device in range(200):
        added = [(60 * device + number, 0.9, 10) for number in range(60)]
        shard.apply(request(device, batch(added, codes=[number for number in range(60)])), START)
    pieces = shard.sample(SAMPLE_MAX, np.random.default_rng(1))
    sizes = [len(next(pieces))]
    shard.forget(id_of(0), START)
    sizes += [len(piece) for piece in pieces]
    assert max(sizes) <= SAMPLED_PER_TURN and SAMPLE_MAX - 60 <= sum(sizes) < SAMPLE_MAX

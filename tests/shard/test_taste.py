"""What is liked, bucket by bucket: what a count over the patterns says; nothing of few where aggregates are shared."""

import msgspec
import numpy as np

from constellation.limits import AGGREGATES_DEVICES_MIN
from constellation.shard import Shard
from tests.shard.material import START, code_of, codebook, new_shard, request, settings, title


def test_taste_is_a_count_of_what_is_stored() -> None:
    book = codebook(1, 8)
    shard = Shard(settings(), codebook=book)
    stored = {0: [(1, 0.8, 10), (2, 0.9, 30)], 1: [(1, 1.0, 20), (3, 0.9, 5)], 2: [(4, 0.7, 1)]}
    for device, patterns in stored.items():
        shard.apply(request(device, patterns), START)
    assert shard.taste() is None, "before every pattern is in its bucket"
    while shard.maintain():
        pass
    taste = shard.taste()
    assert taste is not None and taste.codebook is book
    flat = [(device, *pattern) for device, patterns in stored.items() for pattern in patterns]
    buckets = book.buckets(np.array([code_of(number) for _, number, _, _ in flat]))
    for i, bucket in enumerate(taste.numbers.tolist()):
        inside = [each for each, at in zip(flat, buckets.tolist(), strict=True) if at == bucket]
        assert taste.patterns[i] == len(inside)
        assert taste.devices[i] == len({device for device, *_ in inside})
        weighted = sum(rate * count for _, _, rate, count in inside) / sum(count for *_, count in inside)
        assert abs(taste.success[i] - weighted) < 1e-3
    assert taste.numbers.tolist() == sorted(set(buckets.tolist()))


def test_taste_of_aggregates_tells_nothing_of_fewer_devices_than_a_round_may() -> None:
    shard = Shard(msgspec.structs.replace(settings(), sharing="aggregates"), codebook=codebook(1, 8))
    while shard.maintain():
        pass
    for device in range(AGGREGATES_DEVICES_MIN):
        taste = shard.taste()
        assert taste is not None and len(taste.numbers) == 0
        shard.apply(request(device, [(1, 0.9, 10)]), START)
    taste = shard.taste()
    assert taste is not None and taste.devices.tolist() == [AGGREGATES_DEVICES_MIN]


def test_titles_near_are_the_most_like_first_and_those_that_are_there_now() -> None:
    shard = new_shard()
    assert shard.titles_near(np.array([code_of(1)]), 2) == [[]]
    for name, code in (("a", 1), ("b", 2), ("c", 3)):
        shard.put_content(title(name, code), START)
    shard.put_content(title("a", 4), START)
    near = shard.titles_near(np.array([code_of(2), code_of(4)]), 2)
    assert [items[0].content_id for items in near] == ["b", "a"]
    assert all(len(items) <= 2 for items in near)

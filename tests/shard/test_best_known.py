"""The order of the best known patterns: success rate, then sample count up to a thousand."""

import numpy as np

from constellation.limits import SIMILAR_MAX
from constellation.shard.best_known import BestKnown
from tests.shard.material import EVERYTHING, START, id_of, new_shard, request


def test_rate_comes_first_then_the_capped_count() -> None:
    known = BestKnown(10)
    merits = [
        (0.8, 5),
        (0.9, 1),
        (0.9, 1_000_000),
        (1.0, 1),
        (0.9, 1_000),
        (0.9, 999),
        (np.nextafter(np.float32(0.9), 0), 999),
    ]
    for row, (rate, count) in enumerate(merits):
        known.put(row, np.float32(rate), count)
    assert known.top(10).tolist() == [3, 2, 4, 5, 1, 6, 0]
    known.drop(2)
    known.put(0, np.float32(1.0), 2)
    assert known.top(3).tolist() == [0, 3, 4]


def test_the_order_is_that_of_a_sort_through_many_changes(rng: np.random.Generator) -> None:
    known = BestKnown(3_000)
    merits: dict[int, tuple[float, int]] = {}
    for step in range(12_000):
        row = int(rng.integers(3_000))
        if row in merits and rng.random() < 0.5:
            known.drop(row)
            del merits[row]
        else:
            merits[row] = float(rng.choice(np.linspace(0.8, 1, 200).astype(np.float32))), int(rng.integers(1, 2_000))
            known.put(row, np.float32(merits[row][0]), merits[row][1])
        if step % 400 == 0:
            _check(known, merits)
    for row in known.top(SIMILAR_MAX).tolist() * 1:
        known.drop(row)
        del merits[row]
    _check(known, merits)
    for row in list(merits):
        known.drop(row)
    assert len(known.top(SIMILAR_MAX)) == 0


def _check(known: BestKnown, merits: dict[int, tuple[float, int]]) -> None:
    ordered = sorted(((rate, min(count, 1_000)) for rate, count in merits.values()), reverse=True)
    top = known.top(SIMILAR_MAX).tolist()
    assert len(set(top)) == len(top)
    assert [(merits[row][0], min(merits[row][1], 1_000)) for row in top] == ordered[:SIMILAR_MAX]


def test_a_device_without_patterns_gets_the_best_known() -> None:
    shard = new_shard()
    shard.apply(request(1, [(1, 0.8, 10), (2, 0.95, 10), (3, 0.79, 10)]), START)
    shard.apply(request(2, [(4, 0.95, 11), (5, 0.6, 10)]), START)
    shard.apply(request(3), START)
    for number in (3, 99):
        similar = shard.answer(id_of(number), EVERYTHING).similar
        assert similar.ids[:, -1].tolist() == [4, 2, 1]
    assert shard.stats(START).total_devices == 3, "asking registers nobody"

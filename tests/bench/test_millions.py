"""Devices and patterns as functions of their numbers: the same ones whoever names them, and a shard that holds them."""

import numpy as np

from bench import millions, workload
from bench.millions import Size
from constellation.model import SyncOptions
from constellation.shard import Shard


def test_ids_are_those_of_their_numbers_and_all_different() -> None:
    numbers = np.arange(5_000)
    ids = millions.device_ids(numbers)
    assert len(np.unique(ids, axis=0)) == len(numbers)
    assert millions.device_ids(numbers[70:71]).tobytes() == ids[70].tobytes()
    devices, places = np.divmod(numbers, 3)
    assert len(np.unique(np.vstack([ids, millions.pattern_ids(devices, places)]), axis=0)) == 2 * len(numbers)


def test_patterns_are_dealt_evenly() -> None:
    size = Size(devices=4, patterns=10)
    assert size.patterns_of(np.arange(4)).tolist() == [3, 3, 2, 2]


def test_shard_restored_from_it_knows_everybody_and_their_patterns() -> None:
    size = Size(devices=2_500, patterns=6_000)
    part = workload.load_library(6_000, 1, shipped=True).known
    shard = Shard(millions.room_for(size, 100))
    for change in millions.changes(size, part, seed=1):
        shard.restore(change)
    for _ in shard.restored():
        pass
    stats = shard.stats(workload.START_S)
    assert (stats.total_devices, stats.patterns_stored, stats.patterns_served) == (2_500, 6_000, 6_000)
    _check_answers(shard, size, part)
    own = millions.pattern_ids(np.array([7, 7]), np.arange(2))
    request = workload.make_request(
        millions.device_ids(np.array([7]))[0].tobytes(),
        workload.no_patterns(),
        workload.make_updates(own, np.random.default_rng(2)),
    )
    assert shard.apply(request, workload.START_S + 1).accepted.updated == 2
    assert len(shard.answer(request.device_id, SyncOptions(100, 50, "i8")).similar) == 100


def _check_answers(shard: Shard, size: Size, part: workload.Part) -> None:
    """What devices are answered is nearly all that an exact scan finds."""
    asked = np.array([3, 1_999, 2_000, 2_400])
    truths = millions.nearest(size, part, 1, asked, 20)
    for device_id, truth in zip(millions.device_ids(asked), truths, strict=True):
        similar = shard.answer(device_id.tobytes(), SyncOptions(20, 0, "i8")).similar
        found = {pattern_id.tobytes() for pattern_id in similar.ids}
        assert len(truth) > 10 and len(found & truth) >= 0.9 * len(truth)

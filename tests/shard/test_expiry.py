"""Devices that stay away are forgotten without a tombstone; those that were told to be forgotten cannot be retried."""

from constellation.records import decode, encode
from tests.shard.material import EVERYTHING, START, id_of, new_shard, request

DAY = 86_400
TTL_DAYS = 90


def test_devices_that_stayed_away_are_forgotten_and_told_as_a_change() -> None:
    shard = new_shard()
    for device in range(50):
        shard.apply(request(device, [(1, 0.9, 10)], sequence=5), START + device * DAY)
    now = START + (TTL_DAYS + 30) * DAY + 1
    told = []
    while True:
        more = shard.expire(now)
        if shard.change is not None:
            told += [forgotten.device_id for forgotten in decode(encode(shard.change)).forgotten]
        if not more:
            break
    assert sorted(told) == [id_of(device) for device in range(31)]
    stats = shard.stats(now)
    assert (stats.total_devices, stats.patterns_stored, stats.patterns_served) == (19, 19, 19)
    assert not shard.expire(now) and shard.change is None


def test_an_expired_device_may_come_back_with_the_sequence_it_had() -> None:
    shard = new_shard()
    shard.apply(request(1, [(1, 0.9, 10)], sequence=5), START)
    shard.expire(START + (TTL_DAYS + 1) * DAY)
    applied = shard.apply(request(1, [(1, 0.9, 10)], sequence=5), START + (TTL_DAYS + 2) * DAY)
    assert applied.accepted.added == 1 and not applied.accepted.duplicate


def test_a_forgotten_device_is_not_brought_back_by_an_old_delta() -> None:
    shard = new_shard()
    sent = request(1, [(1, 0.9, 10)], sequence=5)
    shard.apply(sent, START)
    assert shard.forget(id_of(1), START + 1)
    again = shard.apply(sent, START + 2)
    assert again.accepted.duplicate and again.last_sequence == 5
    assert shard.stats(START + 2).total_devices == 0
    assert len(shard.answer(id_of(1), EVERYTHING).similar) == 0
    assert shard.apply(request(1, [(1, 0.9, 10)], sequence=6), START + 3).accepted.added == 1


def test_a_device_is_written_down_once_a_day_if_it_only_asks() -> None:
    shard = new_shard()
    shard.apply(request(1, [(1, 0.9, 10)]), START)
    day_end = (START // DAY + 1) * DAY
    shard.apply(request(1), day_end - 1)
    assert shard.change is None
    shard.apply(request(1), day_end)
    assert shard.change is not None and len(shard.change.devices) == 1 and len(shard.change.patterns) == 0

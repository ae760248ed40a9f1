"""What a full shard needs, told before it starts."""

import msgspec

from constellation.config import Settings
from constellation.shard import memory_bytes, sizing
from constellation.shard.cursors import BYTES_PER_CURSOR
from tests.shard.material import START, batch, new_shard, request


def test_memory_grows_with_each_limit_by_what_one_more_costs() -> None:
    base = Settings(max_devices=1_000, max_patterns=1_000, max_cursors=500)
    more = msgspec.structs.replace(base, max_patterns=2_000)
    assert memory_bytes(more) - memory_bytes(base) == 1_000 * sizing.BYTES_PER_PATTERN
    more = msgspec.structs.replace(base, max_devices=2_000)
    assert memory_bytes(more) - memory_bytes(base) == 1_000 * sizing.BYTES_PER_DEVICE
    more = msgspec.structs.replace(base, max_cursors=600)
    assert memory_bytes(more) - memory_bytes(base) == 100 * sizing.BYTES_PER_CURSOR


def test_a_pattern_and_a_device_cost_no_more_than_promised() -> None:
    assert sizing.BYTES_PER_PATTERN <= 800
    assert sizing.BYTES_PER_DEVICE <= 200
    assert BYTES_PER_CURSOR == 1_260 and sizing.BYTES_PER_CURSOR <= 2_250


def test_resident_bytes_grow_with_what_is_stored() -> None:
    shard = new_shard()
    empty = shard.stats(START).bytes_resident
    shard.apply(request(1, batch([(i, 0.9, 10) for i in range(20)])), START)
    assert shard.stats(START).bytes_resident >= empty + 20 * 384

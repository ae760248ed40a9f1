"""The device table, who was active lately, and rows that are handed out again."""

from collections import deque

import numpy as np

from constellation.shard.devices import ActiveWindow, Devices
from constellation.shard.memory import Rows, column
from tests.shard.material import START, id_of


def test_a_device_is_found_until_it_is_dropped() -> None:
    devices = Devices(3, seed=1)
    rows = [devices.add(id_of(number)) for number in (7, 8, 9)]
    assert sorted(rows) == [0, 1, 2] and len(devices) == 3
    assert [devices.find(id_of(number)) for number in (7, 8, 9, 1)] == [*rows, -1]
    devices.touch(rows[1], START)
    devices.sequence[rows[1]] = 5
    devices.drop(rows[1], START)
    assert devices.find(id_of(8)) == -1 and len(devices) == 2
    again = devices.add(id_of(10))
    assert again == rows[1]
    assert devices.sequence[again] == devices.last_sync[again] == devices.credit_used[again] == 0
    assert devices.first[again] == -1


def test_a_device_is_found_again_only_while_it_is_there() -> None:
    devices = Devices(3, seed=1)
    assert devices.find_again(id_of(7)) == -1
    row = devices.add(id_of(7))
    assert devices.find_again(id_of(7)) == devices.find_again(id_of(7)) == row
    devices.drop(row, START)
    assert devices.find_again(id_of(7)) == -1
    (row,) = devices.add_many(np.frombuffer(id_of(7), np.uint8).reshape(1, -1)).tolist()
    assert devices.find_again(id_of(7)) == row and devices.find_again(id_of(8)) == -1


def test_a_device_is_active_for_900_seconds() -> None:
    devices = Devices(2, seed=1)
    row = devices.add(id_of(1))
    devices.touch(row, START)
    for later, active in ((0, 1), (1, 1), (899, 1), (900, 0), (5_000, 0)):
        assert devices.active.count(START + later) == active
    devices.touch(row, START + 5_000)
    assert devices.active.count(START + 5_000) == 1


def test_active_devices_are_counted_as_by_looking_at_each(rng: np.random.Generator) -> None:
    """Also through a clock that steps back and through long silences."""
    devices = Devices(20, seed=1)
    rows = [devices.add(id_of(number)) for number in range(20)]
    synced: dict[int, int] = {}
    now = newest = START
    for _ in range(3_000):
        now += int(
            rng.choice([0, 1, 7, 60, 899, 900, 2_000, -1_200, -5], p=[0.3, 0.2, 0.2, 0.2, 0.02, 0.02, 0.02, 0.02, 0.02])
        )
        newest = max(newest, now)
        row = rows[rng.integers(20)]
        if rng.random() < 0.05:
            devices.drop(row, now)
            synced.pop(row, None)
            assert devices.add(id_of(int(rng.integers(1 << 60)))) == row
        else:
            devices.touch(row, now)
            synced[row] = newest
        assert devices.active.count(now) == sum(newest - second < 900 for second in synced.values())


def test_a_window_nobody_entered_is_empty() -> None:
    window = ActiveWindow()
    window.leave(0, START)
    assert window.count(START) == window.count(START + 10) == window.count(0) == 0


def test_freed_rows_are_handed_out_before_new_ones(rng: np.random.Generator) -> None:
    rows = Rows(8)
    used: set[int] = set()
    waiting: deque[int] = deque()
    for _ in range(200):
        if len(used) < 8 and rng.random() < 0.6:
            row = rows.take()
            assert row not in used and row < 8
            used.add(row)
            waiting.append(row)
        elif waiting:
            row = waiting.popleft()
            used.discard(row)
            rows.give_back(row)
        assert len(rows) == len(used) <= rows.high <= 8


def test_rows_that_were_freed_last_rest_while_there_are_others(rng: np.random.Generator) -> None:
    rows = Rows(20, rest=4)
    used, freed = list[int](), list[int]()
    for _ in range(2_000):
        count = int(rng.integers(1, 4))
        if rng.random() < 0.5 and len(used) + count <= 20:
            before = len(freed)
            taken = rows.take_many(count).tolist() if count > 1 else [rows.take()]
            assert len({*taken, *used}) == len(taken) + len(used)
            again = [row for row in taken if row in freed]
            assert again == freed[: len(again)], "the oldest first"
            freed = freed[len(again) :]
            assert len(freed) >= min(before, 4) or rows.high == 20
            assert again or before <= 4
            used += taken
        elif used:
            row = used.pop(int(rng.integers(len(used))))
            rows.give_back(row)
            freed.append(row)
        assert len(rows) == len(used) and rows.high == len(used) + len(freed)


def test_a_column_is_zero_and_of_its_shape() -> None:
    assert column(3, np.int16, 5).shape == (3, 5)
    assert column(4, np.float64).tolist() == [0.0] * 4

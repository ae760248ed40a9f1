"""Devices that go from one shard to another and back: both together are always what one shard with all of them is."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import settings as machine_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from constellation.errors import ShardFull
from constellation.limits import ACTIVE_WINDOW_S
from constellation.records import Change, TrendCells, decode, encode
from constellation.rounds import Partial
from constellation.shard import Shard
from constellation.slots import mask_of, slot_of
from tests.federation.test_shards import give
from tests.shard.material import START, batch, codebook, id_of, new_shard, request, settings, title
from tests.shard.model import ModelShard

DEVICES, IDS = 6, 5
BOOK = codebook(1, 3)
devices = st.sets(st.integers(0, DEVICES - 1), min_size=1)


def shard_of(number: int) -> Shard:
    return Shard(settings(), START, tombstone_key=bytes([number]) * 32, codebook=BOOK)


def slots(numbers: set[int]) -> Any:
    return mask_of(slot_of(id_of(number)) for number in numbers)


def told(shard: Shard, numbers: set[int], patterns_at_once: int = 3) -> list[bytes]:
    return [encode(change) for change in shard.tell(slots(numbers), patterns_at_once)]


def dropped(shard: Shard, numbers: set[int], now: float) -> list[Change]:
    changes, row = [], 0
    while row >= 0:
        row = shard.drop(slots(numbers), row, now)
        changes += [shard.change] if shard.change else []
    return changes


def counts(shard: Shard) -> Counter[str]:
    """Samples of the week by item."""
    counted: Counter[str] = Counter()
    for piece in shard.pieces(100):
        counted.update(dict.fromkeys(piece.change.trends.items, 0))
        for item, samples in zip(piece.change.trends.items, piece.change.trends.counts.tolist(), strict=True):
            counted[item] += samples
    return +counted


class Movement(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shards = [shard_of(0), shard_of(1)]
        self.records: list[list[bytes]] = [[], []]
        self.home = [number % 2 for number in range(DEVICES)]
        self.whole, self.model = shard_of(9), ModelShard(settings())
        self.now, self.sequence = float(START), 0
        self.sent: list[tuple[int, Any]] = []
        for shard in (*self.shards, self.whole):
            shard.put_content(title("film:1", 1), self.now)
        for at in range(2):
            self.keep(at)

    def keep(self, at: int) -> None:
        if (change := self.shards[at].change) is not None:
            self.records[at].append(encode(change))

    @rule(
        device=st.integers(0, DEVICES - 1),
        ids=st.lists(st.integers(0, IDS - 1), min_size=1, max_size=3),  # what changes nothing is not kept
        rate=st.sampled_from((0.7, 0.85, 0.95)),
        samples=st.integers(1, 90),
        updated=st.integers(0, IDS - 1),
    )
    def sync(self, device: int, ids: list[int], rate: float, samples: int, updated: int) -> None:
        self.sequence += 1
        added = batch([(one, rate, samples) for one in ids], codes=[1 + one + device % 2 for one in ids])
        delta = request(device, added, [(updated, rate, samples)], sequence=self.sequence, fingerprint=self.sequence)
        wanted = self.model.apply(delta, self.now)
        assert self.whole.apply(delta, self.now).accepted == wanted
        assert self.shards[self.home[device]].apply(delta, self.now).accepted == wanted
        self.keep(self.home[device])
        self.sent.append((device, delta))

    @rule(hours=st.floats(0.1, 5))
    def wait(self, hours: float) -> None:
        self.now += 3_600 * hours

    @rule(which=st.integers(0, 50))
    def resend(self, which: int) -> None:
        if self.sent:
            device, delta = self.sent[which % len(self.sent)]
            self.model.apply(delta, self.now)
            assert self.shards[self.home[device]].apply(delta, self.now).accepted.duplicate
            self.keep(self.home[device])

    @rule(device=st.integers(0, DEVICES - 1))
    def forget(self, device: int) -> None:
        wanted = self.model.forget(id_of(device), self.now)
        assert self.whole.forget(id_of(device), self.now) == wanted
        assert self.shards[self.home[device]].forget(id_of(device), self.now) == wanted
        self.keep(self.home[device])

    @rule(some=devices, to=st.integers(0, 1), restart_at=st.integers(0, 4), arrives=st.booleans())
    def move(self, some: set[int], to: int, restart_at: int, arrives: bool) -> None:
        """Told, taken in with a restart in between, and dropped, each of it twice; or taken back on the way."""
        some = {number for number in some if self.home[number] == 1 - to}
        pieces = told(self.shards[1 - to], some)
        for piece in (*pieces[:restart_at], None, *pieces, *pieces):
            if piece is None:
                self.restart(to)
            else:
                self.shards[to].take_in(decode(piece), self.now)
                self.keep(to)
        leaves = 1 - to if arrives else to
        for _ in range(2):
            self.records[leaves] += [encode(change) for change in dropped(self.shards[leaves], some, self.now)]
        for number in some if arrives else ():
            self.home[number] = to

    @rule(at=st.integers(0, 1))
    def restart(self, at: int) -> None:
        self.shards[at] = shard_of(at)
        for record in self.records[at]:
            self.shards[at].restore(decode(record))
        for _ in self.shards[at].restored():
            pass

    def teardown(self) -> None:
        self.rounds_and_trends_are_those_of_one()

    @invariant()
    def both_together_are_one(self) -> None:
        for at, shard in enumerate(self.shards):
            here = [id_of(number) for number in range(DEVICES) if self.home[number] == at]
            held = shard.read({id_of(n): {id_of(i) for i in range(IDS)} for n in range(DEVICES)}, [], _no_cells())
            wanted = {
                (device_id, pattern_id, stored.code, np.float32(stored.rate), stored.count, stored.context)
                for device_id in here
                if device_id in self.model.devices
                for pattern_id, stored in self.model.devices[device_id].patterns.items()
            }
            rows, patterns = held.patterns, held.patterns.patterns
            assert wanted == {
                (
                    *(bytes(rows.owners[i]), bytes(patterns.ids[i]), patterns.codes[i].tobytes()),
                    *(patterns.rates[i], patterns.counts[i], patterns.contexts[i]),
                )
                for i in range(len(rows))
            }
            sequences = dict(zip(map(bytes, held.devices.ids), held.devices.sequences.tolist(), strict=True))
            assert sequences == {one: self.model.devices[one].sequence for one in here if one in self.model.devices}
            stats = shard.stats(self.now)
            assert stats.patterns_stored == len(wanted)
            assert stats.patterns_served == sum(rate >= np.float32(0.8) for *_, rate, _, _ in wanted)
            assert stats.active_devices == np.count_nonzero(held.devices.last_syncs > int(self.now) - ACTIVE_WINDOW_S)

    @rule()
    def rounds_and_trends_are_those_of_one(self) -> None:
        partials = [give(shard) for shard in (*self.shards, self.whole)]
        assert _added_up(partials[:2]) == _added_up(partials[2:])
        assert counts(self.shards[0]) + counts(self.shards[1]) == counts(self.whole)


def _no_cells() -> TrendCells:
    return TrendCells([], np.empty(0, np.uint32), np.empty(0, np.uint32))


def _added_up(partials: list[Partial]) -> dict[int, list[int]]:
    """What is in each bucket, as one list of integers."""
    totals: dict[int, Any] = {}
    for of in (partial.buckets for partial in partials):
        for i, bucket in enumerate(of.numbers.tolist()):
            row = np.concatenate((of.sums[i], [of.weights[i], of.samples[i], of.patterns[i], of.devices[i]]))
            totals[bucket] = totals.get(bucket, 0) + row
    return {bucket: row.tolist() for bucket, row in totals.items()}


Movement.TestCase.settings = machine_settings(max_examples=40, stateful_step_count=20, deadline=None)
test_two_shards_with_moves_between_them_are_one: Any = Movement.TestCase


def test_version_of_a_device_is_never_ahead_of_the_shard_it_came_to() -> None:
    here, there = new_shard(), new_shard()
    version = here.apply(request(1, [(1, 0.9, 10)]), START + 10_000).global_version
    for piece in told(here, {1}):
        there.take_in(decode(piece), START)
    assert there.global_version > version


def test_titles_that_patterns_are_about_go_along() -> None:
    here, there = new_shard(), new_shard()
    there.put_content(title("film:2", 2), START)
    for number in (1, 2, 3):
        here.put_content(title(f"film:{number}", number), START)
    here.apply(request(1, [(1, 0.9, 10), (2, 0.9, 20)]), START)
    for piece in told(here, {1}):
        there.take_in(decode(piece), START)
    assert there.stats(START).content_items == 2 and there.content("film:1").title == "Film:1"
    assert counts(there) == counts(here) == {"film:1": 10, "film:2": 20}
    assert there.change is not None and [item.content_id for _, item in there.change.content] == ["film:1"]


def test_shard_without_room_takes_nothing_in() -> None:
    here = new_shard()
    for device in range(4):
        here.apply(request(device, [(number, 0.9, 10) for number in range(10)]), START)
    [piece] = told(here, {0, 1, 2, 3}, 100)
    for bounds in ({"devices": 3}, {"patterns": 39}):
        full = new_shard(**bounds)
        with pytest.raises(ShardFull):
            full.take_in(decode(piece), START)
        stats = full.stats(START)
        assert full.change is None and (stats.total_devices, stats.patterns_stored) == (0, 0)


def test_what_is_here_otherwise_is_replaced() -> None:
    here, there = new_shard(), new_shard()
    here.apply(request(1, [(1, 0.9, 10)], sequence=2), START)
    there.apply(request(1, [(2, 0.9, 10), (3, 0.9, 10)], sequence=1), START)
    [piece] = told(here, {1})
    there.take_in(decode(piece), START)
    held = there.read({id_of(1): {id_of(1), id_of(2), id_of(3)}}, [], _no_cells())
    assert bytes(held.patterns.patterns.ids) == id_of(1) and held.devices.sequences.tolist() == [2]
    assert counts(there) == counts(here)

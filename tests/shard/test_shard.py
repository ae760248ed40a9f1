"""A shard against a dict: any history of deltas gives the same patterns, counts, refusals and answers."""

import copy
from collections import Counter
from typing import Any

import numpy as np
from hypothesis import event
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

from constellation.codebook import Codebook
from constellation.config import Settings
from constellation.digest import answer_digest
from constellation.errors import Problem
from constellation.model import Answer, Applied, SyncOptions, SyncRequest
from constellation.records import Change, Piece, TrendCells, decode, encode
from constellation.shard import Shard
from tests.shard.material import EVERYTHING, START, batch, codebook, id_of, request, settings
from tests.shard.model import Device, ModelShard, patterns_of
from tests.shard.published import round_of, served_prototypes

DEVICES, IDS = 5, 9
TOMBSTONE_KEY = bytes(32)
RATES = (0.0, 0.5, 0.69999, 0.7, 0.79999, 0.8, 0.8, 0.9, 0.9, 1.0)
COUNTS = (1, 10, 900, 1_000, 1_001, 999_999, 1_000_000)

numbers = st.integers(0, IDS - 1)
rates, counts = st.sampled_from(RATES), st.sampled_from(COUNTS)
changes = st.tuples(numbers, rates, counts)


def book(version: int) -> Codebook:
    """With more buckets than a device counts in where aggregates are shared."""
    return codebook(version, size=7 + version)


class Snapshot:
    """Pieces of a shard, taken one at a time from where `position` records were written down."""

    def __init__(self, position: int, shard: Shard) -> None:
        self.position = position
        self.layout = shard.layout()
        self.taken: list[Piece] = []
        self.kept: dict[bytes, Device] = {}
        """Devices as they were when their piece was taken, or since then something of them was written down."""
        self._pieces = shard.pieces(patterns_at_once=3)

    def take(self, model: ModelShard) -> bool:
        """The next piece; True if there is none."""
        piece = next(self._pieces, None)
        if piece is None:
            return True
        self.taken.append(Piece(decode(encode(piece.change)), piece.places))
        for row in piece.change.devices.ids:
            self.kept[row.tobytes()] = copy.deepcopy(model.devices[row.tobytes()])
        return False


class ShardMachine(RuleBasedStateMachine):
    """Few devices that share few ids and embeddings, on a shard with room for fewer; its twin hears the same."""

    bounds = settings(devices=DEVICES - 1, patterns=14, per_device=4)

    def __init__(self) -> None:
        super().__init__()
        self.model = ModelShard(self.bounds)
        self.shard, self.twin = restored(self.bounds, []), restored(self.bounds, [])
        self.now = float(START)
        self.version = self.shard.global_version
        self.records: list[bytes] = []
        self.kept: dict[bytes, Device] = {}
        """Devices as they were when something of them was last written down."""
        self.last: SyncRequest | None = None
        self.snapshot, self.taking = Snapshot(0, self.shard), Snapshot(0, self.shard)
        """The last whole one, and one that is being taken."""

    @rule(seconds=st.sampled_from([0, 0.25, 1, 300, 899, 900, 901, 4_000, -50, -1_000]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        device=st.integers(0, DEVICES - 1),
        added=st.lists(changes, max_size=7),
        codes=st.lists(st.integers(0, 4), min_size=7, max_size=7),
        updated=st.lists(changes, max_size=3),
        removed=st.lists(numbers, max_size=3),
        ahead=st.sampled_from([None, 1, 1, 5, 0, 0, -1]),
        fingerprint=st.integers(0, 1),
    )
    def sync(
        self, device: int, added: Any, codes: Any, updated: Any, removed: Any, ahead: Any, fingerprint: int
    ) -> None:
        known = self.model.devices.get(id_of(device))
        sequence = None if ahead is None else max(1, (known.sequence if known else 10) + ahead)
        self._sync(request(device, batch(added, codes[: len(added)]), updated, removed, sequence, fingerprint))

    @rule()
    def resend(self) -> None:
        if self.last is not None:
            self._sync(self.last)

    @rule(device=st.integers(0, DEVICES - 1))
    def forget(self, device: int) -> None:
        wanted = self.model.forget(id_of(device), self.now)
        assert self.shard.forget(id_of(device), self.now) == wanted
        assert self.twin.forget(id_of(device), self.now) == wanted
        self._write_down(id_of(device))

    @rule()
    def begin_snapshot(self) -> None:
        self.taking = Snapshot(len(self.records), self.shard)

    @rule(count=st.integers(1, 6))
    def take_pieces(self, count: int) -> None:
        for _ in range(count):
            if self.taking.take(self.model):
                self.snapshot = self.taking

    @rule()
    def restart_from_snapshot(self) -> None:
        """Pieces of different moments, and on them every record since the first: it is all there."""
        for number in range(2):
            shard = Shard(self.bounds, tombstone_key=TOMBSTONE_KEY, codebook=book(1))
            if number:
                shard.expect(self.snapshot.layout)
            for change, places in self.snapshot.taken:
                shard.restore(change, places if number else b"")
            for record in self.records[self.snapshot.position :]:
                shard.restore(decode(record))
            for _ in shard.restored():
                pass
            self.shard, self.twin = shard, self.shard
        self.kept = copy.deepcopy(self.snapshot.kept)
        self._restarted()

    @rule()
    def restart(self) -> None:
        """One shard reads every record again, its twin all that is there at once: what was written down is there."""
        changes = [decode(record) for record in self.records]
        names, hours = [], []
        for change in changes:
            names += change.trends.items
            hours += change.trends.hours.tolist()
        everything = {id_of(device): {id_of(number) for number in range(IDS)} for device in range(DEVICES)}
        cells = TrendCells(names, np.array(hours, np.uint32), np.zeros(len(names), np.uint32))
        forgotten = [forgotten for change in changes for forgotten in change.forgotten]
        self.shard = restored(self.bounds, changes)
        written = max((change.version for change in changes), default=0)
        at_once = structs.replace(self.shard.read(everything, [], cells), forgotten=forgotten, version=written)
        self.twin = restored(self.bounds, [decode(encode(at_once))])
        self._restarted()

    def _restarted(self) -> None:
        self.taking = Snapshot(0, self.shard)
        self.model.prototypes = []
        self.model.devices = copy.deepcopy(self.kept)
        self.model.clock = max((device.synced_at for device in self.kept.values()), default=0)
        self.version = self.shard.global_version

    @rule(version=st.integers(1, 4))
    def change_the_codebook(self, version: int) -> None:
        for shard in (self.shard, self.twin):
            shard.use(book(version))

    @rule(
        drawn=st.lists(st.tuples(st.integers(0, 4), rates, st.integers(1, 3)), max_size=6),
        version=st.integers(1, 4),
    )
    def publish(self, drawn: Any, version: int) -> None:
        """A round with these prototypes: the direction, rate and devices of each."""
        result = round_of(drawn, version, int(self.now))
        for shard in (self.shard, self.twin):
            shard.publish(result, None)
        self.model.prototypes = served_prototypes(result)

    @rule(steps=st.integers(0, 3))
    def group(self, steps: int) -> None:
        for _ in range(steps):
            self.shard.maintain()

    @rule()
    def maintain(self) -> None:
        self.model.changed = False
        while self.shard.maintain() | self.twin.maintain():
            pass

    def _sync(self, sent: SyncRequest) -> None:
        self.last = sent
        wanted = _outcome(self.model, sent, self.now)
        applied = _outcome(self.shard, sent, self.now)
        assert _outcome(self.twin, sent, self.now) == applied
        if isinstance(applied, Applied):
            event("taken")
            assert applied.accepted == wanted
            assert (applied.last_sequence or 0) == self.model.last_sequence(sent.device_id)
            self._write_down(sent.device_id)
            assert applied.global_version == self.shard.global_version
        else:
            event(applied)
            self.model.changed = False
            assert applied == wanted

    def _write_down(self, device_id: bytes) -> None:
        """As the journal does: what a call changed, if it changed anything."""
        change = self.shard.change
        if change is None:
            assert not self.model.changed
            return
        self.records.append(encode(change))
        for kept in (self.kept, self.snapshot.kept, self.taking.kept):
            if device_id in self.model.devices:
                kept[device_id] = copy.deepcopy(self.model.devices[device_id])
            else:
                kept.pop(device_id, None)

    @invariant()
    def version_grows_with_every_change_and_only_then(self) -> None:
        if self.model.changed:
            assert self.shard.global_version > self.version
        else:
            assert self.shard.global_version == self.version
        self.version = self.shard.global_version
        self.model.changed = False

    @invariant()
    def everybody_gets_what_others_serve(self) -> None:
        for number in range(DEVICES + 1):
            device_id = id_of(number)
            available = self.model.available(device_id)
            answer = self.shard.answer(device_id, EVERYTHING)
            assert Counter(patterns_of(answer.similar)) == Counter(available)
            _check_answer(answer, self.shard.global_version)
            assert _as_sets(self.twin.answer(device_id, EVERYTHING)) == _as_sets(answer)
            for k in (0, 1, 3):
                some = self.shard.answer(device_id, SyncOptions(similar=k, trending=0, embedding="i8"))
                assert some.trending == []
                got = Counter(patterns_of(some.similar))
                assert got <= Counter(available) and got.total() == min(k, len(available))
            known = self.model.devices.get(device_id)
            if known is None or not known.patterns:
                first, rest = patterns_of(answer.similar), patterns_of(answer.similar)[len(self.model.prototypes) :]
                assert first[: len(self.model.prototypes)] == self.model.prototypes
                best = [(-rate, -min(count, 1_000)) for _, _, rate, count, *_ in rest]
                assert best == sorted(best)
            assert len(answer.prototypes) == len(self.model.prototypes)

    @invariant()
    def buckets_hold_what_a_recomputation_gives(self) -> None:
        for shard in (self.shard, self.twin):
            for version in range(1, 5):
                partial = _returned(shard.partial(7, 3, version))
                if partial is None:
                    continue
                event("partial")
                sums, contexts = partial.buckets, partial.contexts
                columns = sums.sums, sums.weights, sums.samples, sums.patterns, sums.devices
                got = dict(zip(sums.numbers.tolist(), zip(*(c.tolist() for c in columns), strict=True), strict=True))
                assert got == self.model.sums(book(version))
                strings = [contexts.strings[number] for number in contexts.string_of.tolist()]
                keys = zip(contexts.buckets.tolist(), contexts.places.tolist(), strings, strict=True)
                assert dict(zip(keys, contexts.counts.tolist(), strict=True)) == self.model.contexts(book(version))
                assert partial.devices == sum(bool(device.patterns) for device in self.model.devices.values())

    @invariant()
    def stats_count_what_is_there(self) -> None:
        stats = self.shard.stats(self.now)
        assert stats.total_devices == len(self.model.devices)
        assert stats.active_devices == self.model.active(self.now)
        assert stats.patterns_stored == self.model.stored()
        assert stats.patterns_served == len(self.model.served())
        assert stats.global_version == self.shard.global_version


def _returned(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _outcome(shard: Any, sent: SyncRequest, now: float) -> Any:
    """What `apply` returned, or the kind of problem it raised."""
    try:
        return shard.apply(sent, now)
    except Problem as problem:
        return type(problem).__name__


def _check_answer(answer: Answer, version: int) -> None:
    similar = answer.similar
    assert answer.global_version == version
    assert answer.digest == answer_digest(similar.ids, similar.rates, similar.counts, similar.updated_at)


def restored(bounds: Settings, changes: list[Change]) -> Shard:
    """A shard that was told these changes, with the tombstones' key of every other one here."""
    shard = Shard(bounds, tombstone_key=TOMBSTONE_KEY, codebook=book(1))
    for change in changes:
        shard.restore(change)
    for _ in shard.restored():
        pass
    return shard


def test_shard_that_has_nothing_is_grouped_as_soon_as_it_is_restored() -> None:
    assert restored(settings(), []).codebook_version == book(1).version


def _as_bytes(answer: Answer) -> Any:
    return patterns_of(answer.similar), answer.trending, answer.digest, answer.global_version


def _as_sets(answer: Answer) -> Any:
    """Which of equally near patterns, or of equal trends, comes first depends on where they lie."""
    return Counter(patterns_of(answer.similar)), Counter(answer.trending), answer.digest


class AggregatingMachine(ShardMachine):
    """Devices with more buckets than they count in, that get aggregates only."""

    bounds = structs.replace(settings(devices=DEVICES - 1, patterns=20, per_device=7), sharing="aggregates")


for machine, examples in ((ShardMachine, 60), (AggregatingMachine, 30)):
    machine.TestCase.settings = hypothesis_settings(max_examples=examples, stateful_step_count=25, deadline=None)
test_shard_agrees_with_a_dict: Any = ShardMachine.TestCase
test_shard_of_aggregates_agrees_with_a_dict: Any = AggregatingMachine.TestCase


def test_a_shard_that_was_told_the_same_answers_the_same(rng: np.random.Generator) -> None:
    """Thousands of patterns, lists that split and dissolve: two shards whose keys lie elsewhere in memory."""
    shards = [Shard(settings(devices=200, patterns=3_000, per_device=32)) for _ in range(2)]
    for step in range(600):
        ids, codes = rng.integers(0, 40, 12), rng.integers(0, 500, 12)
        added = [(int(number), float(rate), 50) for number, rate in zip(ids, rng.uniform(0.6, 1, 12), strict=True)]
        sent = request(int(rng.integers(0, 100)), batch(added, codes.tolist()), removed=rng.integers(0, 40, 4).tolist())
        assert len({str(shard.apply(sent, START + step)) for shard in shards}) == 1
        for shard in shards:
            shard.maintain()
    for number in range(100):
        first, second = (_as_bytes(shard.answer(id_of(number), EVERYTHING)) for shard in shards)
        assert first == second


def test_versions_go_on_above_those_of_an_earlier_life() -> None:
    """Nothing has changed yet, and still a device's cursor does not go back."""
    one = Settings(max_devices=1, max_patterns=1)
    first, second = Shard(one, 1_760_000_000.0), Shard(one, 1_760_000_001.0)
    assert second.global_version > first.global_version > 0


def test_a_record_does_not_set_back_when_a_device_synced() -> None:
    """A snapshot was begun, the device came, was written down, and came again with nothing new before its piece."""
    shard = restored(settings(), [])
    shard.apply(request(1, [(1, 0.9, 10)]), START)
    assert shard.change is not None
    record = shard.change
    shard.apply(request(1), START + 1_000)
    again = restored(settings(), [*(piece.change for piece in shard.pieces(patterns_at_once=10)), record])
    assert again.stats(START + 1_000).active_devices == 1


def test_a_request_that_registers_nobody_leaves_a_stranger_unknown() -> None:
    shard = Shard(settings(), START)
    asking = structs.replace(request(1), registers=False)
    applied = shard.apply(asking, START)
    assert (shard.stats(START).total_devices, shard.change, applied.last_sequence) == (0, None, None)
    shard.apply(request(1, sequence=5), START)
    assert shard.apply(asking, START).last_sequence == 5

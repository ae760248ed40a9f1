"""What a TV tells brings the shard to what the TV knows, whatever gets lost on the way."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from constellation.client.learned import QUALITY_MIN, SAMPLES_MIN, Changes, Learned, Pattern, quantise
from constellation.model import Context, Delta

CONTEXT = Context("evening", "weekend", "movie", ("drama",))
KEYS = st.integers(0, 2).map(lambda number: bytes([number]) * 16)
RATES = st.sampled_from([0.0, 0.5, float(QUALITY_MIN), 0.7, 0.8, 0.95, 1.0])


def _pattern(rate: float = 0.9, count: int = 20, code: int = 1) -> Pattern:
    return Pattern(np.full(384, code, np.int8), rate, count, CONTEXT, 100, 100)


class ToldShard:
    """The rules of the REST contract for one device, as plainly as they can be said."""

    def __init__(self) -> None:
        self.patterns: dict[bytes, tuple[float, int, int]] = {}

    def apply(self, delta: Delta) -> int:
        """Returns how many updates and removals were rejected."""
        rejected = 0
        for row, key in enumerate(_keys(delta.added.ids)):
            code = int(delta.added.codes[row, 0])
            self.patterns[key] = (float(delta.added.rates[row]), int(delta.added.counts[row]), code)
        for row, key in enumerate(_keys(delta.updated.ids)):
            if key not in self.patterns:
                rejected += 1
                continue
            rate, count, code = self.patterns[key]
            samples = int(delta.updated.samples[row])
            rate = (rate * count + float(delta.updated.rates[row]) * samples) / (count + samples)
            self.patterns[key] = (rate, min(count + samples, 1_000_000), code)
        for key in _keys(delta.removed):
            rejected += self.patterns.pop(key, None) is None
        return rejected


class ShardFollowsTv(RuleBasedStateMachine):
    """After a settled sync the shard knows every good pattern as the TV does, and no other, whatever the TV learned
    while deltas were under way."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = Learned()
        self.shard = ToldShard()
        self.under_way: Changes | None = None
        self.codes = 0

    @rule(key=KEYS, rate=RATES, count=st.sampled_from([1, SAMPLES_MIN - 1, SAMPLES_MIN, 500, 1_000_000]))
    def learn(self, key: bytes, rate: float, count: int) -> None:
        self.codes = self.codes % 127 + 1
        self.learned.put(key, _pattern(rate, count, self.codes))

    @precondition(lambda self: self.learned.patterns)
    @rule(data=st.data(), rate=RATES, samples=st.sampled_from([1, 9, 1_000]))
    def observe(self, data: st.DataObject, rate: float, samples: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.learned.patterns)))
        self.learned.observe(key, rate, samples, 200)

    @precondition(lambda self: self.learned.patterns)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        self.learned.forget(data.draw(st.sampled_from(sorted(self.learned.patterns))))

    @rule()
    def lose_a_request(self) -> None:
        self.learned.delta(self.learned.changes(), None, 1)

    @precondition(lambda self: self.under_way is None)
    @rule()
    def send(self) -> None:
        self.under_way = self.learned.changes()
        assert self.shard.apply(self.learned.delta(self.under_way, None, 1)) == 0, "nothing is rejected"

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def answer(self) -> None:
        assert self.under_way is not None
        self.learned.settle(self.under_way, rejected=0)
        self.under_way = None

    @precondition(lambda self: self.under_way is None)
    @rule()
    def sync(self) -> None:
        self.send()
        self.answer()
        assert not self.learned.changes(), "a settled TV has nothing more to say"
        good = {key: pattern for key, pattern in self.learned.patterns.items() if pattern.good_enough()}
        assert self.shard.patterns.keys() == good.keys()
        for key, pattern in good.items():
            rate, count, code = self.shard.patterns[key]
            assert (count, code) == (pattern.count, int(pattern.code[0]))
            assert rate == pytest.approx(pattern.rate, abs=1e-5)


TestShardFollowsTv = ShardFollowsTv.TestCase
TestShardFollowsTv.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_only_good_and_well_known_patterns_go_up() -> None:
    learned = Learned()
    learned.put(b"a" * 16, _pattern(0.7, SAMPLES_MIN))
    learned.put(b"b" * 16, _pattern(0.6999, 500))
    learned.put(b"c" * 16, _pattern(1.0, SAMPLES_MIN - 1))
    assert list(learned.changes().added) == [b"a" * 16]


def test_heaviest_hundred_go_first_and_the_rest_follows() -> None:
    learned = Learned()
    for number in range(120):
        learned.put(number.to_bytes(16, "big"), _pattern(0.9, 10 + number))
    first = learned.changes()
    assert [int.from_bytes(key, "big") for key in first.added] == list(range(119, 19, -1))
    learned.settle(first, rejected=0)
    assert len(learned.changes().added) == 20


def test_updates_and_removals_share_one_limit() -> None:
    learned = Learned()
    for number in range(30):
        learned.put(number.to_bytes(16, "big"), _pattern())
    learned.settle(learned.changes(), rejected=0)
    for number in range(30):
        key = number.to_bytes(16, "big")
        if number < 8:
            learned.forget(key)
        else:
            learned.observe(key, 1.0, 1, 200)
    changes = learned.changes(changed_max=10)
    assert (len(changes.removed), len(changes.updated)) == (8, 2)


def test_pattern_that_the_shard_lost_goes_up_whole_again() -> None:
    learned, shard, key = Learned(), ToldShard(), b"k" * 16
    learned.put(key, _pattern())
    _settle(learned, shard)
    del shard.patterns[key]  # evicted
    learned.observe(key, 0.8, 5, 200)
    _settle(learned, shard)
    assert shard.patterns == {}
    _settle(learned, shard)
    assert shard.patterns[key][1] == 25


def test_pattern_learned_anew_while_its_first_version_was_under_way_goes_up_whole() -> None:
    learned, shard, key = Learned(), ToldShard(), b"k" * 16
    learned.put(key, _pattern(code=1))
    changes = learned.changes()
    shard.apply(learned.delta(changes, None, 1))
    learned.forget(key)
    learned.put(key, _pattern(code=2))
    learned.settle(changes, rejected=0)
    _settle(learned, shard)
    assert shard.patterns[key][2] == 2


def test_refused_pattern_stays_until_it_changes() -> None:
    learned, key = Learned(), b"k" * 16
    learned.put(key, _pattern())
    learned.refuse(key)
    assert not learned.changes()
    learned.observe(key, 1.0, 1, 200)
    assert list(learned.changes().added) == [key]


@pytest.mark.parametrize("embedding", [np.zeros(384), np.ones(383), np.full(384, np.nan), np.full(384, np.inf)])
def test_what_is_no_embedding_is_refused(embedding: npt.NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="384"):
        quantise(embedding)


def _settle(learned: Learned, shard: ToldShard) -> None:
    changes = learned.changes()
    learned.settle(changes, rejected=shard.apply(learned.delta(changes, None, 1)))


def _keys(ids: npt.NDArray[np.uint8]) -> list[bytes]:
    return [row.tobytes() for row in ids]

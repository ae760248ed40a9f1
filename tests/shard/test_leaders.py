"""The best few against a sort of all, through any changes and fading."""

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from constellation.model import Rows
from constellation.shard.leaders import Leaders, Values
from kernels.trends import top_k

ITEMS, NEED, KEEP = 30, 3, 5


class LeadersMachine(RuleBasedStateMachine):
    """Values of thirty items, few of them distinct; -inf is out of the race."""

    def __init__(self) -> None:
        super().__init__()
        self.now = np.full(ITEMS, -np.inf)
        self.scans = 0
        self.leaders = Leaders(NEED, KEEP, lambda items: self.now[items], self.best)

    def best(self, k: int) -> Rows:
        self.scans += 1
        found: Rows = top_k(self.now, np.isfinite(self.now).astype(np.uint8), k)
        return found

    @rule(item=st.integers(0, ITEMS - 1), value=st.integers(1, 12))
    def change(self, item: int, value: int) -> None:
        self._set(item, float(value))

    @rule(values=st.lists(st.integers(1, 1_000), min_size=ITEMS, max_size=ITEMS))
    def change_all(self, values: list[int]) -> None:
        for item, value in enumerate(values):
            self._set(item, float(value))

    @rule(items=st.lists(st.integers(0, ITEMS - 1)))
    def drop(self, items: list[int]) -> None:
        for item in items:
            self._set(item, -np.inf)

    @rule()
    def drop_the_best(self) -> None:
        for item in self.leaders.top(NEED).tolist():
            self._set(item, -np.inf)

    @rule(factor=st.sampled_from([0.95, 0.5]), fallen=st.integers(0, ITEMS - 1))
    def fade(self, factor: float, fallen: int) -> None:
        self.now *= factor
        self.now[fallen] *= 0.9
        self.leaders.scale(factor)

    def _set(self, item: int, value: float) -> None:
        self.now[item] = value
        self.leaders.changed(item, value)

    @invariant()
    def best_first(self) -> None:
        wanted: Values = np.sort(self.now[np.isfinite(self.now)])[::-1]
        for k in range(NEED + 1):
            top = self.leaders.top(k)
            assert len(set(top.tolist())) == len(top) == min(k, len(wanted))
            np.testing.assert_array_equal(self.now[top], wanted[:k])


LeadersMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_leaders_are_the_head_of_a_sort: Any = LeadersMachine.TestCase


def test_changes_that_leave_the_best_alone_scan_nothing() -> None:
    machine = LeadersMachine()
    machine.change_all(list(range(1, ITEMS + 1)))
    machine.best_first()
    scans = machine.scans
    for item in range(ITEMS - 2 * KEEP):
        machine.change(item, 1)
        machine.best_first()
    assert machine.scans == scans

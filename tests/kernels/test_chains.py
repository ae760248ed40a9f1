"""Chains against a dict of lists."""

import itertools
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kernels import chains, reference

DEVICES, ROWS = 3, 12


class ChainsMachine(RuleBasedStateMachine):
    """Rows go into chains and out again, at the head, in the middle and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first = np.full(DEVICES, -1, np.int32)
        self.following = np.full(ROWS, 7, np.int32)
        self.twin = reference.Chains()
        self.free = list(range(ROWS))

    @precondition(lambda self: self.free)
    @rule(device=st.integers(0, DEVICES - 1), at=st.integers(0, ROWS))
    def link(self, device: int, at: int) -> None:
        row = self.free.pop(at % len(self.free))
        chains.link(self.first, self.following, device, row)
        self.twin.link(device, row)

    @precondition(lambda self: any(self.twin.values()))
    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(device for device, rows in self.twin.items() if rows)))
        row = data.draw(st.sampled_from(self.twin.rows_of(device)))
        chains.unlink(self.first, self.following, device, row)
        self.twin.unlink(device, row)
        self.free.append(row)

    @invariant()
    def agree(self) -> None:
        for device in range(DEVICES):
            rows = chains.rows_of(self.first, self.following, device)
            assert rows.dtype == np.int32
            assert rows.tolist() == self.twin.rows_of(device)
        order = [*range(DEVICES), 0]
        starts, rows = chains.rows_of_many(self.first, self.following, np.array(order, np.int32))
        parts = [rows[start:stop].tolist() for start, stop in itertools.pairwise(starts)]
        assert rows.dtype == np.int32 and parts == [self.twin.rows_of(device) for device in order]


ChainsMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
test_chains_agree_with_lists: Any = ChainsMachine.TestCase

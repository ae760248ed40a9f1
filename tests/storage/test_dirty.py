"""What is dirty, against a plain list of notes: nothing is lost, whatever is taken, put back and forgotten."""

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from constellation.model import Ids
from constellation.records import Change, Forgotten, PatternKeys, TrendCells, empty_change
from constellation.storage.dirty import Batch, Dirty

Thing = tuple[Any, ...]


def id_of(number: int) -> bytes:
    return bytes([number]) * 16


def ids_of(numbers: list[int]) -> Ids:
    return np.frombuffer(b"".join(map(id_of, numbers)), np.uint8).reshape(-1, 16)


def change_of(device: int, gone: list[int], cells: list[int], forgotten: bool) -> Change:
    change = empty_change()
    if forgotten:
        return structs.replace(change, forgotten=[Forgotten(id_of(device), b"", 0, 0)])
    return structs.replace(
        change,
        devices=structs.replace(change.devices, ids=ids_of([device])),
        gone=PatternKeys(ids_of([device] * len(gone)), ids_of(gone)),
        trends=TrendCells(
            [f"genre:{cell}" for cell in cells], np.array(cells, np.uint32), np.zeros(len(cells), np.uint32)
        ),
    )


def things_of(batch: Batch) -> set[Thing]:
    return {
        *(("device", device) for device in batch.devices),
        *(("pattern", device, one) for device, dirty in batch.devices.items() for one in dirty.patterns),
        *(("cell", *cell) for cell in batch.cells),
        *(("forgotten", device) for device in batch.forgotten),
    }


class DirtyMachine(RuleBasedStateMachine):
    """The model holds every thing with the positions at which it was noted; `taken` is a batch on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.dirty = Dirty()
        self.position = 0
        self.model: dict[Thing, int] = {}
        self.taken: tuple[Batch, dict[Thing, int]] | None = None

    @rule(
        device=st.integers(0, 3),
        gone=st.lists(st.integers(0, 3), max_size=3),
        cells=st.lists(st.integers(0, 3), max_size=2, unique=True),
        forgotten=st.integers(0, 4),
    )
    def note(self, device: int, gone: list[int], cells: list[int], forgotten: int) -> None:
        self.position += 1
        change = change_of(device, gone, cells, forgotten == 0)
        self.dirty.note(change, self.position)
        name = id_of(device)
        if forgotten == 0:
            self.model = {t: since for t, since in self.model.items() if t[0] == "cell" or t[1] != name} | {
                t: since for t, since in self.model.items() if t == ("forgotten", name)
            }
            self.model.setdefault(("forgotten", name), self.position)
            return
        since = self.model.setdefault(("device", name), self.position)
        for one in gone:
            self.model.setdefault(("pattern", name, id_of(one)), since)
        for cell in cells:
            self.model.setdefault(("cell", f"genre:{cell}", cell), self.position)

    @precondition(lambda self: self.taken is None)
    @rule(patterns_max=st.integers(1, 5), cells_max=st.integers(1, 3))
    def take(self, patterns_max: int, cells_max: int) -> None:
        batch = self.dirty.take(patterns_max, 10, cells_max)
        things = things_of(batch)
        assert things <= self.model.keys()
        assert {t for t in self.model if t[0] == "forgotten"} <= things
        self.taken = batch, {t: self.model.pop(t) for t in things}

    @precondition(lambda self: self.taken is not None)
    @rule()
    def was_written(self) -> None:
        self.taken = None

    @precondition(lambda self: self.taken is not None)
    @rule()
    def was_not_written(self) -> None:
        assert self.taken is not None
        batch, before = self.taken
        self.dirty.put_back(batch)
        forgotten_since = {t[1] for t in self.model if t[0] == "forgotten"}
        kept = {t: since for t, since in before.items() if t[0] in ("cell", "forgotten") or t[1] not in forgotten_since}
        self.model = self.model | kept
        self.taken = None

    @invariant()
    def nothing_that_is_dirty_lies_before_the_oldest(self) -> None:
        since = self.dirty.since()
        assert (since is None) == (not self.model)
        if since is not None:
            assert since <= min(self.model.values())

    def teardown(self) -> None:
        assert things_of(self.dirty.take_all()) == self.model.keys()
        assert self.dirty.since() is None


DirtyMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
test_dirty_agrees_with_a_list_of_notes: Any = DirtyMachine.TestCase

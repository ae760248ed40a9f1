"""Key table: a dict in every respect, through growth, deletion and colliding keys."""

import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kernels import compiled, keytable, reference
from kernels.keytable import KeyTable, sip_hash

ROWS = 400
SECRET = 0x0123456789ABCDEF_FEDCBA9876543210


def columns(seed: int, n: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """n different keys; ids repeat over owners, owners over ids, and halves of ids over ids."""
    rng = np.random.default_rng(seed)
    halves = rng.integers(0, 256, (max(2, round(n**0.4)), 8)).astype(np.uint8)
    pairs = np.array([[a, b] for a in halves for b in halves]).reshape(-1, 16)
    owners = (np.arange(n) // len(pairs)).astype(np.int32) - 1
    return owners, np.ascontiguousarray(pairs[np.arange(n) % len(pairs)])


class KeyTableMachine(RuleBasedStateMachine):
    """A table that starts with 8 slots against a dict; freed rows are used again under other keys."""

    def __init__(self) -> None:
        super().__init__()
        self.owners, self.ids = columns(1, ROWS)
        self.table = KeyTable(self.owners, self.ids, SECRET, capacity=1)
        self.twin = reference.KeyTable(self.owners, self.ids)
        self.free = list(range(ROWS))
        self.gone: list[tuple[int, bytes]] = []

    @precondition(lambda self: self.free)
    @rule(at=st.integers(0, ROWS))
    def insert(self, at: int) -> None:
        row = self.free.pop(at % len(self.free))
        self.table.insert(row)
        self.twin.insert(row)

    @rule(n=st.integers(0, 60))
    def insert_many(self, n: int) -> None:
        rows, self.free = self.free[:n], self.free[n:]
        self.table.insert_many(np.array(rows, np.int32))
        for row in rows:
            self.twin.insert(row)

    @precondition(lambda self: self.twin)
    @rule(data=st.data(), n=st.integers(1, 40))
    def delete(self, data: st.DataObject, n: int) -> None:
        rows = data.draw(st.lists(st.sampled_from(sorted(self.twin.values())), max_size=n, unique=True))
        if len(rows) == 1:
            self.table.delete(rows[0])
        else:
            self.table.delete_many(np.array(rows, np.int32))
        for row in rows:
            self.gone.append(self.twin.key(row))
            self.twin.delete(row)
        self.free += rows

    @precondition(lambda self: self.free)
    @rule(id_byte=st.integers(0, 255))
    def rename_a_free_row(self, id_byte: int) -> None:
        row = self.free[0]
        self.ids[row, 0], self.owners[row] = id_byte, 1_000 + row

    @invariant()
    def agree(self) -> None:
        assert len(self.table) == len(self.twin)
        keys = list(self.twin) + self.gone[-20:] + [(-7, bytes(16))]
        owners = np.array([owner for owner, _ in keys], np.int32)
        ids = np.array([list(key) for _, key in keys], np.uint8).reshape(-1, 16)
        wanted = [self.twin.find(*key) for key in keys]
        assert self.table.find_many(owners, ids).tolist() == wanted
        assert [self.table.find(*key) for key in keys[-3:]] == wanted[-3:]


KeyTableMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_table_agrees_with_dict: Any = KeyTableMachine.TestCase


def colliding_rows(owners: Any, ids: Any, table: KeyTable, home: int, mask: int) -> list[int]:
    """Rows whose keys all start at one slot."""
    key = table._key
    words = ids.view(np.uint64)
    starts = [
        int(sip_hash(words[row, 0], words[row, 1], np.uint64(np.uint32(owners[row])), key[0], key[1])) & mask
        for row in range(len(owners))
    ]
    return [row for row, start in enumerate(starts) if start == home]


@pytest.mark.parametrize("home", [0, 7, 15])
def test_keys_that_all_collide_can_be_deleted_in_any_order(home: int) -> None:
    """One probe sequence over the end of a table of 16 slots: what a weak hash would do to every table."""
    owners, ids = columns(2, ROWS)
    for seed in range(3):
        table = KeyTable(owners, ids, SECRET, capacity=16)
        rows = colliding_rows(owners, ids, table, home, 15)[:7]
        other = colliding_rows(owners, ids, table, (home + 2) % 16, 15)[:3]
        assert len(rows) == 7 and len(other) == 3
        mixed = np.random.default_rng(seed).permutation(rows + other).tolist()
        for row in mixed:
            table.insert(row)
        assert not table.growing
        left = set(mixed)
        for row in np.random.default_rng(seed + 9).permutation(mixed).tolist():
            table.delete(row)
            left.remove(row)
            found = table.find_many(owners, ids)
            assert {int(r) for r in found if r >= 0} == left
            assert all(found[r] == r for r in left)


def test_growth_moves_a_bounded_number_of_slots_and_ends() -> None:
    owners, ids = columns(3, 1_100)
    table = KeyTable(owners, ids, SECRET, capacity=512)
    seen_growing = 0
    for row in range(1_100):
        before = int((table._old > 0).sum())
        table.insert(row)
        if before and table.growing:
            assert 0 <= before - int((table._old > 0).sum()) <= keytable.MOVED_PER_CHANGE_MAX
        seen_growing += table.growing
        if row % 97 == 0 or table.growing:
            some = np.random.default_rng(row).integers(0, 1_100, 40)
            found = table.find_many(owners[some], ids[some])
            np.testing.assert_array_equal(found, np.where(some <= row, some, -1))
    assert seen_growing > 10 and not table.growing
    np.testing.assert_array_equal(table.find_many(owners, ids), np.arange(1_100))
    assert table.slot_bytes == 4 * 2_048


@pytest.mark.parametrize("seed", range(3))
def test_every_key_is_found_after_every_step_of_growth(seed: int) -> None:
    """Inserts and deletes in turn while a full array of 512 slots is moved; a broken probe sequence hides a key."""
    owners, ids = columns(seed, 360)
    table = KeyTable(owners, ids, SECRET + seed, capacity=512)
    table.insert_many(np.arange(321, dtype=np.int32))
    assert table.growing
    present = np.arange(360) < 321
    rng = np.random.default_rng(seed)
    while table.growing:
        leaves = int(rng.choice(np.flatnonzero(present)))
        table.delete(leaves)
        present[leaves] = False
        np.testing.assert_array_equal(table.find_many(owners, ids), np.where(present, np.arange(360), -1))
        comes = int(rng.choice(np.flatnonzero(~present)))
        table.insert(comes)
        present[comes] = True
        np.testing.assert_array_equal(table.find_many(owners, ids), np.where(present, np.arange(360), -1))


def test_deleting_everything_during_growth_leaves_nothing() -> None:
    owners, ids = columns(4, 700)
    table = KeyTable(owners, ids, SECRET, capacity=1_024)
    table.insert_many(np.arange(642, dtype=np.int32))
    assert table.growing
    table.delete_many(np.random.default_rng(4).permutation(642).astype(np.int32))
    assert len(table) == 0 and not table.growing
    assert (table.find_many(owners, ids) == -1).all()


def test_inserting_a_known_key_is_refused_also_while_growing() -> None:
    owners, ids = columns(5, 700)
    owners[699], ids[699] = owners[3], ids[3]
    table = KeyTable(owners, ids, SECRET, capacity=1_024)
    table.insert_many(np.arange(642, dtype=np.int32))
    for _ in range(20):
        with pytest.raises(AssertionError, match="row 699 is in the table already"):
            table.insert(699)
    assert len(table) == 642 and table.find(int(owners[3]), ids[3].tobytes()) == 3


def test_deleting_an_unknown_row_is_refused() -> None:
    owners, ids = columns(6, 20)
    table = KeyTable(owners, ids, SECRET)
    table.insert_many(np.arange(10, dtype=np.int32))
    with pytest.raises(AssertionError, match="row 12 is not in the table"):
        table.delete_many(np.array([3, 12, 4], np.int32))
    assert len(table) == 9 and table.find(int(owners[4]), ids[4].tobytes()) == 4


def test_look_up_takes_any_layout() -> None:
    owners, ids = columns(7, 20)
    table = KeyTable(owners, ids, SECRET)
    table.insert_many(np.arange(20, dtype=np.int32))
    read_only = np.frombuffer(b"x" + ids.tobytes(), np.uint8, offset=1).reshape(20, 16)
    assert table.find_many(owners[::-2], read_only[::-2]).tolist() == list(range(19, -1, -2))
    assert table.find_many(np.broadcast_to(owners[3], 1), read_only[3:4]).tolist() == [3]
    assert table.find_many(owners[:0], ids[:0]).tolist() == []
    assert table.find(int(owners[5]), read_only[5]) == 5


@pytest.mark.parametrize("seed", [0, SECRET])
def test_same_keys_stand_in_other_slots_under_another_seed(seed: int) -> None:
    owners, ids = columns(8, 200)
    first, second = (KeyTable(owners, ids, s) for s in (seed, seed + 1))
    for table in (first, second):
        table.insert_many(np.arange(200, dtype=np.int32))
    assert (first._slots != second._slots).sum() > 200


def test_hash_is_siphash_1_3() -> None:
    """Against CPython's own hash of bytes, which is SipHash-1-3 with a zero key under PYTHONHASHSEED=0."""
    if sys.hash_info.algorithm != "siphash13":
        pytest.skip("this Python hashes bytes differently")
    messages = [np.random.default_rng(seed).integers(0, 256, 20).astype(np.uint8).tobytes() for seed in range(20)]
    script = f"print([hash(m) for m in {messages!r}])"
    out = subprocess.run([sys.executable, "-c", script], env={"PYTHONHASHSEED": "0"}, capture_output=True, check=True)
    wanted = [h % 2**64 for h in eval(out.stdout)]
    for message, expected in zip(messages, wanted, strict=True):
        low, high = np.frombuffer(message[:16], np.uint64)
        owner = np.uint64(int.from_bytes(message[16:], "little"))
        assert int(sip_hash(low, high, owner, np.uint64(0), np.uint64(0))) == expected


@pytest.mark.skipif(not compiled.JIT, reason="a million keys")
def test_no_insert_stalls_up_to_a_million_keys() -> None:
    """Work is bounded by construction; this looks at the clock for what is not ours: page faults, freed memory.

    The median of the operations around every growth, so that a busy machine does not fail it.
    """
    from time import perf_counter_ns

    owners = np.zeros(1 << 20, np.int32)
    ids = np.random.default_rng(1).integers(0, 256, (1 << 20, 16), np.uint8)
    table = KeyTable(owners, ids, SECRET)
    took: list[int] = []
    while len(table) < len(ids) - 1:
        until_full = len(table._slots) * keytable.LOAD_NUMERATOR // keytable.LOAD_DENOMINATOR - len(table)
        table.insert_many(np.arange(len(table), min(len(table) + until_full, len(ids) - 1), dtype=np.int32))
        for row in range(len(table), min(len(table) + 200, len(ids) - 1)):
            start = perf_counter_ns()
            table.insert(row)
            took.append(perf_counter_ns() - start)
    assert np.percentile(took, 95) < 1_000_000

"""What must hold of the levels of `kernels.lists` between any two calls, and the modules themselves made small.

The kernels run without bounds checks: an array that is too short by one is a crash of the shard. So the checker knows
the bounds, too. It reads the arrays as their docstrings say, and shares no code with the kernels.
"""

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kernels import compiled, lists, partition, prefetch, reference, sketches

Sketches = npt.NDArray[np.int8]
USED, FREE, HELD = 0, 1, 2


def merged(*modules: ModuleType) -> SimpleNamespace:
    """What the modules define, as if it were one."""
    return SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})


LISTS = merged(sketches, lists, partition)


def small_lists(capacity: int = 8, axes: int = 4, near: int = 4) -> SimpleNamespace:
    """LISTS as plain Python with few places in a list: a hundred rows do there what a million do in life."""
    constants = {"CAPACITY": capacity, "SPARSE": capacity // 4, "AXES": axes, "HALF": axes // 2, "NEAR_LISTS": near}
    loaded = []
    with pytest.MonkeyPatch.context() as patch:
        for name, plain in {"compiled": _same, "inlined": _same, "JIT": False}.items():
            patch.setattr(compiled, name, plain)
        patch.setattr(prefetch, "prefetch", lambda array, offset: None)
        for original in (sketches, lists, partition):
            spec = importlib.util.find_spec(original.__name__)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, original.__name__, module)
            spec.loader.exec_module(module)
            for name in constants.keys() & vars(module).keys():
                setattr(module, name, constants[name])
            loaded.append(module)
    small = merged(*loaded)
    assert constants.items() <= vars(small).items()
    return small


def _same(kernel: Callable[..., Any]) -> Callable[..., Any]:
    return kernel


class Levels:
    """Both levels over `rows` row numbers with arrays of the size that the shard gives them, and what they hold."""

    def __init__(self, module: Any, rows: int, slack: int = 64) -> None:
        self.module = module
        self.rows = rows
        self.count = slack + rows // module.SPARSE
        self.lists = module.empty_level(self.count, rows)
        self.groups = module.empty_level(self.count, self.count)
        self.held: dict[int, Sketches] = {}
        self._packed: dict[int, Any] = {}

    def insert(self, row: int, sketch: Sketches) -> None:
        self.module.insert(self.lists, self.groups, row, sketch)
        self.held[row], self._packed[row] = sketch, reference.pack(sketch)

    def remove(self, row: int) -> None:
        self.module.remove(self.lists, self.groups, row)
        del self.held[row], self._packed[row]

    def settle(self, k: int) -> None:
        self.module.settle(self.lists, self.groups, k)

    def search(self, codes: Any, inverse: Any, query: Any, k: int, budget: int, rescore: int) -> tuple[Any, Any]:
        sketch = sketches_of(query[None], self.module)[0]
        found: tuple[Any, Any] = self.module.search(
            self.lists, self.groups, codes, inverse, query, sketch, k, budget, rescore
        )
        return found

    def check(self) -> None:
        """All invariants."""
        self._check_level(self.lists, self._packed)
        lists = in_use(self.lists)
        self._check_level(self.groups, {k: reference.pack(self.lists.centroids[k]) for k in lists})
        sizes = [int(self.lists.sizes[k]) for k in lists]
        assert len(lists) <= 1 or min(sizes) >= self.module.SPARSE
        assert all(self.groups.sizes[g] > 0 for g in in_use(self.groups))
        # One list may be on its way out while another splits, and the only list may be sparse.
        assert self.lists.counts[USED] <= self.rows // self.module.SPARSE + 2
        assert self.groups.counts[USED] <= self.lists.counts[USED]

    def _check_level(self, level: Any, wanted: dict[int, Any]) -> None:
        """Every row is in one place, that place is its home, and its sketch is there; lists not in use are free."""
        places: dict[int, int] = {}
        for k in in_use(level):
            assert 0 <= level.sizes[k] < self.module.CAPACITY, "a list at rest has room for one more"
            for slot in range(level.sizes[k]):
                row = int(level.rows[k, slot])
                assert row not in places
                places[row] = 1 + k * self.module.CAPACITY + slot
                assert level.sketches[k, slot].tobytes() == wanted[row].tobytes()
        assert places.keys() == wanted.keys()
        assert level.counts[HELD] == len(wanted)
        homes = {int(row): int(level.home[row]) for row in np.flatnonzero(level.home)}
        assert homes == places


def in_use(level: Any) -> list[int]:
    """Numbers of the lists that are not free; each free one is on the stack once, and empty."""
    free = level.free[: level.counts[FREE]].tolist()
    assert len(set(free)) == len(free)
    assert all(0 <= k < level.counts[USED] and level.sizes[k] == 0 for k in free)
    assert not level.sizes[level.counts[USED] :].any()
    return sorted(set(range(level.counts[USED])) - set(free))


def sketches_of(codes: npt.NDArray[Any], module: Any) -> Sketches:
    """Sketches of codes that have as many components as a sketch: the projection keeps all."""
    exact = codes.astype(np.float64)
    exact *= module.SKETCH_NORM / np.linalg.norm(exact, axis=1, keepdims=True)
    return np.clip(np.rint(exact), -127, 127).astype(np.int8)

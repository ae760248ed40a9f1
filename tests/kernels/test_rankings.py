"""Rankings that are brought up to date, against looking at everything anew, after any history."""

import numpy as np
import numpy.typing as npt
import pytest

from kernels import reference
from kernels.arrivals import empty_arrivals, note
from kernels.codes import inverse_norms
from kernels.rankings import PROTOTYPE_SHARE, RESERVE, SCORED, Asked, Patterns, Prototypes, fingerprint, renew
from kernels.sketches import AXES
from tests.kernels.material import random_codes

ROWS, ME = 200, 7


class World:
    """Rows that come and go, most of others, and a device that asks with one to three interests."""

    def __init__(self, seed: int, parts: list[int], prototypes: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.codes = random_codes(seed, ROWS, AXES)
        self.codes[ROWS // 2 :: 3] = self.codes[: len(self.codes[ROWS // 2 :: 3])]  # equals
        self.inverse = inverse_norms(self.codes)
        owners = self.rng.choice([1, 2, ME], ROWS, p=[0.5, 0.4, 0.1]).astype(np.int32)
        self.patterns = Patterns(self.codes, self.inverse, owners, np.zeros(ROWS, np.int32))
        self.arrivals = empty_arrivals(1 << 12, ROWS, random_codes(3, 5, AXES))
        made = random_codes(seed + 1, prototypes, AXES)
        if len(made):
            made[0] = self.codes[0]
        self.numbers = self.rng.permutation(2 * prototypes)[:prototypes].astype(np.int32)
        place_of = np.zeros(2 * prototypes + 1, np.int32)
        place_of[self.numbers] = np.arange(prototypes)
        self.prototypes = Prototypes(made, inverse_norms(made), place_of)
        base = self.codes[self.rng.integers(0, 20, len(parts))].astype(np.int16)
        queries = np.clip(base + self.rng.integers(-60, 60, base.shape), -127, 127).astype(np.int8)
        if seed % 2:
            queries[1:] = queries[0]  # interests that find the same
        sketches = np.ascontiguousarray(queries[:, :AXES])
        self.asked = Asked(queries, inverse_norms(queries), sketches, np.array(parts), ME)
        self.kept = np.zeros(400, np.int32)
        self.sizes = np.zeros((2, len(parts)), np.uint8)
        self.since = 1

    def serve(self, row: int) -> None:
        self.patterns.home[row] = 1
        note(self.arrivals, row, self.codes[row, :AXES])

    def change(self, count: int) -> None:
        for row in self.rng.integers(0, ROWS, count).tolist():
            if self.patterns.home[row] == 0:
                self.serve(row)
            elif self.rng.random() < 0.6:
                self.patterns.home[row] = 0
            else:  # gone and here again, with another code
                self.codes[row] = self.codes[self.rng.integers(ROWS)]
                self.inverse[row] = inverse_norms(self.codes[row : row + 1])[0]
                self.serve(row)

    def others(self) -> list[int]:
        return np.flatnonzero((self.patterns.home > 0) & (self.patterns.owners != ME)).tolist()

    def search(self) -> None:
        """Rankings as deep as they may be."""
        end, k = 0, int(self.asked.parts.sum())
        for i, part in enumerate(self.asked.parts.tolist()):
            depth = RESERVE + (k if i == 0 else part)
            query = self.asked.queries[i]
            rows, _ = reference.search(self.codes, self.inverse, np.array(self.others()), query, depth)
            near = self.prototypes.codes.astype(np.int64) @ query.astype(np.int64)
            best = np.argsort(-near * self.prototypes.inverse, kind="stable")
            told = -1 - self.numbers[best[: (k if i == 0 else part) // PROTOTYPE_SHARE]]
            self.sizes[:, i] = len(rows), len(told)
            self.kept[end : end + len(rows) + len(told)] = np.concatenate((rows, told))
            end += len(rows) + len(told)
        self.since = int(self.arrivals.counts[0])

    def renew(self) -> npt.NDArray[np.int32]:
        rows: npt.NDArray[np.int32] = renew(
            self.patterns, self.arrivals, self.prototypes, self.asked, self.kept, self.sizes, self.since
        )
        if len(rows):
            self.since = int(self.arrivals.counts[0])
        return rows

    def wanted(self) -> set[int]:
        parts = self.asked.parts.tolist()
        found = reference.renew(
            self.codes, self.others(), self.prototypes.codes, self.asked.queries, parts, PROTOTYPE_SHARE
        )
        return {row if row >= 0 else -1 - int(self.numbers[-1 - row]) for row in found}


@pytest.mark.parametrize(("parts", "prototypes"), [([20], 12), ([9, 5], 0), ([8, 8, 7], 12), ([4, 1, 0], 5)])
def test_it_is_what_looking_at_everything_finds(parts: list[int], prototypes: int) -> None:
    renewed = 0
    for seed in range(4):
        world = World(seed, parts, prototypes)
        world.change(180)
        world.search()
        for _ in range(12):
            rows = world.renew()
            if not len(rows):
                world.search()
                rows = world.renew()
            else:
                renewed += 1
            assert len(rows) == sum(parts) and set(rows.tolist()) == world.wanted()
            world.change(int(world.rng.integers(0, 9)))
    assert renewed > 30, "most of the time nothing has to be sought"


def test_it_does_not_tell_what_it_does_not_know() -> None:
    world = World(2, [20], 0)
    for row in range(60):
        world.patterns.owners[row] = 1
        world.serve(row)
    world.search()
    before = world.kept.copy(), world.sizes.copy()
    world.patterns.home[world.kept[: RESERVE + 1]] = 0
    assert not len(world.renew()), "thirteen of thirty-two are gone"
    assert (world.kept == before[0]).all() and (world.sizes == before[1]).all()
    world.search()
    for row in range(100, 100 + SCORED):
        world.patterns.owners[row] = 1
        world.codes[row] = world.asked.queries[0]
        world.codes[row, 0] ^= row & 3
        world.inverse[row] = inverse_norms(world.codes[row : row + 1])[0]
        world.serve(row)
    assert not len(world.renew()), "as many as are looked at got in"


def test_another_question_has_another_fingerprint() -> None:
    queries, parts = random_codes(1, 2, AXES), np.array([60, 40])
    asked = [fingerprint(queries, parts, ME, 3), fingerprint(queries, parts, ME + 1, 3)]
    asked += [fingerprint(queries, parts, ME, 4), fingerprint(queries, parts[::-1].copy(), ME, 3)]
    asked += [fingerprint(queries[:1], parts, ME, 3), fingerprint(queries[::-1].copy(), parts, ME, 3)]
    for place in np.ndindex(*queries.shape):
        for bit in range(8):
            other = queries.copy()
            other.view(np.uint8)[place] ^= 1 << bit
            asked.append(fingerprint(other, parts, ME, 3))
    assert len({int(each) for each in asked}) == len(asked) and 0 not in asked
    assert fingerprint(queries.copy(), parts.copy(), ME, 3) == asked[0]

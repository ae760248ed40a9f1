"""The prototypes of the last round: candidates beside the patterns of devices. Part of `shard.shard`.

There are at most as many as a codebook has centroids, so a question looks at all of them. Each id has a number as long
as rounds bring it, and some time longer; among rows of patterns, prototype number i goes by the row -1 - i.
"""

import numpy as np
import numpy.typing as npt

from constellation import rounds
from constellation.codebook import SIZE_MAX
from constellation.limits import FREED_ROWS_KEPT
from constellation.model import DIM, ID_BYTES, Backing, PatternBatch, Rows
from constellation.shard import memory
from constellation.shard.patterns import Facts
from constellation.shard.revisions import Revisions
from constellation.shard.similarity import Cosines, Vector
from kernels import rankings
from kernels.codes import inverse_norms
from kernels.scan import scan_top_k

_DEVICES_MIN = 2
"""Behind a prototype that is served: one device alone would get back what it gave."""


CAPACITY = 2 * SIZE_MAX + FREED_ROWS_KEPT
"""Numbers of prototypes: of one round, and of the next."""


_NOWHERE = np.empty(0, np.int64)


class PrototypeTable:
    """Prototypes that devices may get; none before the first round."""

    def __init__(self, serve_threshold: float) -> None:
        self._serve_threshold = np.float32(serve_threshold)
        self._patterns: PatternBatch | None = None
        self._backing: list[Backing] = []
        self._inverse = np.empty(0, np.float32)
        self._best = np.empty(0, np.int32)
        self._rows = memory.Rows(CAPACITY, rest=FREED_ROWS_KEPT)
        self._number_of: dict[bytes, int] = {}
        self._numbers = np.empty(0, np.int32)
        self._place_of = memory.column(CAPACITY, np.int32)
        self.ids = memory.column(CAPACITY, np.uint8, ID_BYTES)
        self.revisions = Revisions(CAPACITY)
        self.rounds = 0
        """How often all of them were replaced."""

    def __len__(self) -> int:
        return len(self._backing)

    @property
    def rows(self) -> Rows:
        """Of all that are served."""
        return -1 - self._numbers

    def put(self, found: rounds.Prototypes, at: int) -> None:
        """Those of a round of `at` (unix seconds), in place of all before."""
        served = np.flatnonzero((found.rates >= self._serve_threshold) & (found.devices >= _DEVICES_MIN))
        self._patterns = PatternBatch(
            ids=found.ids[served],
            codes=found.codes[served],
            rates=found.rates[served],
            counts=found.counts[served],
            created_at=np.full(len(served), at, np.int64),
            updated_at=np.full(len(served), at, np.int64),
            contexts=[found.contexts[i] for i in served.tolist()],
        )
        self._inverse = inverse_norms(self._patterns.codes)
        columns = (found.quality[served], found.sources[served], found.devices[served])
        self._backing = [Backing(*of) for of in zip(*(column.tolist() for column in columns), strict=True)]
        self._best = np.lexsort((served, -found.devices[served])).astype(np.int32)
        self._number([pattern_id.tobytes() for pattern_id in self._patterns.ids])
        self.rounds += 1

    @property
    def columns(self) -> rankings.Prototypes:
        """As `kernels.rankings` reads them, until the next `put`."""
        codes = np.empty((0, DIM), np.int8) if self._patterns is None else self._patterns.codes
        return rankings.Prototypes(codes, self._inverse, self._place_of)

    def best(self, k: int) -> Rows:
        """Rows of up to k prototypes, those of the most devices first."""
        return -1 - self._numbers[self._best[:k]]

    def nearest(self, query: Vector, k: int) -> tuple[Rows, Cosines]:
        """Rows of the min(k, len(self)) most like a code (384,) int8, best first, and their cosines."""
        if self._patterns is None or not k:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        everyone = np.arange(len(self), dtype=np.int32)
        norm = inverse_norms(query.reshape(1, DIM))[0]
        rows, cosines = scan_top_k(self._patterns.codes, self._inverse, everyone, query, norm, k)
        return -1 - self._numbers[rows], cosines

    def put_into(self, answer: PatternBatch, rows: Rows) -> dict[int, Backing]:
        """Write the prototypes among `rows` (n,) over the answer's patterns (n,); what backs them, by their place."""
        places = self._places(rows)
        if self._patterns is None or not len(places):
            return {}
        mine = self._place_of[-1 - rows[places]]
        for name in ("ids", "codes", "rates", "counts", "created_at", "updated_at"):
            getattr(answer, name)[places] = getattr(self._patterns, name)[mine]
        for place, i in zip(places.tolist(), mine.tolist(), strict=True):
            answer.contexts[place] = self._patterns.contexts[i]
        return {place: self._backing[i] for place, i in zip(places.tolist(), mine.tolist(), strict=True)}

    def put_facts(self, facts: Facts, rows: Rows) -> Facts:
        """Write those of the prototypes among `rows` (n,) over the facts of patterns (n,)."""
        places = self._places(rows)
        if self._patterns is not None and len(places):
            mine = self._place_of[-1 - rows[places]]
            for name, column in facts._asdict().items():
                column[places] = getattr(self._patterns, name)[mine]
        return facts

    def _places(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Where prototypes are among rows (n,)."""
        return np.flatnonzero(rows < 0) if len(rows) and self._patterns is not None else _NOWHERE

    def _number(self, ids: list[bytes]) -> None:
        """The ids that are served keep their numbers, or get one; all of them are written anew."""
        known = self._number_of
        new = [pattern_id for pattern_id in ids if pattern_id not in known]
        rows = self._rows.take_many(len(new))
        self.ids[rows] = np.frombuffer(b"".join(new), np.uint8).reshape(-1, ID_BYTES)
        self.revisions.born(rows)
        numbers = known | dict(zip(new, rows.tolist(), strict=True))
        self._number_of = {pattern_id: numbers[pattern_id] for pattern_id in ids}
        for pattern_id, number in known.items():
            if pattern_id not in self._number_of:
                self._rows.give_back(number)
        self._numbers = np.array(list(self._number_of.values()), np.int32)
        self._place_of[self._numbers] = np.arange(len(ids))
        self.revisions.written(self._numbers)

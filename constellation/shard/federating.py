"""The shard's side of federation: its patterns grouped by the codebooks in use, and what it gives to a round.

Part of `shard.shard`.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.codebook import Codebook
from constellation.config import Settings
from constellation.limits import AGGREGATES_DEVICES_MIN
from constellation.model import Rows
from constellation.rounds import BOUNDS, FederationResult, Partial, Sharing, TrendCounts
from constellation.shard.buckets import Buckets
from constellation.shard.giving import give
from constellation.shard.quantising import Quantising
from constellation.shard.tables import Tables
from kernels.trends import HOURS

NO_TRENDS = TrendCounts([], np.empty(0, np.int64), np.empty((HOURS, 0), np.uint32))


_TOLD_DEVICES_MIN: dict[Sharing, int] = {"patterns": 1, "aggregates": AGGREGATES_DEVICES_MIN}
"""Behind a bucket of which anybody is told outside of rounds."""


class Taste(NamedTuple):
    """What is liked, as the buckets of a codebook: n of them, numbers (n,) int32, ascending.

    patterns (n,) and devices (n,) int64 that count there (`rounds.ContributionBounds`), success (n,) float32 their mean
    success rate weighted by samples. Where aggregates are shared, none with fewer than 20 devices.
    """

    codebook: Codebook
    numbers: Rows
    patterns: npt.NDArray[np.int64]
    devices: npt.NDArray[np.int64]
    success: npt.NDArray[np.float32]


class Group(NamedTuple):
    """All patterns under one codebook; without a quantiser nothing can be told by it."""

    buckets: Buckets
    quantising: Quantising | None


class Federating:
    """Groups under one codebook, or two while patterns change over to the newer one."""

    def __init__(self, settings: Settings, tables: Tables, codebook: Codebook) -> None:
        self._shard_id, self._region = settings.shard_id, settings.region
        self._sharing = settings.shares
        self._tables = tables
        self._groups = [self._grouped_by(codebook)]

    @property
    def version(self) -> int:
        """Of the newest codebook under which every pattern is in its bucket; 0 if there is none."""
        return max((buckets.codebook.version for buckets, _ in self._groups if buckets.complete), default=0)

    @property
    def bytes_resident(self) -> int:
        return sum(part.bytes_resident for group in self._groups for part in group if part is not None)

    def use(self, codebook: Codebook) -> None:
        """Group by this codebook too; once it is done, by it alone from the next one on."""
        if any(buckets.codebook.version == codebook.version for buckets, _ in self._groups):
            return
        self._keep([group for group in self._groups if group.buckets.codebook.version == self.version])
        self._groups.append(self._grouped_by(codebook))

    @contextmanager
    def counted_anew(self, *devices: int) -> Iterator[None]:
        """The patterns of these devices change within."""
        rows = np.array(devices, np.int32)
        for buckets, _ in self._groups:
            buckets.leave(rows)
        yield
        for buckets, _ in self._groups:
            buckets.enter(rows)

    def settle(self) -> bool:
        """One step of grouping; True if more are waiting."""
        waiting = [buckets.settle() for buckets, _ in self._groups]
        waiting += [quantising.settle() for _, quantising in self._groups if quantising is not None]
        return any(waiting)

    def quantising(self, codebook_version: int) -> Quantising | None:
        """What tells patterns and prototypes by this codebook; None if it is not the current one."""
        for buckets, quantising in self._groups:
            if quantising is not None and buckets.codebook.version == codebook_version == self.version:
                return quantising
        return None

    def partial(
        self, number: int, map_epoch: int, codebook_version: int, group_key: bytes
    ) -> Generator[None, None, Partial | None]:
        for buckets, _ in self._groups:
            if buckets.complete and buckets.codebook.version == codebook_version:
                given = yield from give(self._tables, buckets, group_key)
                names = self._shard_id, self._region, number, map_epoch, codebook_version
                return Partial(*names, **given._asdict(), sharing=self._sharing)
        return None

    def taste(self) -> Taste | None:
        for buckets, _ in self._groups:
            if buckets.complete and buckets.codebook.version == self.version:
                backing = buckets.backing()
                told = np.flatnonzero(backing.devices >= _TOLD_DEVICES_MIN[self._sharing])
                return Taste(
                    codebook=buckets.codebook,
                    numbers=backing.numbers[told],
                    patterns=backing.patterns[told],
                    devices=backing.devices[told],
                    success=(backing.weights[told] / backing.samples[told]).astype(np.float32),
                )
        return None

    def publish(self, result: FederationResult, given: Partial | None) -> None:
        """Prototypes and trends of a round; groups under older codebooks are done with."""
        self._keep([group for group in self._groups if group.buckets.codebook.version >= result.codebook_version])
        self._tables.prototypes.put(result.prototypes, result.at)
        for _, quantising in self._groups:
            if quantising is not None:
                quantising.forget(self._tables.prototypes.rows)
        if given is None:
            self._tables.trends.publish(result, NO_TRENDS, result.hour)
        else:
            self._tables.trends.publish(result, given.trends, given.hour)

    def _grouped_by(self, codebook: Codebook) -> Group:
        patterns = self._tables.patterns
        buckets = Buckets(codebook, self._tables.devices, patterns, BOUNDS[self._sharing])
        return Group(buckets, Quantising(buckets, codebook.quantiser, patterns) if codebook.quantiser else None)

    def _keep(self, wanted: list[Group]) -> None:
        """These groups alone; all of them, if these are none."""
        for group in self._groups if wanted else []:
            if group not in wanted:
                group.buckets.close()
                if group.quantising is not None:
                    group.quantising.close()
        self._groups = wanted or self._groups

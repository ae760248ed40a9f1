"""The shard's side of federation: its patterns grouped by the codebooks in use, and what it gives to a round.

Part of `shard.shard`.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import numpy as np

from constellation.codebook import Codebook
from constellation.config import Settings
from constellation.rounds import BOUNDS, FederationResult, Partial, TrendCounts
from constellation.shard.buckets import Buckets
from constellation.shard.giving import give
from constellation.shard.tables import Tables
from kernels.trends import HOURS

NO_TRENDS = TrendCounts([], np.empty(0, np.int64), np.empty((HOURS, 0), np.uint32))


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
        return max((buckets.codebook.version for buckets in self._groups if buckets.complete), default=0)

    @property
    def bytes_resident(self) -> int:
        return sum(buckets.bytes_resident for buckets in self._groups)

    def use(self, codebook: Codebook) -> None:
        """Group by this codebook too; once it is done, by it alone from the next one on."""
        if any(buckets.codebook.version == codebook.version for buckets in self._groups):
            return
        self._keep([buckets for buckets in self._groups if buckets.codebook.version == self.version])
        self._groups.append(self._grouped_by(codebook))

    @contextmanager
    def counted_anew(self, *devices: int) -> Iterator[None]:
        """The patterns of these devices change within."""
        rows = np.array(devices, np.int32)
        for buckets in self._groups:
            buckets.leave(rows)
        yield
        for buckets in self._groups:
            buckets.enter(rows)

    def settle(self) -> bool:
        """One step of grouping; True if more are waiting."""
        return any([buckets.settle() for buckets in self._groups])

    def partial(
        self, number: int, map_epoch: int, codebook_version: int, group_key: bytes
    ) -> Generator[None, None, Partial | None]:
        for buckets in self._groups:
            if buckets.complete and buckets.codebook.version == codebook_version:
                given = yield from give(self._tables, buckets, group_key)
                names = self._shard_id, self._region, number, map_epoch, codebook_version
                return Partial(*names, **given._asdict(), sharing=self._sharing)
        return None

    def publish(self, result: FederationResult, given: Partial | None) -> None:
        """Prototypes and trends of a round; groups under older codebooks are done with."""
        self._keep([buckets for buckets in self._groups if buckets.codebook.version >= result.codebook_version])
        self._tables.prototypes.put(result.prototypes, result.at)
        if given is None:
            self._tables.trends.publish(result, NO_TRENDS, result.hour)
        else:
            self._tables.trends.publish(result, given.trends, given.hour)

    def _grouped_by(self, codebook: Codebook) -> Buckets:
        return Buckets(codebook, self._tables.devices, self._tables.patterns, BOUNDS[self._sharing])

    def _keep(self, wanted: list[Buckets]) -> None:
        """These groups alone; all of them, if these are none."""
        for buckets in self._groups if wanted else []:
            if buckets not in wanted:
                buckets.close()
        self._groups = wanted or self._groups

"""Groups of devices within each bucket, for a round that takes a robust mean. Part of `shard.giving`.

Which group a device is in follows from its id and the key of the round: who does not know the key cannot choose it. The
hash is strongly universal (Thorup, High Speed Hashing for Integers and Strings, 3.2), which is all that it takes where
nobody sees what it gives.
"""

from collections.abc import Generator
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from constellation.limits import WEIGHT_COUNT_CAP
from constellation.model import DIM, ID_BYTES, Ids, Rows
from constellation.rounds import GROUPS, GroupMeans, no_groups
from constellation.shard.buckets import Buckets
from constellation.shard.tables import Tables
from kernels.contributions import contribute, empty_totals
from kernels.pages import Leaving

_WORDS = ID_BYTES // 4
_GROUP_BITS = (GROUPS - 1).bit_length()
_CELLS_PER_STEP = 512

assert GROUPS == 1 << _GROUP_BITS


class Groups:
    """Sums of the groups of every bucket, which grow device by device."""

    def __init__(self, tables: Tables, buckets: Buckets, key: bytes) -> None:
        self._tables, self._buckets, self._key = tables, buckets, key
        self._totals = empty_totals(GROUPS * len(buckets.codebook), DIM)

    def count(self, devices: Rows, starts: npt.NDArray[np.int64], rows: Rows) -> None:
        """Add devices (n,) with the patterns that count, as of `Buckets.counted`."""
        groups = group_of(self._tables.devices.ids[devices], self._key)
        cells = self._buckets.of(rows) * np.int32(GROUPS) + np.repeat(groups, np.diff(starts))
        patterns = self._tables.patterns
        columns = patterns.codes[rows], patterns.inverse[rows], patterns.rates[rows], patterns.counts[rows]
        every, cap = np.arange(len(rows), dtype=np.int32), self._buckets.bounds.samples
        contribute(self._totals, starts, every, cells, *columns, WEIGHT_COUNT_CAP, cap, 1)

    def means(self) -> Generator[None, None, GroupMeans]:
        """In steps of a few milliseconds; the sums are gone then, and their memory."""
        totals = self._totals
        cells = np.flatnonzero(totals.weights).astype(np.int32)
        means = np.empty((len(cells), DIM), np.int16)
        for start in range(0, len(cells), _CELLS_PER_STEP):
            some = cells[start : start + _CELLS_PER_STEP]
            means[start : start + len(some)] = np.rint(totals.sums[some] / totals.weights[some, None])
            yield
        leaving = Leaving(totals.sums)
        while leaving.step():
            yield
        return GroupMeans(cells, means, totals.weights[cells], totals.devices[cells])


class NoGroups:
    """In place of groups that nobody asked for."""

    def count(self, devices: Rows, starts: npt.NDArray[np.int64], rows: Rows) -> None:
        pass

    def means(self) -> Generator[None, None, GroupMeans]:
        yield
        return no_groups()


def group_of(ids: Ids, key: bytes) -> npt.NDArray[np.int32]:
    """(n,) groups, below GROUPS, of devices with these ids (n, 16)."""
    *factors, addend = np.frombuffer(blake2b(key, digest_size=8 * (_WORDS + 1)).digest(), "<u8")
    words = np.ascontiguousarray(ids).view("<u4").astype(np.uint64)
    hashes = (words * np.array(factors)).sum(axis=1, dtype=np.uint64) + addend
    groups: npt.NDArray[np.int32] = (hashes >> np.uint64(64 - _GROUP_BITS)).astype(np.int32)
    return groups

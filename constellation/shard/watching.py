"""Who watches what: distinct devices by item, counted some devices at a time. Part of `shard.giving`.

A device watches an item while samples of a pattern that it has are counted for the item.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from constellation.limits import TREND_DECAY_PER_HOUR, TREND_ITEMS_PER_PARTIAL_MAX
from constellation.model import Rows
from constellation.rounds import TrendCounts
from constellation.shard.tables import Tables
from kernels import chains
from kernels.pages import lazy_zeros
from kernels.trends import HOURS


class Watching(Protocol):
    """`hour`: the last of the week that `told` tells."""

    @property
    def hour(self) -> int: ...

    def count(self, devices: Rows) -> None: ...

    def told(self) -> TrendCounts: ...


class Samples:
    """For the trends of samples: how many devices stand behind each item."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._devices = np.zeros(tables.trends.capacity, np.int64)

    @property
    def hour(self) -> int:
        return self._tables.trends.current_hour

    def count(self, devices: Rows) -> None:
        items, _ = _watched(self._tables, devices)
        np.add.at(self._devices, items, 1)

    def told(self) -> TrendCounts:
        return self._tables.trends.best(TREND_ITEMS_PER_PARTIAL_MAX, self._devices)


class Devices:
    """Instead of samples: each device once an item, in the hour of the last samples that it gave to it.

    So whoever gives as much as it may every hour weighs as much as somebody who watched once. Takes 4 bytes a cell of
    the week where something was counted.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables, self._hour = tables, tables.trends.current_hour
        items = tables.trends.capacity
        self._scores = np.zeros(items)
        self._devices = np.zeros(items, np.int64)
        self._counts = lazy_zeros((HOURS, items), np.uint32)

    @property
    def hour(self) -> int:
        """That of the beginning: what comes later counts in it, or the week would begin anew in between."""
        return self._hour

    def count(self, devices: Rows) -> None:
        items, hours = _watched(self._tables, devices)
        hours = np.minimum(hours, self._hour)
        within = hours > self._hour - HOURS
        items, hours = items[within], hours[within]
        np.add.at(self._devices, items, 1)
        np.add.at(self._counts, (hours % HOURS, items), 1)
        np.add.at(self._scores, items, TREND_DECAY_PER_HOUR ** (self._hour - hours))

    def told(self) -> TrendCounts:
        trends = self._tables.trends
        return trends.best(TREND_ITEMS_PER_PARTIAL_MAX, self._devices, self._scores, self._counts)


def _watched(tables: Tables, devices: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Items (n,) that these devices watch, one after the other, each once a device, and the hour (n,) of the last
    samples."""
    patterns = tables.patterns
    starts, rows = chains.rows_of_many(tables.devices.first, patterns.following, devices)
    owner = np.repeat(np.arange(len(devices)), np.diff(starts))
    credited = np.flatnonzero((patterns.credited_item[rows] >= 0) & (patterns.credited_samples[rows] > 0))
    rows, owner = rows[credited], owner[credited]
    items, hours = patterns.credited_item[rows].astype(np.int64), patterns.credited_hour[rows].astype(np.int64)
    order = np.lexsort((hours, items, owner))
    items, hours, owner = items[order], hours[order], owner[order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = (items[1:] != items[:-1]) | (owner[1:] != owner[:-1])
    return items[last], hours[last]

"""What a change of the tables touched, gathered into the record that is written down (`constellation.records`).

The rules note rows as they change them; `take` reads what is there afterwards. Part of `shard.shard`.
"""

from collections.abc import Iterable

import numpy as np

from constellation.model import ID_BYTES, Ids, Rows
from constellation.records import Change, Forgotten, NumberedItem, PatternKeys, PatternRows, TrendCells
from constellation.shard.content import Content
from constellation.shard.devices import Devices
from constellation.shard.patterns import Patterns
from constellation.shard.trends import Trends


class Changes:
    """Rows touched since the last `take`; each is told once, whatever happened to it."""

    def __init__(self, devices: Devices, patterns: Patterns, content: Content, trends: Trends) -> None:
        self._devices, self._patterns, self._content, self._trends = devices, patterns, content, trends
        self._device_rows: dict[int, None] = {}
        self._pattern_rows: dict[int, None] = {}
        self._gone: dict[tuple[bytes, bytes], None] = {}
        self._items: dict[int, None] = {}
        self._forgotten: list[Forgotten] = []

    @property
    def patterns_pending(self) -> bool:
        return bool(self._pattern_rows or self._gone)

    @property
    def pending(self) -> bool:
        """Was any pattern or count touched?"""
        return self.patterns_pending or self._trends.touched

    def device(self, row: int) -> None:
        self._device_rows[row] = None

    def patterns(self, rows: Iterable[int]) -> None:
        self._pattern_rows.update(dict.fromkeys(rows))

    def gone(self, row: int) -> None:
        """The pattern in this row is about to be dropped."""
        self._pattern_rows.pop(row, None)
        owner = self._devices.ids[self._patterns.devices[row]].tobytes()
        self._gone[owner, self._patterns.ids[row].tobytes()] = None

    def content(self, number: int) -> None:
        self._items[number] = None

    def forgotten(self, what: Forgotten) -> None:
        self._forgotten.append(what)

    def take(self, version: int) -> Change | None:
        """What was touched, as it is now; None if nothing was. The next one begins empty."""
        if not (self.pending or self._device_rows or self._items or self._forgotten):
            return None
        cells = self._trends.take_touched()
        change = Change(
            version=version,
            forgotten=self._forgotten,
            content=[NumberedItem(number, self._content.item(number)) for number in self._items],
            devices=self._devices.gather(np.fromiter(self._device_rows, np.int32, len(self._device_rows))),
            gone=PatternKeys(*_keys(list(self._gone))),
            patterns=self.gather_patterns(self.as_entered(np.fromiter(self._pattern_rows, np.int32))),
            trends=cells,
        )
        self._device_rows, self._pattern_rows, self._gone, self._items, self._forgotten = {}, {}, {}, {}, []
        return change

    def read(self, version: int, keys: dict[bytes, set[bytes]], titles: list[int], cells: TrendCells) -> Change:
        """What is there now of devices and their patterns by id, titles by number and cells by name and hour."""
        owners = {owner: row for owner in keys if (row := self._devices.find(owner)) >= 0}
        wanted = [(owner, pattern_id) for owner in owners for pattern_id in keys[owner]]
        ids = _keys(wanted)[1]
        devices = np.array([owners[owner] for owner, _ in wanted], np.int32)
        rows = self._patterns.find_of(devices, ids)
        return Change(
            version=version,
            forgotten=[],
            content=[NumberedItem(number, self._content.item(number)) for number in titles],
            devices=self._devices.gather(np.array(list(owners.values()), np.int32)),
            gone=PatternKeys(*_keys([key for key, row in zip(wanted, rows.tolist(), strict=True) if row < 0])),
            patterns=self.gather_patterns(self.as_entered(rows[rows >= 0])),
            trends=self._trends.read(cells.items, cells.hours),
        )

    def as_entered(self, rows: Rows) -> Rows:
        """Rows (n,) in the order in which the patterns came."""
        return rows[np.argsort(self._patterns.entered[rows], kind="stable")]

    def gather_patterns(self, rows: Rows) -> PatternRows:
        """The patterns of these rows (n,), in their order."""
        patterns = self._patterns
        return PatternRows(
            owners=self._devices.ids[patterns.devices[rows]],
            patterns=patterns.gather(rows),
            entered=patterns.entered[rows],
            versions=patterns.changed_version[rows],
            items=[self._trends.name(item) for item in patterns.credited_item[rows].tolist()],
            item_samples=patterns.credited_samples[rows],
            item_hours=patterns.credited_hour[rows],
        )


def _keys(keys: list[tuple[bytes, bytes]]) -> tuple[Ids, Ids]:
    both = np.frombuffer(b"".join(part for key in keys for part in key), np.uint8).reshape(-1, 2, ID_BYTES)
    return both[:, 0].copy(), both[:, 1].copy()

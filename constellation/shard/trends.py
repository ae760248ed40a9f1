"""What is watched in the region: new samples per item and hour, forgetting 5% an hour, best first.

An item is a content title or, where no title is close enough, a genre (`genre:<name>`). A device counts for at most
TREND_SAMPLES_PER_DEVICE_HOUR_MAX samples an hour. Reading costs the same however many items there are.
Owned by the shard. Decay: Cormode et al., Forward Decay, ICDE 2009.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from constellation.limits import (
    CONTENT_ID_BYTES_MAX,
    GENRE_TRENDS_MAX,
    TREND_DECAY_PER_HOUR,
    TRENDING_MAX,
)
from constellation.model import GENRE_PREFIX, Rows, Trend
from constellation.records import TrendCells
from constellation.rounds import GLOBAL, FederationResult, RegionTrends, TrendCounts
from constellation.shard import memory
from constellation.shard.elsewhere import Elsewhere, elsewhere
from constellation.shard.leaders import Leaders
from kernels import trends as kernel

HOUR_S = 3_600
_CELLS_AT_ONCE = 5_000


class Trends:
    """Counts for up to `items` named items. Items 0..GENRE_TRENDS_MAX-1 are genres, titles follow."""

    def __init__(self, titles: int, region: str, *, shares_own: bool = True) -> None:
        items = GENRE_TRENDS_MAX + titles
        self._counts = memory.column(kernel.HOURS, np.uint32, items)
        self._scores = memory.column(items, np.float64)
        self._live = memory.column(items, np.uint8)
        self._names: dict[int, str] = {}
        self._genres: dict[str, int] = {}
        self._titles: dict[str, int] = {}
        self._high = GENRE_TRENDS_MAX
        self._region, self._shares_own = region, shares_own
        self._robust = False
        self._hour = 0
        self._leaders = Leaders(TRENDING_MAX, 4 * TRENDING_MAX, self._values, self._best)
        self._tops: dict[str, list[Trend]] = {}
        self._fingerprints: dict[int, tuple[list[Trend], int]] = {}
        self._elsewhere: dict[str, Elsewhere] = {}
        self._own: dict[str, Rows] = {}
        self._published: dict[str, list[Trend]] = {}
        self._touched: dict[tuple[int, int], None] = {}

    def title(self, number: int, content_id: str) -> None:
        """Title `number` goes by this content id."""
        item = GENRE_TRENDS_MAX + number
        self._names[item] = content_id
        self._own.clear()
        self._titles[content_id] = item
        self._high = max(self._high, item + 1)

    @staticmethod
    def title_item(number: int) -> int:
        return GENRE_TRENDS_MAX + number

    @staticmethod
    def titles(items: Rows) -> list[int]:
        """Numbers of the titles among items (n,), each once."""
        return [int(item) - GENRE_TRENDS_MAX for item in np.unique(items[items >= GENRE_TRENDS_MAX])]

    def name(self, item: int) -> str:
        """The content id or `genre:<name>` of an item; '' for none (-1)."""
        return self._names[item] if item >= 0 else ""

    def genre_item(self, genre: str) -> int:
        """The item of a genre, or -1 when GENRE_TRENDS_MAX genres are known or the name is too long."""
        item = self._genres.get(genre)
        if item is None:
            name = GENRE_PREFIX + genre
            if len(self._genres) >= GENRE_TRENDS_MAX or len(name.encode()) > CONTENT_ID_BYTES_MAX:
                return -1
            item = self._genres[genre] = len(self._genres)
            self._names[item] = name
            self._own.clear()
        return item

    @property
    def capacity(self) -> int:
        """Items there can be."""
        return len(self._scores)

    @property
    def high(self) -> int:
        """Items lie below."""
        return self._high

    @property
    def current_hour(self) -> int:
        """The latest that `hour` saw; 0 before the first."""
        return self._hour

    def hour(self, now: float) -> int:
        """The hour of trends at `now`, after letting time pass; a clock that steps back does not turn it back."""
        hour = int(now) // HOUR_S
        if not self._hour:
            self._hour = hour  # nothing was counted yet, so nothing fades
        elif hour > self._hour:
            kernel.roll_hours(self._counts, self._scores, self._high, self._hour, hour, TREND_DECAY_PER_HOUR)
            self._leaders.scale(TREND_DECAY_PER_HOUR ** min(hour - self._hour, kernel.HOURS))
            self._hour = hour
            self._tops.clear()
        return self._hour

    def credit(self, item: int, samples: int) -> int:
        """Count samples for the item in the current hour; how many were taken."""
        taken = int(kernel.credit(self._counts, self._scores, item, self._hour, samples))
        self._live[item] = 1
        self._note(item, self._hour)
        return taken

    def credit_in(self, hour: int, item: int, samples: int) -> None:
        """Count samples for the item that were new in an earlier hour."""
        hour = min(hour, self._hour)
        if hour <= self._hour - kernel.HOURS:
            return
        cell = hour % kernel.HOURS, item
        self._counts[cell] = min(kernel.COUNT_MAX, int(self._counts[cell]) + samples)
        kernel.recompute_scores(self._counts, self._scores, item, item + 1, self._hour, TREND_DECAY_PER_HOUR)
        self._live[item] = 1
        self._note(item, hour)

    def debit(self, item: int, samples: int, last_hour: int) -> None:
        """Take back samples that a forgotten device was credited with, the last of them at last_hour."""
        before = self._counts[:, item].copy()
        kernel.debit(self._counts, self._scores, item, samples, self._hour, last_hour, TREND_DECAY_PER_HOUR)
        for line in np.flatnonzero(before != self._counts[:, item]).tolist():
            self._note(item, self._hour - (self._hour - line) % kernel.HOURS)

    def top(self, limit: int, region: str | None = None) -> list[Trend]:
        """The best items of a region, or of all (GLOBAL), best first; without one of this shard's own.

        As the last round published them; of a region with this shard with what was counted here since, if that is told
        and was counted in the same way.
        """
        region = region or self._region
        if region not in self._tops:
            mine = self._shares_own and not self._robust and region in (self._region, GLOBAL)
            self._tops[region] = self._read(region) if mine else self._published.get(region, [])
        return self._tops[region][:limit]

    def fingerprint(self, limit: int) -> int:
        """64 bits of `top(limit)`; as that is the same for many answers, computed once for all of them."""
        trends = self.top(limit)
        whole = self._tops[self._region]
        known, fingerprint = self._fingerprints.get(limit, (None, 0))
        if known is not whole:
            fingerprint = hash(tuple(trends))
            self._fingerprints[limit] = whole, fingerprint
        return fingerprint

    def publish(self, result: FederationResult, given: TrendCounts, given_hour: int) -> None:
        """Take a round over, to which this shard gave `given` of the week to `given_hour`."""
        self._robust = result.robust
        self._published = {of.region: _as_published(of) for of in result.trends}
        self._elsewhere = {
            of.region: elsewhere(of, result.hour, given, given_hour)
            for of in result.trends
            if of.region in (self._region, GLOBAL)
        }
        self._own.clear()
        self._tops.clear()

    @property
    def touched(self) -> bool:
        return bool(self._touched)

    def take_touched(self) -> TrendCells:
        """The counts that changed since the last call, as they are now."""
        touched, self._touched = self._touched, {}
        hours = np.array([hour for _, hour in touched], np.uint32)
        return self.read([self._names[item] for item, _ in touched], hours)

    def read(self, names: list[str], hours: npt.NDArray[np.uint32]) -> TrendCells:
        """The counts of items by name, each in an hour; 0 where that hour has left the week."""
        items = np.array([self._item(name) for name in names], np.int64)
        counts = self._counts[hours % kernel.HOURS, items]
        counts[hours.astype(np.int64) <= self._hour - kernel.HOURS] = 0
        return TrendCells(names, hours, counts)

    def cells(self) -> Iterator[TrendCells]:
        """Every count that is not 0, some at a time; counts may change in between."""
        for hour in range(self._hour - kernel.HOURS + 1, self._hour + 1):
            items = np.flatnonzero(self._counts[hour % kernel.HOURS, : self._high]).tolist()
            for start in range(0, len(items), _CELLS_AT_ONCE):
                some = items[start : start + _CELLS_AT_ONCE]
                yield self.read([self._names[item] for item in some], np.full(len(some), hour, np.uint32))

    def best(
        self,
        most: int,
        devices: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float64] | None = None,
        counts: npt.NDArray[np.uint32] | None = None,
    ) -> TrendCounts:
        """The week of up to so many items with the highest scores, in no order; 2 ms for 5,000.

        By item: devices (n,), and scores (n,) and counts (168, n), those of samples where none are given.
        """
        scores = self._scores if scores is None else scores
        counts = self._counts if counts is None else counts
        items = np.flatnonzero(scores[: self._high])
        if len(items) > most:
            items = np.sort(items[np.argpartition(-scores[items], most)[:most]])
        return TrendCounts([self._names[item] for item in items.tolist()], devices[items], counts[:, items])

    def restore(self, cells: TrendCells) -> None:
        """Set counts; scores are wrong until `rescore`."""
        if not len(cells):
            return
        items = np.array([self._item(name) for name in cells.items], np.int64)
        hours = cells.hours.astype(np.int64)
        self.hour(float(hours.max() * HOUR_S))
        within = hours > self._hour - kernel.HOURS
        self._counts[hours[within] % kernel.HOURS, items[within]] = cells.counts[within]
        self._live[items] = 1

    def rescore(self) -> None:
        """Compute every score anew from the counts."""
        kernel.recompute_scores(self._counts, self._scores, 0, self._high, self._hour, TREND_DECAY_PER_HOUR)
        self._leaders.refill()
        self._tops.clear()

    def item_named(self, name: str) -> int:
        """The item of a name as `name` gives it; -1 for '' and for a genre too many. A title must be known."""
        return self._item(name) if name else -1

    def _item(self, name: str) -> int:
        if name.startswith(GENRE_PREFIX):
            return self.genre_item(name.removeprefix(GENRE_PREFIX))
        return self._titles[name]

    def _note(self, item: int, hour: int) -> None:
        self._touched[item, hour] = None
        self._leaders.changed(item, float(self._scores[item]))
        self._tops.clear()

    def _read(self, region: str) -> list[Trend]:
        """Own items at the top, and every item of the others: none else can be among the best of both together."""
        items = self._leaders.top(TRENDING_MAX)
        names, scores = [self._names[item] for item in items.tolist()], self._scores[items]
        if other := self._elsewhere.get(region):
            own = self._own_items(region, other.items)
            alone = np.flatnonzero(~np.isin(items, own))
            both = other.at(self._hour)
            both += np.where(own >= 0, self._scores[own], 0.0)
            scores = np.concatenate((both, scores[alone]))
            best = np.argsort(-scores, kind="stable")[:TRENDING_MAX]
            best = best[scores[best] > 0]
            every = [*other.items, *(names[i] for i in alone.tolist())]
            names, scores = [every[i] for i in best.tolist()], scores[best]
        highest = float(scores[0]) if len(scores) else 1.0
        return [
            Trend(name, round(score / highest, 6), region) for name, score in zip(names, scores.tolist(), strict=True)
        ]

    def _own_items(self, region: str, names: list[str]) -> Rows:
        """Items (n,) of what the others of a region counted, -1 for one without a name here; kept until it gets one."""
        if region not in self._own:
            numbers = {name: item for item, name in self._names.items()}
            self._own[region] = np.array([numbers.get(name, -1) for name in names], np.int32)
        return self._own[region]

    def _values(self, items: Rows) -> npt.NDArray[np.float64]:
        scores = self._scores[items]
        return np.where(scores > 0, scores, -np.inf)

    def _best(self, k: int) -> Rows:
        best: Rows = kernel.top_k(self._scores[: self._high], self._live[: self._high], k)
        return best


def _as_published(of: RegionTrends) -> list[Trend]:
    best = zip(of.items[:TRENDING_MAX], of.scores.tolist(), strict=False)
    return [Trend(item, round(score, 6), of.region) for item, score in best]

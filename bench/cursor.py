"""What does a household's day of syncs bring down, and what does it cost the shard to know what changed?

Some households sync every ten minutes for a day. Meanwhile all others do, too: of each ten minutes' syncs 96% bring
nothing, 3% an update, 1% a new pattern in place of the household's oldest. The client puts together what every reply
says and checks its digest. Bytes are those of the compressed body.
"""

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

from bench import workload
from bench.loaded import Loaded, load_anew
from bench.plan import Answers, Note, Plan, Timings, tracked
from bench.report import Row, Yardstick, at_most
from bench.workload import Part
from constellation.client.received import Received
from constellation.limits import NEXT_SYNC_AFTER_S, NEXT_SYNC_WITHIN_S
from constellation.model import Answer, Applied, ContentItem, Ids, NextSync, SyncRequest
from constellation.shard.cursors import BYTES_PER_CURSOR, Cursors
from constellation.wire.body import compress
from constellation.wire.media import Media
from constellation.wire.reply import decode_reply
from constellation.wire.sync import encode_sync

ROUNDS = 144
"""Of ten minutes."""
ROUND_S = 600
UPDATE_SHARE, NEW_SHARE = 0.03, 0.01
LOST_SHARE = 0.01
WATCHED_MAX = 50
TITLES_MAX = 5_000
CURSOR_US_MAX = 50.0


class Day:
    """The households of a shard, as they sync."""

    def __init__(self, plan: Plan) -> None:
        self.loaded: Loaded = load_anew(plan)
        self.now = self.loaded.now
        self._rng = plan.rng("cursor")
        self._part: Part = workload.load_library(plan.patterns, plan.seed).known
        households = self.loaded.households
        self._own = [deque(map(bytes, households.ids[households.rows_of(i)])) for i in range(len(households))]
        films = self._rng.permutation(len(self._part.vectors))[: min(TITLES_MAX, plan.content_items)]
        for film, code in zip(films.tolist(), self._part.patterns(films.astype(np.int32), self._rng), strict=True):
            self.loaded.shard.put_content(ContentItem(f"tt{film:07}", f"Title {film}", code, None), self.now)
            self._maintain()

    def sync(self, household: int) -> Applied:
        """What it learned since the last time."""
        applied = self.loaded.shard.apply(self.request(household), self.now)
        self._maintain()
        return applied

    def others(self, watched: int) -> None:
        """Ten minutes pass, in which all but the first `watched` households sync. An empty sync changes nothing."""
        self.now += ROUND_S
        busy = np.flatnonzero(self._rng.random(len(self._own)) < UPDATE_SHARE + NEW_SHARE)
        for household in busy[busy >= watched].tolist():
            self.loaded.shard.apply(self._learned(household), self.now)
            self._maintain()

    def request(self, household: int) -> SyncRequest:
        """What it has to tell."""
        if self._rng.random() < UPDATE_SHARE + NEW_SHARE:
            return self._learned(household)
        return workload.make_request(self.device(household), workload.no_patterns(), workload.no_updates())

    def _learned(self, household: int) -> SyncRequest:
        own, device = self._own[household], self.device(household)
        if self._rng.random() * (UPDATE_SHARE + NEW_SHARE) < UPDATE_SHARE:
            chosen = own[int(self._rng.integers(len(own)))]
            return workload.make_request(device, workload.no_patterns(), workload.make_updates(_ids(chosen), self._rng))
        films = self._rng.choice(self.loaded.households.films[household], 1)
        new = self._rng.bytes(16)
        batch = workload.make_batch(_ids(new), self._part.patterns(films, self._rng), self._rng)
        request = workload.make_request(device, batch, workload.no_updates())
        own.append(new)
        request.delta.removed = _ids(own.popleft())
        return request

    def device(self, household: int) -> bytes:
        device_id: bytes = self.loaded.households.device_ids[household].tobytes()
        return device_id

    def _maintain(self) -> None:
        while self.loaded.shard.maintain():
            pass


def measure(plan: Plan) -> Answers:
    day = Day(plan)
    watched = min(plan.queries, WATCHED_MAX, len(day.loaded.households) // 2)
    have = [Received() for _ in range(watched)]
    rng = plan.rng("lost")
    cold: list[int] = []
    warm: list[int] = []
    without_trends: list[int] = []
    told = Counter[str]()
    telling, answering = Timings(time.thread_time), Timings(time.thread_time)
    with _timing(telling):
        for _ in tracked(range(ROUNDS), "a day of syncs"):
            day.others(watched)
            for household, received in enumerate(have):
                applied = day.sync(household)
                answer = answering.measure(
                    day.loaded.shard.answer, day.device(household), workload.EVERYTHING, received.version
                )
                (cold if received.version is None else warm).append(_bytes(answer, applied))
                _count(told, answer, received.version is None)
                answer.trending = None
                without_trends.append(_bytes(answer, applied))
                if rng.random() >= LOST_SHARE:
                    received.take(decode_reply(_body(answer, applied), Media.MSGPACK))
    whole = Yardstick("the whole list", float(np.median(cold)))
    unchanged = told["unchanged"] / len(warm)
    yield Row(
        name="warm reply, i8 in msgpack: median",
        value=float(np.median(warm)),
        unit="B",
        quality=f"p95 {np.quantile(warm, 0.95):,.0f} B; list unchanged in {unchanged:.0%}, whole in {told['whole']}; "
        f"every digest of {len(warm):,} holds",
        yardstick=whole,
    )
    yield Row(
        name="warm reply, i8 in msgpack: mean",
        value=float(np.mean(warm)),
        unit="B",
        quality=f"a reply: {told['new'] / len(warm):.2f} new, {told['revised'] / len(warm):.2f} revised, "
        f"{told['gone'] / len(warm):.2f} gone",
        yardstick=whole,
    )
    patterns_alone = np.array(without_trends[watched:])
    yield Row(
        name="the same without trends: mean",
        value=float(patterns_alone.mean()),
        unit="B",
        quality=f"median {np.median(patterns_alone):,.0f} B; trends are others in {told['trends'] / len(warm):.0%}",
        yardstick=whole,
    )
    yield Row(
        name="knowing what changed: CPU, p50",
        value=telling.p50 * 1e3,
        unit="us",
        quality=f"p99 {telling.p99 * 1e3:.0f} us",
        yardstick=Yardstick("the whole answer", answering.p50 * 1e3),
        target=at_most(CURSOR_US_MAX),
    )
    yield Row(
        name="memory of a device that is remembered",
        value=float(BYTES_PER_CURSOR),
        unit="B",
        quality="two lists of 100, whatever they have in common",
    )
    yield Note(f"{watched} households, {ROUNDS} syncs each; {LOST_SHARE:.0%} of the replies are lost")


def _count(told: Counter[str], answer: Answer, cold: bool) -> None:
    if cold:
        return
    told["whole"] += answer.reset
    told["unchanged"] += not (len(answer.similar) or len(answer.gone))
    told["new"] += int(answer.whole.sum())
    told["revised"] += int((~answer.whole).sum())
    told["gone"] += len(answer.gone)
    told["trends"] += answer.trending is not None


@contextmanager
def _timing(timings: Timings) -> Iterator[None]:
    tell = Cursors.tell
    with patch.object(Cursors, "tell", lambda *arguments: timings.measure(tell, *arguments)):
        yield


def _bytes(answer: Answer, applied: Applied) -> int:
    return len(compress(_body(answer, applied)))


def _body(answer: Answer, applied: Applied) -> bytes:
    return encode_sync(answer, applied, NextSync(NEXT_SYNC_AFTER_S, NEXT_SYNC_WITHIN_S), Media.MSGPACK, "i8")


def _ids(one: bytes) -> Ids:
    return np.frombuffer(bytearray(one), np.uint8).reshape(1, -1)

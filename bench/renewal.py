"""What does a sync cost of a device that is known, stage by stage, and is its list still true after a day of them?

Some households sync every ten minutes for a day, as in `bench.cursor`; nearly always their lists are brought up to date
instead of sought. Times are CPU. In the end each list is held against an exact search, and so is what a search of the
index finds then: a list that is only ever brought up to date must not be worse. A whole shard's devices send forty
thousand patterns in ten minutes; how many of those that matter are seen among so many is
told apart.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

from bench import workload
from bench.cursor import Day
from bench.plan import Answers, Plan, Timings, tracked
from bench.report import Row, Target, Yardstick
from constellation.limits import NEXT_SYNC_AFTER_S, NEXT_SYNC_WITHIN_S
from constellation.model import NextSync, Rows, SyncRequest
from constellation.shard import Shard
from constellation.shard.rankings import Rankings
from constellation.wire.body import compress, unpack
from constellation.wire.dictionary import newest
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta
from constellation.wire.sync import decode_sync, encode_sync
from kernels.arrivals import ROW, empty_arrivals, likely, note
from kernels.rankings import SCORED, SEEN, Asked
from kernels.scan import scan_all_top_k, scan_top_k

ROUNDS = 144
WATCHED_MAX = 50
BODY_BYTES_MAX = 1 << 20
RATIO_MAX = 0.5
"""Of a sync of a known device to one that is sought for."""
RECALL_LOST_MAX = 0.005
ARRIVALS = 40_000
NEAREST = 10
"""Of so many arrivals those that a list could have to take in."""

_NEXT = NextSync(NEXT_SYNC_AFTER_S, NEXT_SYNC_WITHIN_S)
_STAGES = ("decode", "apply", "answer", "encode")


class Costs:
    """CPU of each stage by how the answer was made."""

    def __init__(self) -> None:
        self.by_way: dict[str, dict[str, Timings]] = defaultdict(
            lambda: {stage: Timings(time.thread_time) for stage in (*_STAGES, "all")}
        )
        self.renewed = False

    def sync(self, shard: Shard, body: bytes, now: float) -> int:
        """One sync as the API does it, after the body came and before the reply goes; the version."""
        clock = time.thread_time
        at = [clock()]
        asked = decode_sync(unpack(body, "zstd", BODY_BYTES_MAX).content, Media.MSGPACK)
        at.append(clock())
        applied = shard.apply(asked, now)
        at.append(clock())
        answer = shard.answer(asked.device_id, workload.EVERYTHING, asked.delta.local_version)
        at.append(clock())
        compress(encode_sync(answer, applied, _NEXT, Media.MSGPACK, "i8"), newest())
        at.append(clock())
        way = "whole" if answer.reset else "renewed" if self.renewed else "sought"
        for stage, start, stop in zip((*_STAGES, "all"), (*at[:-1], at[0]), (*at[1:], at[-1]), strict=True):
            self.by_way[way][stage].ms.append((stop - start) * 1e3)
        return answer.global_version

    @contextmanager
    def watching(self) -> Iterator[None]:
        renewed = Rankings.renewed

        def watched(rankings: Rankings, place: int, device: int, k: int) -> Rows | None:
            rows = renewed(rankings, place, device, k)
            self.renewed = rows is not None
            return rows

        with patch.object(Rankings, "renewed", watched):
            yield


def measure(plan: Plan) -> Answers:
    day, costs = Day(plan), Costs()
    watched = min(plan.queries, WATCHED_MAX, len(day.loaded.households) // 2)
    versions: list[int | None] = [None] * watched
    rounds = ROUNDS if plan.queries > watched else 3
    with costs.watching():
        for _ in tracked(range(rounds), "a day of syncs"):
            day.others(watched)
            for household in range(watched):
                request = day.request(household)
                request.delta.local_version = versions[household]
                versions[household] = costs.sync(day.loaded.shard, _body(request), day.now)
    yield from _cost_rows(costs)
    yield from _recall_rows(day, watched)
    yield _arrivals_row(plan, day)


def _body(request: SyncRequest) -> bytes:
    return compress(encode_delta(request.device_id, request.delta, Media.MSGPACK, "i8"), newest())


def _cost_rows(costs: Costs) -> Answers:
    first, sought, renewed = (costs.by_way[way] for way in ("whole", "sought", "renewed"))
    yardstick = Yardstick("a first sync", first["all"].p50 * 1e3)
    for name, stages, target in (
        ("a sync whose list is brought up to date: CPU, p50", renewed, Target("<=", RATIO_MAX, of="ratio")),
        ("one whose list is sought: CPU, p50", sought, None),
    ):
        if stages["all"].ms:
            told = ", ".join(f"{stage} {stages[stage].p50 * 1e3:.0f}" for stage in _STAGES)
            yield Row(
                name=name,
                value=stages["all"].p50 * 1e3,
                unit="us",
                quality=f"{told}; mean {stages['all'].mean * 1e3:.0f} us",
                yardstick=yardstick,
                target=target,
            )
    share = len(renewed["all"].ms) / (len(renewed["all"].ms) + len(sought["all"].ms))
    yield Row(
        name="of the syncs after the first, brought up to date",
        value=100 * share,
        unit="%",
        quality="96% bring nothing, 3% an update, 1% a new one",
    )


def _recall_rows(day: Day, watched: int) -> Answers:
    """Of what is most similar to each interest, how much is in the list, and how much a search finds."""
    kept, found = [], []
    for household in range(watched):
        for i, (asked, exact, ranking) in enumerate(_rankings(day.loaded.shard, day.device(household))):
            part = int(asked.parts[i])
            rows, _ = day.loaded.shard._index.search(asked.queries[i], part, spare=workload.PATTERNS_A_DEVICE)
            sought = rows[day.loaded.shard._patterns.devices[rows] != asked.device][:part]
            kept.append(len(np.intersect1d(ranking[:part], exact)) / part)
            found.append(len(np.intersect1d(sought, exact)) / part)
    yield Row(
        name="recall of the lists after the day",
        value=float(np.mean(kept)),
        unit="",
        quality=f"the least of an interest {min(kept):.2f}, that a search finds {min(found):.2f}",
        yardstick=Yardstick("of a search then", float(np.mean(found))),
        target=Target(">=", 1 - RECALL_LOST_MAX, of="ratio"),
    )


def _rankings(shard: Shard, device_id: bytes) -> Iterator[tuple[Asked, Rows, Rows]]:
    """For each interest of a device: the question, what answers it exactly, and what is remembered of it."""
    device = shard._devices.find(device_id)
    asked, own = shard._asking._interests.ask(device, workload.EVERYTHING.similar)
    patterns, rankings, place = shard._patterns, shard._tables.rankings, shard._cursors.place(device)
    served = (shard._index.home > 0).astype(np.uint8)
    at = 0
    for i, part in enumerate(asked.parts.tolist()):
        best, _ = scan_all_top_k(
            *(patterns.codes, patterns.inverse, served, 0, patterns.rows.high),
            *(asked.queries[i], asked.inverse[i], part + own),
        )
        size, told = rankings._sizes[place, : 2 * len(asked.parts)].reshape(2, -1)[:, i].tolist()
        yield asked, best[patterns.devices[best] != device][:part], rankings._rows[place, at : at + size]
        at += size + told


def _arrivals_row(plan: Plan, day: Day) -> Row:
    """So many come as a whole shard's devices send in ten minutes; households ask what of it is theirs."""
    shard, rng = day.loaded.shard, plan.rng("arrivals")
    index, patterns = shard._index, shard._patterns
    rows = rng.choice(np.flatnonzero(index.home > 0), min(ARRIVALS, len(index)), replace=False).astype(np.int32)
    came = empty_arrivals(1 << ARRIVALS.bit_length(), len(patterns.codes), index.arrivals.points)
    for row, sketch in zip(rows.tolist(), index.sketches(patterns.codes[rows], patterns.inverse[rows]), strict=True):
        note(came, row, sketch)
    seeing, shares = Timings(time.thread_time), []
    for household in rng.choice(len(day.loaded.households), min(plan.queries, len(day.loaded.households))).tolist():
        device = shard._devices.find(day.device(household))
        asked, _ = shard._asking._interests.ask(device, workload.EVERYTHING.similar)
        for query, norm, sketch in zip(asked.queries, asked.inverse, asked.sketches, strict=True):
            slots = seeing.measure(likely, came, sketch, 1, SEEN, SCORED)
            nearest, _ = scan_top_k(patterns.codes, patterns.inverse, rows, query, norm, NEAREST)
            shares.append(len(np.intersect1d(came.words[slots, ROW], nearest)) / NEAREST)
    return Row(
        name=f"seeing what is near among {len(rows):,} that came: CPU, p50",
        value=seeing.p50 * 1e3,
        unit="us",
        quality=f"{np.mean(shares):.3f} of the nearest {NEAREST} seen; an interest",
    )

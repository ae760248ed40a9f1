"""How many bytes does a TV send, and what does the dictionary cost?

Deltas as the client makes them, of films that the dictionary was not trained on: patterns of a film and its neighbours
with that film's genres, ids and moments drawn at random, success rates as so many of so many were liked. Beside each is
the same without a dictionary. Times are of the CPU.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench import workload
from bench.plan import Answers, Plan, Timings, tracked
from bench.report import Row, Target, Yardstick, at_most
from bench.workload import Part
from constellation.client.learned import Learned, Pattern
from constellation.codebook import STAMP_BYTES
from constellation.fleet.films import DAYS_OF_WEEK, TIMES_OF_DAY
from constellation.limits import SIMILAR_MAX
from constellation.model import ID_BYTES, Accepted, Answer, Applied, Context, NextSync, PatternBatch, Quantised
from constellation.residuals import TABLES
from constellation.wire.body import compress, unpack
from constellation.wire.dictionary import NO_DICTIONARY, newest
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta
from constellation.wire.sync import encode_sync

DELTA_BYTES_MAX = 1_024
UPDATE_BYTES_MAX = 32
NEW_PATTERNS = 2
UPDATES_MAX = 3
ROUNDS = 9
SIMILAR = 5
LONG_REPLIES = 20
CONTENT_TYPES = ("movie", "series")

_WAYS = newest(), NO_DICTIONARY


class Told(NamedTuple):
    """Bodies in msgpack of n TVs, each: two new patterns, then nothing new, then one to three updates."""

    added: list[bytes]
    nothing: list[bytes]
    updated: list[bytes]
    updates: list[int]


def measure(plan: Plan) -> Answers:
    rng = plan.rng("upload")
    part = workload.load_library(plan.patterns, plan.seed).unseen
    told = tell(part, 4 * plan.queries, rng)
    added, plain = _sizes(told.added, newest()), _sizes(told.added, NO_DICTIONARY)
    yield Row(
        name=f"a delta with {NEW_PATTERNS} new patterns: the longest",
        value=float(added.max()),
        unit="B",
        quality=f"of {len(added):,}: median {np.median(added):.0f}, p99 {np.quantile(added, 0.99):.0f}",
        yardstick=Yardstick("without a dictionary", float(plain.max())),
        target=at_most(DELTA_BYTES_MAX),
        gate=at_most(DELTA_BYTES_MAX),
    )
    nothing, without = _sizes(told.nothing, newest()), _sizes(told.nothing, NO_DICTIONARY)
    each, each_plain = (
        (_sizes(told.updated, way) - base) / told.updates
        for way, base in ((newest(), nothing), (NO_DICTIONARY, without))
    )
    yield Row(
        name="an update in a delta: the most it adds",
        value=float(each.max()),
        unit="B",
        quality=f"of {sum(told.updates):,} in deltas of 1 to {UPDATES_MAX}: median {np.median(each):.1f}",
        yardstick=Yardstick("without a dictionary", float(each_plain.max())),
        target=at_most(UPDATE_BYTES_MAX),
        gate=at_most(UPDATE_BYTES_MAX),
    )
    yield Row(
        name="a delta with nothing new: the longest",
        value=float(nothing.max()),
        unit="B",
        quality=f"median {np.median(nothing):.0f}",
        yardstick=Yardstick("without a dictionary", float(without.max())),
    )
    replies = [_reply(part, SIMILAR, rng) for _ in range(len(told.added))]
    yield _at_the_shard(told.added, replies)
    for name, bodies in (
        (f"a delta with {NEW_PATTERNS} new patterns", told.added),
        ("a delta with nothing new", told.nothing),
        (f"a compact reply with {SIMILAR} new patterns", replies),
        ("a compact reply with nothing new", [_reply(part, 0, rng) for _ in range(plan.queries)]),
        (f"a reply with {SIMILAR_MAX} int8 patterns", [_reply(part, SIMILAR_MAX, rng, compact=False)] * LONG_REPLIES),
    ):
        yield from _costs(name, bodies)


def tell(part: Part, tvs: int, rng: np.random.Generator) -> Told:
    """What so many TVs tell a shard."""
    told = Told([], [], [], [])
    for _ in tracked(range(tvs), "learning"):
        device_id, learned, keys = rng.bytes(ID_BYTES), Learned(), [rng.bytes(ID_BYTES) for _ in range(UPDATES_MAX)]
        sequence = int(rng.integers(1_750_000_000_000, 1_800_000_000_000))
        for key, pattern in zip(keys, _patterns(part, UPDATES_MAX, rng), strict=True):
            learned.put(key, pattern)
        told.added.append(_delta(device_id, learned, sequence, NEW_PATTERNS))
        learned.settle(learned.changes(), rejected=0)
        told.nothing.append(_delta(device_id, learned, sequence, NEW_PATTERNS))
        updates = int(rng.integers(1, UPDATES_MAX, endpoint=True))
        for key in keys[:updates]:
            samples = int(rng.integers(1, 20))
            learned.observe(key, int(rng.integers(0, samples, endpoint=True)) / samples, samples, sequence // 1_000)
            learned.patterns[key].rate = max(0.7, learned.patterns[key].rate)
        told.updated.append(_delta(device_id, learned, sequence, NEW_PATTERNS))
        told.updates.append(updates)
    return told


def _delta(device_id: bytes, learned: Learned, sequence: int, added_max: int) -> bytes:
    delta = learned.delta(learned.changes(added_max), sequence * 1_000 + 123, sequence)
    return encode_delta(device_id, delta, Media.MSGPACK, "i8")


def _patterns(part: Part, count: int, rng: np.random.Generator) -> list[Pattern]:
    films = part.draw(count, rng)
    counts = rng.integers(10, 400, count)
    liked = np.ceil(counts * rng.uniform(0.7, 1.0, count))
    made_s = rng.integers(1_750_000_000, 1_800_000_000, count)
    return [
        Pattern(code, likes / samples, samples, _context(part, film, rng), at_s, at_s + 86_400)
        for code, film, likes, samples, at_s in zip(
            part.patterns(films, rng), films, liked.tolist(), counts.tolist(), made_s.tolist(), strict=True
        )
    ]


def _context(part: Part, film: int, rng: np.random.Generator) -> Context:
    time_of_day, day_of_week, content_type = (
        str(rng.choice(words)) for words in (TIMES_OF_DAY, DAYS_OF_WEEK, CONTENT_TYPES)
    )
    return Context(time_of_day, day_of_week, content_type, part.hints[film])


def _reply(part: Part, similar: int, rng: np.random.Generator, *, compact: bool = True) -> bytes:
    """To a device whose cursor is known; of the residuals only that they do not compress counts here."""
    version = int(rng.integers(1_750_000_000_000_000, 1_800_000_000_000_000))
    numbers = rng.integers(0, 1_024, similar, np.int32)
    quantised = Quantised(rng.bytes(STAMP_BYTES), numbers, rng.integers(0, 256, (similar, TABLES), np.uint8))
    answer = Answer(
        similar=_batch(part, similar, rng),
        trending=None,
        global_version=version,
        digest=rng.bytes(8).hex(),
        reset=False,
        handles=rng.permutation(SIMILAR_MAX)[:similar].astype(np.uint8),
        whole=np.ones(similar, np.bool_),
        gone=np.empty(0, np.uint8),
        removed=np.empty((0, ID_BYTES), np.uint8),
        quantised=quantised if compact else None,
    )
    applied = Applied(Accepted(), version // 1_000, version)
    return encode_sync(answer, applied, NextSync(300, 600), Media.MSGPACK, "compact" if compact else "i8")


def _batch(part: Part, count: int, rng: np.random.Generator) -> PatternBatch:
    learned = Learned()
    for pattern in _patterns(part, count, rng):
        learned.put(rng.bytes(ID_BYTES), pattern)
    return learned.delta(learned.changes(count), None, 1).added


def _sizes(bodies: Sequence[bytes], dictionary: int) -> npt.NDArray[np.int64]:
    return np.array([len(compress(body, dictionary)) for body in bodies])


def _at_the_shard(deltas: Sequence[bytes], replies: Sequence[bytes]) -> Row:
    """Decompress each delta and compress its reply."""
    frames = {way: [compress(body, way) for body in deltas] for way in _WAYS}
    timings = {way: Timings(time.thread_time) for way in _WAYS}
    for _ in range(ROUNDS):
        for way, timing in timings.items():
            timing.measure(_serve, frames[way], replies, way)
    with_us, without_us = (timings[way].p50 / len(deltas) * 1e3 for way in _WAYS)
    return Row(
        name=f"a sync at the shard, {NEW_PATTERNS} new patterns up and {SIMILAR} down: CPU",
        value=with_us,
        unit="us",
        quality="decompress the delta, compress the compact reply",
        yardstick=Yardstick("without a dictionary", without_us),
        target=Target("<=", 1.0, "ratio"),
    )


def _serve(frames: Sequence[bytes], replies: Sequence[bytes], dictionary: int) -> None:
    _decompress(frames)
    _compress(replies, dictionary)


def _costs(name: str, bodies: Sequence[bytes]) -> Answers:
    """Both ways, in turns with what they are measured against, so that both meet the same machine."""
    frames = {way: [compress(body, way) for body in bodies] for way in _WAYS}
    compressing, decompressing = ({way: Timings(time.thread_time) for way in _WAYS} for _ in range(2))
    for _ in range(ROUNDS):
        for way in _WAYS:
            compressing[way].measure(_compress, bodies, way)
            decompressing[way].measure(_decompress, frames[way])
    for what, timings in (("compress", compressing), ("decompress", decompressing)):
        with_us, without_us = (timings[way].p50 / len(bodies) * 1e3 for way in _WAYS)
        yield Row(
            name=f"{what} {name}: CPU",
            value=with_us,
            unit="us",
            quality=f"{np.mean([len(frame) for frame in frames[newest()]]):.0f} B, "
            f"{np.mean([len(frame) for frame in frames[NO_DICTIONARY]]):.0f} without",
            yardstick=Yardstick("without a dictionary", without_us),
        )


def _compress(bodies: Sequence[bytes], dictionary: int) -> None:
    for body in bodies:
        compress(body, dictionary)


def _decompress(frames: Sequence[bytes]) -> None:
    for frame in frames:
        unpack(frame, "zstd", 1 << 20)

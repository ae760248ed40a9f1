"""What a shard gives to a federation round, made in steps between which the shard goes on. Part of `shard.shard`.

The sums of the buckets are of one moment, and so are the trends. Context strings are read over many steps and are of
moments in between: counts of many devices, of which a few have changed.
"""

import itertools
from collections import Counter
from collections.abc import Generator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.limits import CONTEXT_STRINGS_MAX
from constellation.model import Rows
from constellation.rounds import (
    CONTENT_TYPE,
    DAY_OF_WEEK,
    GENRE_HINT,
    TIME_OF_DAY,
    BucketSums,
    ContextCounts,
    GroupMeans,
    TrendCounts,
)
from constellation.shard.buckets import Buckets
from constellation.shard.contexts import WORDS, ContextTable
from constellation.shard.groups import Groups, NoGroups
from constellation.shard.tables import Tables
from constellation.shard.watching import Devices, Samples, Watching

_PATTERNS_PER_STEP = 500
_LINES_PER_STEP = 1_000
_PLACES = np.array([TIME_OF_DAY, DAY_OF_WEEK, CONTENT_TYPE] + [GENRE_HINT] * (WORDS - 3))
_WORD_BITS, _PLACE_BITS, _BUCKET_BITS = 16, 2, 24
"""Of one number for owner, bucket, place and word: sorting numbers is ten times as fast as sorting rows of four."""
_WITHOUT_OWNER = (1 << _WORD_BITS + _PLACE_BITS + _BUCKET_BITS) - 1

assert CONTEXT_STRINGS_MAX <= 1 << _WORD_BITS and max(_PLACES) < 1 << _PLACE_BITS

Contexts = Counter[tuple[int, int, str]]
"""Devices by bucket, place and string."""
Counts = npt.NDArray[np.int64]


class Given(NamedTuple):
    """`rounds.Partial` without what says of which shard and round it is."""

    hour: int
    buckets: BucketSums
    contexts: ContextCounts
    trends: TrendCounts
    devices: int
    groups: GroupMeans


def give(tables: Tables, buckets: Buckets, group_key: bytes) -> Generator[None, None, Given]:
    """What the devices give under one codebook; each step takes about 1 ms.

    With a group key, as a robust round has one: groups, and trends of devices instead of samples.
    """
    sums = buckets.sums()
    devices = int(np.count_nonzero(tables.devices.patterns[: tables.devices.rows.high]))
    yield
    contexts: Contexts = Counter()
    groups = Groups(tables, buckets, group_key) if group_key else NoGroups()
    watching: Watching = Devices(tables) if group_key else Samples(tables)
    start = 0
    while start < tables.devices.rows.high:
        stop = tables.devices.run(start, _PATTERNS_PER_STEP)
        some = np.arange(start, stop, dtype=np.int32)
        starts, rows = buckets.counted(some)
        _count_contexts(contexts, tables, buckets.of(rows), starts, rows, buckets.bounds.strings)
        watching.count(some)
        groups.count(some, starts, rows)
        start = stop
        yield
    means = yield from groups.means()
    told = yield from _columns(contexts)
    return Given(watching.hour, sums, told, watching.told(), devices, means)


def _count_contexts(
    contexts: Contexts, tables: Tables, buckets: Rows, starts: npt.NDArray[np.int64], rows: Rows, strings_max: int
) -> None:
    """Count each device once for each string that a pattern of it has in a place in a bucket, up to so many there.

    rows (n,) of patterns in buckets (n,), device by device from starts on.
    """
    patterns = tables.patterns
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    words = patterns.words[rows]
    pattern, column = np.nonzero(words)
    where = (owner[pattern] << _BUCKET_BITS | buckets[pattern]) << _PLACE_BITS | _PLACES[column]
    once, patterns_of = np.unique(where << _WORD_BITS | words[pattern, column], return_counts=True)
    told = once[_ranks(once, patterns_of, patterns.contexts) < strings_max]
    distinct, counts = np.unique(told & _WITHOUT_OWNER, return_counts=True)
    where, told_words = np.divmod(distinct, 1 << _WORD_BITS)
    of_buckets, places = np.divmod(where, 1 << _PLACE_BITS)
    columns = of_buckets.tolist(), places.tolist(), told_words.tolist(), counts.tolist()
    for bucket, place, word, count in zip(*columns, strict=True):
        contexts[bucket, place, patterns.contexts.string(word)] += count


def _ranks(keys: Counts, counts: Counts, table: ContextTable) -> Counts:
    """(n,) ranks by count (n,), then name, of ascending keys (n,) among those of the same owner, bucket and place."""
    where, word_of = np.divmod(keys, 1 << _WORD_BITS)
    words, word_of = np.unique(word_of, return_inverse=True)
    by_name = sorted(range(len(words)), key=[table.string(word) for word in words.tolist()].__getitem__)
    order = np.lexsort((np.argsort(by_name)[word_of], -counts, where))
    starts = np.searchsorted(where, where)
    ranks = np.empty(len(keys), np.int64)
    ranks[order] = np.arange(len(keys)) - starts
    return ranks


def _columns(contexts: Contexts) -> Generator[None, None, ContextCounts]:
    """As columns, some lines a step."""
    numbers: dict[str, int] = {}
    lines = np.empty((len(contexts), 4), np.int64)
    counted = iter(contexts.items())
    for start in range(0, len(lines), _LINES_PER_STEP):
        lines[start : start + _LINES_PER_STEP] = [
            (bucket, place, numbers.setdefault(string, len(numbers)), count)
            for (bucket, place, string), count in itertools.islice(counted, _LINES_PER_STEP)
        ]
        yield
    return ContextCounts(
        strings=list(numbers),
        buckets=lines[:, 0].astype(np.int32),
        places=lines[:, 1].astype(np.uint8),
        string_of=lines[:, 2].astype(np.uint32),
        counts=lines[:, 3].copy(),
    )

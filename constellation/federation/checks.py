"""What a partial must be before anything of it is merged: of this round, and possible.

A shard is trusted to count, not to be free of faults: whatever would overflow, index out of bounds or weigh more than
its devices can is refused. Nothing here depends on other partials, so the order of shards decides nothing.
"""

from collections.abc import Iterator

import numpy as np

from constellation.federation.contexts import packed
from constellation.federation.terms import RefusedPartial, RoundTerms
from constellation.limits import CONTENT_ID_BYTES_MAX, CONTEXT_STRING_BYTES_MAX, UNIX_SECONDS_MAX
from constellation.rounds import BOUNDS, GENRE_HINT, GROUPS, BucketSums, ContextCounts, GroupMeans, Partial, TrendCounts
from kernels.sums import PATTERNS_MAX, SAMPLES_CAP_MAX, UNIT, WEIGHT_SCALE, WEIGHT_SUM_LIMIT

SAMPLES_MAX = SAMPLES_CAP_MAX * WEIGHT_SCALE
"""Of one pattern, in the unit of `BucketSums.samples`."""

assert PATTERNS_MAX * SAMPLES_MAX < 1 << 63


def check(partial: Partial, terms: RoundTerms) -> None:
    """Raises `RefusedPartial` with the first thing that is wrong."""
    for wrong in _wrongs(partial, terms):
        raise RefusedPartial(partial.shard_id, wrong)


def _wrongs(partial: Partial, terms: RoundTerms) -> Iterator[str]:
    """Each may rely on those before it."""
    if partial.shard_id not in terms.shards:
        yield f"it is not one of the {len(terms.shards)} shards of this round"
    expected = {
        "region": terms.shards[partial.shard_id],
        "round": terms.round,
        "map_epoch": terms.map_epoch,
        "codebook_version": terms.codebook_version,
        "sharing": terms.sharing,
    }
    for name, wanted in expected.items():
        if (given := getattr(partial, name)) != wanted:
            yield f"{name}: expected {wanted}, got {given}"
    if not 0 <= partial.hour <= UNIX_SECONDS_MAX:
        yield f"hour: expected unix seconds / 3,600, got {partial.hour}"
    yield from _wrong_buckets(partial.buckets, terms)
    if not partial.buckets.devices.max(initial=0) <= partial.devices <= partial.buckets.devices.sum():
        yield f"devices: {partial.devices} cannot be in buckets as its sums say"
    yield from _wrong_contexts(partial.contexts, terms)
    yield from _wrong_groups(partial.groups, terms)
    yield from _wrong_trends(partial.trends)
    if (partial.trends.devices < 0).any() or (partial.trends.devices > WEIGHT_SUM_LIMIT).any():
        yield "trends: expected counts of devices"
    if terms.group_key and (partial.trends.counts.sum(axis=0, dtype=np.int64) > partial.trends.devices).any():
        yield "trends: expected each device once an item, as a robust round counts"


def _wrong_buckets(given: BucketSums, terms: RoundTerms) -> Iterator[str]:
    numbers = given.numbers
    if len(numbers) and (numbers[0] < 0 or numbers[-1] >= terms.buckets or (np.diff(numbers) <= 0).any()):
        yield f"buckets: expected ascending numbers below {terms.buckets}"
    if (given.devices < 1).any() or (given.patterns < given.devices).any():
        yield "buckets: expected at least one device in each, and a pattern a device"
    if (given.patterns > PATTERNS_MAX).any():
        yield f"buckets: expected at most {PATTERNS_MAX} patterns"
    if (given.samples > given.patterns * SAMPLES_MAX).any():
        yield f"buckets: expected samples of at most {SAMPLES_MAX} a pattern"
    if (given.weights < 0).any() or (given.weights > given.samples).any():
        yield "buckets: expected weights from 0 to the samples"
    if (given.samples > given.devices * BOUNDS[terms.sharing].samples).any():
        yield f"buckets: expected samples of at most {BOUNDS[terms.sharing].samples} a device"
    weight_max = _weight_max(terms)
    if (given.weights > weight_max).any():
        yield f"buckets: expected weights of at most {weight_max}, so that {len(terms.shards)} shards fit into int64"
    longest = (given.weights * UNIT)[:, None]
    if (given.sums > longest).any() or (given.sums < -longest).any():
        yield f"buckets: expected sums of at most {UNIT} times the weight"


def _wrong_contexts(given: ContextCounts, terms: RoundTerms) -> Iterator[str]:
    """Not held against the sums: they are of another moment, and devices come and go in between (`shard.giving`)."""
    if len(set(given.strings)) < len(given.strings) or (given.string_of >= len(given.strings)).any():
        yield "contexts: expected distinct strings, and numbers of them"
    if any(len(string.encode()) > CONTEXT_STRING_BYTES_MAX for string in given.strings):
        yield f"contexts: expected strings of at most {CONTEXT_STRING_BYTES_MAX} bytes"
    if (given.places > GENRE_HINT).any():
        yield f"contexts: expected places 0 to {GENRE_HINT}"
    if (given.buckets < 0).any() or (given.buckets >= terms.buckets).any():
        yield f"contexts: expected buckets below {terms.buckets}"
    if len(np.unique(packed(given.buckets, given.places, given.string_of))) < len(given):
        yield "contexts: expected each string once a bucket and place"
    if (given.counts < 1).any() or (given.counts > PATTERNS_MAX).any():
        yield f"contexts: expected counts from 1 to {PATTERNS_MAX}"


def _wrong_groups(given: GroupMeans, terms: RoundTerms) -> Iterator[str]:
    """As little held against the sums as contexts are."""
    if len(given) and (
        given.cells[0] < 0 or given.cells[-1] >= terms.buckets * GROUPS or (np.diff(given.cells) <= 0).any()
    ):
        yield f"groups: expected ascending cells below {terms.buckets * GROUPS}"
    if (given.means > UNIT).any() or (given.means < -UNIT).any():
        yield f"groups: expected means of at most {UNIT}"
    if (given.devices < 1).any() or (given.devices > PATTERNS_MAX).any():
        yield f"groups: expected devices from 1 to {PATTERNS_MAX}"
    if (given.weights < 1).any() or (given.weights > given.devices * BOUNDS[terms.sharing].samples).any():
        yield f"groups: expected weights from 1 to {BOUNDS[terms.sharing].samples} a device"
    if (given.weights > _weight_max(terms)).any():
        yield f"groups: expected weights of at most {_weight_max(terms)}"


def _weight_max(terms: RoundTerms) -> int:
    """Of one shard, so that the sums of all of them fit into int64."""
    return WEIGHT_SUM_LIMIT // len(terms.shards) - 1


def _wrong_trends(given: TrendCounts) -> Iterator[str]:
    if len(set(given.items)) < len(given):
        yield "trends: expected distinct items"
    if not all(0 < len(item.encode()) <= CONTENT_ID_BYTES_MAX for item in given.items):
        yield f"trends: expected names of 1 to {CONTENT_ID_BYTES_MAX} bytes"

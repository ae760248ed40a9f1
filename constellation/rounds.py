"""What shards and the federation tell each other: a shard's partial, and the round that comes of all of them.

A `Partial` holds integers only, so that partials merge in any order to the same bits. It says nothing of a single
pattern or device. Made by `shard`, merged by `federation`, carried as msgpack with little-endian columns in one zstd
frame: the high bytes of most counts are zeros.
"""

from typing import Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from constellation.limits import GENRE_HINTS_MAX, PATTERNS_PER_DEVICE_MAX, ROUND_BYTES_MAX
from constellation.model import DIM, ID_BYTES, Codes, Context, Ids
from kernels.trends import HOURS

FORMAT = 1
"""Of both encoded forms; a reader knows this one and the one before."""

Counts = npt.NDArray[np.int64]


Sharing = Literal["patterns", "aggregates"]


class ContributionBounds(msgspec.Struct, frozen=True):
    """What one device gives at most: it counts in the `buckets` in which it weighs most, of equal ones in the lower
    numbers; with `samples` in each, in the unit of `BucketSums.samples`; and with `strings` in a place of its contexts
    there, those that most of its patterns have, of equal ones the first by name."""

    buckets: int
    samples: int
    strings: int


BOUNDS: dict[Sharing, ContributionBounds] = {
    "patterns": ContributionBounds(PATTERNS_PER_DEVICE_MAX, 1_000 << 8, PATTERNS_PER_DEVICE_MAX * GENRE_HINTS_MAX),
    "aggregates": ContributionBounds(4, 100 << 8, 1),
}
"""Where patterns are shared, a device is all that it has. Aggregates are noised by what one device can change, so it
gives a little: noise falls with the bounds faster than what is learnt (`python -m bench privacy`)."""


class BucketSums(msgspec.Struct):
    """n buckets with anything in them, ascending: numbers (n,) int32.

    Of device d with patterns i in bucket b, each of s_i = min(count_i, cap) x 2^8 samples and weight w_i = rint(rate_i
    x s_i), S = sum of s_i: where S > C, `ContributionBounds.samples`, they count with w_i' = w_i x C // S and s_i' =
    s_i x C // S, else with w_i and s_i. Then sums (n, 384) int64 of w_i' x e_i with e_i = rint(code_i x 2^14 /
    |code_i|) in float32, weights (n,) of w_i', samples (n,) of s_i', patterns (n,) of 1, devices (n,) of 1 a device.
    """

    numbers: npt.NDArray[np.int32]
    sums: npt.NDArray[np.int64]
    weights: Counts
    samples: Counts
    patterns: Counts
    devices: Counts

    def __len__(self) -> int:
        return len(self.numbers)


class ContextCounts(msgspec.Struct):
    """m counts of strings in contexts: how many devices have a pattern in bucket buckets[i] whose context has the
    string strings[string_of[i]] in place places[i].

    A device counts once, however many such patterns it has. strings: distinct, in any order; buckets (m,) int32;
    places (m,) uint8, one of the numbers below; string_of (m,) uint32; counts (m,) int64.
    """

    strings: list[str]
    buckets: npt.NDArray[np.int32]
    places: npt.NDArray[np.uint8]
    string_of: npt.NDArray[np.uint32]
    counts: Counts

    def __len__(self) -> int:
        return len(self.buckets)


TIME_OF_DAY, DAY_OF_WEEK, CONTENT_TYPE, GENRE_HINT = range(4)
"""Places of a context."""


class TrendCounts(msgspec.Struct):
    """Samples of n items, named as in `records.PatternRows` and distinct, in the week that ends with some hour.

    devices (n,) int64: distinct devices, now, with a pattern that is about the item; counts (168, n) uint32: hour h
    (unix seconds / 3,600) is in line h % 168, as in `kernels.trends`. In a robust round the counts are these devices,
    each in the hour of its last samples.
    """

    items: list[str]
    devices: Counts
    counts: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.items)


GROUPS = 8
"""Into which the devices of a bucket are dealt, by a keyed hash that they cannot know."""


class GroupMeans(msgspec.Struct):
    """n groups of devices with any weight, ascending: cells (n,) int32 = bucket x GROUPS + group.

    Of the same sums as `BucketSums`, at a moment in between: means (n, 384) int16 = rint(sums / weights), weights (n,)
    and devices (n,) int64.
    """

    cells: npt.NDArray[np.int32]
    means: npt.NDArray[np.int16]
    weights: Counts
    devices: Counts

    def __len__(self) -> int:
        return len(self.cells)


def no_groups() -> GroupMeans:
    """What a round gets that did not ask for groups."""
    none = np.empty(0, np.int64)
    return GroupMeans(none.astype(np.int32), np.empty((0, DIM), np.int16), none, none)


class Partial(msgspec.Struct):
    """What one shard gives to one round; `hour` (unix seconds / 3,600) is the last of its trends."""

    shard_id: str
    region: str
    round: int
    map_epoch: int
    codebook_version: int
    hour: int
    buckets: BucketSums
    contexts: ContextCounts
    trends: TrendCounts
    devices: int
    """Devices with patterns, each counted once."""
    groups: GroupMeans = msgspec.field(default_factory=no_groups)
    sharing: Sharing = "patterns"
    """Which BOUNDS its devices keep."""


class Prototypes(msgspec.Struct):
    """n aggregated patterns, one a bucket: numbers (n,) int32, ascending.

    As patterns: ids (n, 16) uint8, the same in every round; codes (n, 384) int8 of the weighted mean's direction; rates
    (n,) float32, the weighted mean; counts (n,) uint32 of samples, at most 1,000,000; contexts of the strings that most
    devices have. What backs them: quality (n,) float32 0..1, the mean resultant length of the weighted embeddings
    (Mardia and Jupp, Directional Statistics, 9.2): 1 where all point one way; sources (n,) int64 distinct shards,
    devices (n,) int64 distinct devices.
    """

    numbers: npt.NDArray[np.int32]
    ids: Ids
    codes: Codes
    rates: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint32]
    contexts: list[Context]
    quality: npt.NDArray[np.float32]
    sources: Counts
    devices: Counts

    def __len__(self) -> int:
        return len(self.numbers)


class RegionTrends(msgspec.Struct):
    """The n items that score highest, best first, over a region's shards, or over all ("global").

    scores (n,) float32: decayed samples as a share of the highest; counts (168, n) int64 as in `TrendCounts`.
    """

    region: str
    items: list[str]
    scores: npt.NDArray[np.float32]
    counts: Counts

    def __len__(self) -> int:
        return len(self.items)


class Privacy(msgspec.Struct, frozen=True):
    """A release is (epsilon, delta)-differentially private under adding or removing all of one device."""

    epsilon: float
    delta: float


class FederationResult(msgspec.Struct):
    """What a round published. `privacy`: None if it is exact. `at`: unix seconds; `hour` is the last of the trends."""

    number: int
    at: int
    hour: int
    map_epoch: int
    codebook_version: int
    shards_expected: int
    shards_reported: int
    patterns: int
    devices: int
    prototypes: Prototypes
    trends: list[RegionTrends]
    privacy: Privacy | None = None
    robust: bool = False
    """Prototypes are geometric medians, and trends count devices instead of samples."""


GLOBAL = "global"
"""The region of the trends over all regions."""


class WrongRound(Exception):
    """Bytes that are not an encoded partial or round of a known format."""


def encode(what: Partial | FederationResult) -> bytes:
    """A partial or a round as bytes: a format number, then msgpack, compressed."""
    return bytes((FORMAT,)) + zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(_encoder.encode(what))


def decode_partial(content: bytes) -> Partial:
    """Raises `WrongRound`."""
    partial: Partial = _decode(content, _partials)
    buckets, contexts, trends, groups = partial.buckets, partial.contexts, partial.trends, partial.groups
    _check_columns(buckets.numbers, buckets.weights, buckets.samples, buckets.patterns, buckets.devices)
    buckets.sums = _shaped(buckets.sums, len(buckets), DIM)
    _check_columns(contexts.buckets, contexts.places, contexts.string_of, contexts.counts)
    _check_columns(trends.items, trends.devices)
    trends.counts = _shaped(trends.counts, HOURS, len(trends))
    _check_columns(groups.cells, groups.weights, groups.devices)
    groups.means = _shaped(groups.means, len(groups), DIM)
    return partial


def decode_result(content: bytes) -> FederationResult:
    """Raises `WrongRound`."""
    made: FederationResult = _decode(content, _results)
    found = made.prototypes
    found.ids, found.codes = _shaped(found.ids, len(found), ID_BYTES), _shaped(found.codes, len(found), DIM)
    _check_columns(*(getattr(found, name) for name in found.__struct_fields__))
    for region in made.trends:
        _check_columns(region.items, region.scores)
        region.counts = _shaped(region.counts, HOURS, len(region))
    return made


def _to_bytes(value: object) -> bytes:
    assert isinstance(value, np.ndarray)
    return np.ascontiguousarray(value).tobytes()


def _to_array(kind: Any, value: object) -> npt.NDArray[Any]:
    """A column of the type that its annotation names."""
    if not isinstance(value, bytes):
        raise TypeError(f"expected bytes, got {type(value).__name__}")
    return np.frombuffer(value, get_args(get_args(kind)[1])[0])


def _decode(content: bytes, decoder: Any) -> Any:
    if not content or content[0] != FORMAT:
        raise WrongRound(f"format {content[:1].hex() or 'none'}; this release reads {FORMAT}")
    try:
        return decoder.decode(_unpacked(memoryview(content)[1:]))
    except (msgspec.MsgspecError, zstandard.ZstdError, ValueError) as error:
        raise WrongRound(f"it cannot be read: {error}") from error


def _unpacked(frame: memoryview) -> bytes:
    """A frame may declare any size: ROUND_BYTES_MAX are made at most, whatever it says."""
    size = zstandard.get_frame_parameters(frame).content_size
    if size > ROUND_BYTES_MAX:  # also if it declares none
        raise WrongRound(f"it says it is {size} bytes unpacked, {ROUND_BYTES_MAX} are allowed")
    return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)


def _shaped(column: npt.NDArray[Any], n: int, d: int) -> npt.NDArray[Any]:
    if len(column) != n * d:
        raise WrongRound(f"{len(column)} numbers where {n} x {d} belong")
    return column.reshape(n, d)


def _check_columns(*columns: Any) -> None:
    if len({len(column) for column in columns}) > 1:
        raise WrongRound("columns of different lengths")


_ZSTD_LEVEL = 1
_encoder = msgspec.msgpack.Encoder(enc_hook=_to_bytes)
_partials = msgspec.msgpack.Decoder(Partial, dec_hook=_to_array)
_results = msgspec.msgpack.Decoder(FederationResult, dec_hook=_to_array)

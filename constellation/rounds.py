"""What shards and the federation tell each other: a shard's partial, and the round that comes of all of them.

A `Partial` holds integers only, so that partials merge in any order to the same bits. It says nothing of a single
pattern or device. Made by `shard`, merged by `federation`, carried as msgpack with little-endian columns.
"""

from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from constellation.model import DIM, ID_BYTES, Codes, Context, Ids
from constellation.records import TrendCells

FORMAT = 1
"""Of both encoded forms; a reader knows this one and the one before."""

Counts = npt.NDArray[np.int64]


class BucketSums(msgspec.Struct):
    """n buckets with anything in them, ascending: numbers (n,) int32.

    Of device d with patterns i in bucket b, each of weight w_i = rint(rate_i x min(count_i, cap) x 2^8), W = sum of
    w_i: its patterns count with w_i' = w_i x C // W where W > C, the cap of one device, else with w_i; s_i' is the
    same of s_i = min(count_i, cap) x 2^8. Then sums (n, 384) int64 of w_i' x e_i with e_i = rint(code_i x 2^14 /
    |code_i|), weights (n,) of w_i', samples (n,) of s_i', patterns (n,) of 1, devices (n,) of 1 a device.
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
    """m counts of strings in contexts: that in bucket buckets[i] the string strings[i] stood in place places[i].

    buckets (m,) int32; places (m,) uint8, one of the numbers below; counts (m,) int64 of patterns.
    """

    buckets: npt.NDArray[np.int32]
    places: npt.NDArray[np.uint8]
    strings: list[str]
    counts: Counts

    def __len__(self) -> int:
        return len(self.buckets)


TIME_OF_DAY, DAY_OF_WEEK, CONTENT_TYPE, GENRE_HINT = range(4)
"""Places of a context."""


class Partial(msgspec.Struct):
    """What one shard gives to one round; `hour` (unix seconds / 3,600) is that of its trends."""

    shard_id: str
    region: str
    round: int
    map_epoch: int
    codebook_version: int
    hour: int
    buckets: BucketSums
    contexts: ContextCounts
    trends: TrendCells
    devices: int
    """Devices with patterns, each counted once."""


class Prototypes(msgspec.Struct):
    """n aggregated patterns, one a bucket: numbers (n,) int32, ascending.

    As patterns: ids (n, 16) uint8, codes (n, 384) int8, rates (n,) float32 (the weighted mean), counts (n,) uint32,
    contexts of the strings that stood most often. What backs them: quality (n,) float32 0..1, sources (n,) int64
    distinct shards, devices (n,) int64 distinct devices.
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


class RegionTrends(NamedTuple):
    """Merged counts of a region's shards, or of all ("global"): the items that score highest."""

    region: str
    cells: TrendCells


class FederationResult(msgspec.Struct):
    """What a round published. `at`: unix seconds; `hour` is that of the trends."""

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


GLOBAL = "global"
"""The region of the trends over all regions."""


class WrongRound(Exception):
    """Bytes that are not an encoded partial or round of a known format."""


def encode(what: Partial | FederationResult) -> bytes:
    """A partial or a round as bytes: a format number, then msgpack."""
    return bytes((FORMAT,)) + _encoder.encode(what)


def decode_partial(content: bytes) -> Partial:
    """Raises `WrongRound`."""
    partial: Partial = _decode(content, _partials)
    buckets, contexts = partial.buckets, partial.contexts
    _check_columns(buckets.numbers, buckets.weights, buckets.samples, buckets.patterns, buckets.devices)
    _check_columns(contexts.buckets, contexts.places, contexts.strings, contexts.counts)
    if len(buckets.sums) != len(buckets) * DIM:
        raise WrongRound(f"{len(buckets.sums)} sums for {len(buckets)} buckets")
    buckets.sums = buckets.sums.reshape(-1, DIM)
    _check_cells(partial.trends)
    return partial


def decode_result(content: bytes) -> FederationResult:
    """Raises `WrongRound`."""
    made: FederationResult = _decode(content, _results)
    found = made.prototypes
    n = len(found.numbers)
    if len(found.ids) != n * ID_BYTES or len(found.codes) != n * DIM:
        raise WrongRound(f"ids or codes are not of {n} prototypes")
    found.ids, found.codes = found.ids.reshape(n, ID_BYTES), found.codes.reshape(n, DIM)
    _check_columns(*(getattr(found, name) for name in found.__struct_fields__))
    for region in made.trends:
        _check_cells(region.cells)
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
        return decoder.decode(memoryview(content)[1:])
    except (msgspec.MsgspecError, ValueError) as error:
        raise WrongRound(f"it cannot be read: {error}") from error


def _check_columns(*columns: Any) -> None:
    if len({len(column) for column in columns}) > 1:
        raise WrongRound("columns of different lengths")


def _check_cells(cells: TrendCells) -> None:
    _check_columns(cells.items, cells.hours, cells.counts)


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_bytes)
_partials = msgspec.msgpack.Decoder(Partial, dec_hook=_to_array)
_results = msgspec.msgpack.Decoder(FederationResult, dec_hook=_to_array)

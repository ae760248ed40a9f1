"""What changed, as it is written down: the one form in which state goes to the journal, to the database and back.

A `Change` says what is there afterwards, not what was done: applied twice it is applied once, in order they give one
state under any settings and clock, and many coalesce into one. Made by `shard`, kept by `storage`.
"""

from collections.abc import Hashable, Sequence
from itertools import compress
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from constellation.model import DIM, ID_BYTES, ContentItem, Context, Ids, PatternBatch

FORMAT = 1
"""Of the encoded form; a reader knows this one and the one before."""


class PatternRows(msgspec.Struct):
    """n patterns with all that the shard keeps of them.

    owners (n, 16) uint8: device ids; entered (n,) int64: grows with the order in which a device's patterns came;
    versions (n,) int64: global version of the last change; items: what trends credit the pattern to, a content id,
    `genre:<name>` or '' (nothing), with item_samples (n,) uint32 credited so far, the last in item_hours (n,) uint32.
    """

    owners: Ids
    patterns: PatternBatch
    entered: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    items: list[str]
    item_samples: npt.NDArray[np.uint32]
    item_hours: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.owners)


class PatternKeys(msgspec.Struct):
    """n patterns by key: owners (n, 16) uint8, ids (n, 16) uint8."""

    owners: Ids
    ids: Ids

    def __len__(self) -> int:
        return len(self.owners)


class DeviceRows(msgspec.Struct):
    """n devices: ids (n, 16) uint8, the rest (n,). Times are unix seconds; credit is that of the hour credit_hours."""

    ids: Ids
    sequences: npt.NDArray[np.int64]
    fingerprints: npt.NDArray[np.uint64]
    cursors: npt.NDArray[np.int64]
    last_syncs: npt.NDArray[np.int64]
    credit_hours: npt.NDArray[np.uint32]
    credit_used: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.ids)


class TrendCells(msgspec.Struct):
    """n counts of samples: what items[i] (named as in `PatternRows`) has in hour hours[i] (unix seconds / 3,600)."""

    items: list[str]
    hours: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.items)


class NumberedItem(NamedTuple):
    """A title with its place in the order of first posting."""

    number: int
    item: ContentItem


class Forgotten(NamedTuple):
    """A household that was forgotten: what to delete, and the tombstone that keeps a late retry from bringing it back.

    tombstone: 16 bytes, a keyed hash of the device id, or b'' if none is kept; sequence: the last one applied; at: unix
    seconds. One that another shard forgot has no device id; the key of its hash, 32 bytes, is kept as a tombstone, too.
    """

    device_id: bytes
    tombstone: bytes
    sequence: int
    at: int

    @property
    def key(self) -> bytes:
        """Tells it from others."""
        return self.device_id or self.tombstone


class Change(msgspec.Struct):
    """What is there after one or more changes. The order is forgotten, content, devices, gone, patterns, trends."""

    version: int
    """Global version after the last of them."""
    forgotten: list[Forgotten]
    content: list[NumberedItem]
    devices: DeviceRows
    gone: PatternKeys
    patterns: PatternRows
    trends: TrendCells


class Piece(NamedTuple):
    """A part of all that a shard holds. Pieces need not be of one moment: what changed since the first was taken, put
    on top in the order of writing, gives one state."""

    change: Change
    places: bytes = b""
    """Where its patterns are in the similarity index, b'' if nobody knows: a hint, by which restoring is faster."""


def only(rows: Any, keep: npt.NDArray[np.bool_]) -> Any:
    """The rows of a Struct of n rows in columns for which keep (n,) holds."""
    if isinstance(rows, np.ndarray):
        return rows[keep]
    if isinstance(rows, list):
        return list(compress(rows, keep.tolist()))
    return type(rows)(*(only(getattr(rows, name), keep) for name in rows.__struct_fields__))


class WrongRecord(Exception):
    """Bytes that are not an encoded change of a known format."""


def empty_change(version: int = 0) -> Change:
    return _read(_Packed(version, [], [], [b""] * 7, [b""] * 2, [b""] * 11, [], b"", [], b"", [], [b""] * 2))


def encode(change: Change) -> bytes:
    """The change as bytes: a format number, then msgpack with little-endian columns."""
    patterns, batch, devices, gone, trends = (
        change.patterns,
        change.patterns.patterns,
        change.devices,
        change.gone,
        change.trends,
    )
    return bytes((FORMAT,)) + _encoder.encode(
        _Packed(
            change.version,
            change.forgotten,
            [_PackedItem(number, i.content_id, i.title, i.code.tobytes(), i.metadata) for number, i in change.content],
            [
                column.tobytes()
                for column in (
                    *(devices.ids, devices.sequences, devices.fingerprints, devices.cursors),
                    *(devices.last_syncs, devices.credit_hours, devices.credit_used),
                )
            ],
            [gone.owners.tobytes(), gone.ids.tobytes()],
            [
                column.tobytes()
                for column in (
                    *(patterns.owners, batch.ids, batch.codes, batch.rates, batch.counts),
                    *(batch.created_at, batch.updated_at, patterns.entered, patterns.versions),
                    *(patterns.item_samples, patterns.item_hours),
                )
            ],
            *_distinct(batch.contexts),
            *_distinct(patterns.items),
            trends.items,
            [trends.hours.tobytes(), trends.counts.tobytes()],
        )
    )


def decode(record: bytes) -> Change:
    """The change that was encoded. Raises `WrongRecord`."""
    if not record or record[0] != FORMAT:
        raise WrongRecord(f"a record of format {record[:1].hex() or 'none'}; this release reads format {FORMAT}")
    try:
        return _read(_decoder.decode(memoryview(record)[1:]))
    except (msgspec.MsgspecError, ValueError, IndexError, RecursionError) as error:
        raise WrongRecord(f"a record that cannot be read: {error}") from error


_Two = Annotated[list[bytes], msgspec.Meta(min_length=2, max_length=2)]
_Seven = Annotated[list[bytes], msgspec.Meta(min_length=7, max_length=7)]
_Eleven = Annotated[list[bytes], msgspec.Meta(min_length=11, max_length=11)]


class _PackedItem(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    number: int
    content_id: str
    title: str
    code: bytes
    metadata: dict[str, Any] | None


class _Packed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    forgotten: list[Forgotten]
    content: list[_PackedItem]
    devices: _Seven
    gone: _Two
    patterns: _Eleven
    contexts: list[Context]
    context_of: bytes
    items: list[str]
    item_of: bytes
    trend_items: list[str]
    trends: _Two


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Packed)


def _read(packed: _Packed) -> Change:
    """Raises ValueError and IndexError where columns do not belong together."""
    device_ids, sequences, fingerprints, cursors, last_syncs, credit_hours, credit_used = packed.devices
    gone_owners, gone_ids = packed.gone
    owners, ids, codes, rates, counts, created_at, updated_at, entered, versions, samples, hours = packed.patterns
    trend_hours, trend_counts = packed.trends
    devices, gone, patterns = (len(column) // ID_BYTES for column in (device_ids, gone_ids, ids))
    trends = len(packed.trend_items)
    return Change(
        version=packed.version,
        forgotten=packed.forgotten,
        content=[
            NumberedItem(i.number, ContentItem(i.content_id, i.title, _array(i.code, np.int8, DIM), i.metadata))
            for i in packed.content
        ],
        devices=DeviceRows(
            ids=_array(device_ids, np.uint8, devices, ID_BYTES),
            sequences=_array(sequences, np.int64, devices),
            fingerprints=_array(fingerprints, np.uint64, devices),
            cursors=_array(cursors, np.int64, devices),
            last_syncs=_array(last_syncs, np.int64, devices),
            credit_hours=_array(credit_hours, np.uint32, devices),
            credit_used=_array(credit_used, np.uint32, devices),
        ),
        gone=PatternKeys(
            owners=_array(gone_owners, np.uint8, gone, ID_BYTES), ids=_array(gone_ids, np.uint8, gone, ID_BYTES)
        ),
        patterns=PatternRows(
            owners=_array(owners, np.uint8, patterns, ID_BYTES),
            patterns=PatternBatch(
                ids=_array(ids, np.uint8, patterns, ID_BYTES),
                codes=_array(codes, np.int8, patterns, DIM),
                rates=_array(rates, np.float32, patterns),
                counts=_array(counts, np.uint32, patterns),
                created_at=_array(created_at, np.int64, patterns),
                updated_at=_array(updated_at, np.int64, patterns),
                contexts=_each(packed.contexts, packed.context_of, patterns),
            ),
            entered=_array(entered, np.int64, patterns),
            versions=_array(versions, np.int64, patterns),
            items=_each(packed.items, packed.item_of, patterns),
            item_samples=_array(samples, np.uint32, patterns),
            item_hours=_array(hours, np.uint32, patterns),
        ),
        trends=TrendCells(
            items=packed.trend_items,
            hours=_array(trend_hours, np.uint32, trends),
            counts=_array(trend_counts, np.uint32, trends),
        ),
    )


def _distinct(values: Sequence[Hashable]) -> tuple[list[Any], bytes]:
    """Most are equal to others: each of them once, and for every value its number (uint32) among these."""
    numbers: dict[Hashable, int] = {}
    number_of = [numbers.setdefault(value, len(numbers)) for value in values]
    return list(numbers), np.array(number_of, np.uint32).tobytes()


def _each(distinct: list[Any], number_of: bytes, n: int) -> list[Any]:
    """The n values, equal ones the same object."""
    return [distinct[number] for number in _array(number_of, np.uint32, n).tolist()]


def _array(column: bytes, kind: type, *shape: int) -> npt.NDArray[Any]:
    """Raises ValueError if the bytes are not as many."""
    return np.frombuffer(column, kind).reshape(shape)

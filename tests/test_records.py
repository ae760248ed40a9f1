"""A change comes back from bytes as it went; what is not a record of this release is refused."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation import records
from constellation.model import DIM, ContentItem, Context, Ids, PatternBatch
from constellation.records import (
    Change,
    DeviceRows,
    Forgotten,
    NumberedItem,
    PatternKeys,
    PatternRows,
    TrendCells,
    WrongRecord,
    decode,
    empty_change,
    encode,
)


def some_change(n: int, rng: np.random.Generator) -> Change:
    def ids() -> Ids:
        return rng.integers(0, 256, (n, 16)).astype(np.uint8)

    def numbers(dtype: type) -> npt.NDArray[Any]:
        return rng.integers(0, 1 << 31, n).astype(dtype)

    return Change(
        version=1_795_000_000_000_000,
        forgotten=[Forgotten(bytes(16), b"t" * 16, 7, 1_795_000_000)],
        content=[NumberedItem(3, ContentItem("film:1", "A film", rng.integers(-127, 128, DIM).astype(np.int8), None))],
        devices=DeviceRows(
            ids=ids(),
            sequences=numbers(np.int64),
            fingerprints=rng.integers(0, 1 << 64, n, dtype=np.uint64),
            cursors=numbers(np.int64),
            last_syncs=numbers(np.int64),
            credit_hours=numbers(np.uint32),
            credit_used=numbers(np.uint32),
        ),
        gone=PatternKeys(ids(), ids()),
        patterns=PatternRows(
            owners=ids(),
            patterns=PatternBatch(
                ids=ids(),
                codes=rng.integers(-127, 128, (n, DIM)).astype(np.int8),
                rates=rng.random(n, np.float32),
                counts=numbers(np.uint32),
                created_at=numbers(np.int64),
                updated_at=numbers(np.int64),
                contexts=[Context("evening", "weekend", "movie", ("drama", f"é{i}")) for i in range(n)],
            ),
            entered=numbers(np.int64),
            versions=numbers(np.int64),
            items=[f"film:{i}" for i in range(n)],
            item_samples=numbers(np.uint32),
            item_hours=numbers(np.uint32),
        ),
        trends=TrendCells([f"film:{i}" for i in range(n)], numbers(np.uint32), numbers(np.uint32)),
    )


def plain(change: Change) -> object:
    """Arrays as (dtype, shape, bytes), so that == compares them."""

    def shown(value: object) -> object:
        assert isinstance(value, np.ndarray), type(value)
        return value.dtype.str, value.shape, value.tobytes()

    return msgspec.to_builtins(change, enc_hook=shown)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_a_change_comes_back_from_bytes(n: int, rng: np.random.Generator) -> None:
    change = some_change(n, rng)
    assert plain(decode(encode(change))) == plain(change)


def test_an_empty_change_holds_nothing() -> None:
    change = empty_change(5)
    assert change.version == 5
    assert not (change.forgotten or change.content or len(change.devices) or len(change.gone))
    assert not (len(change.patterns) or len(change.trends))
    assert plain(decode(encode(change))) == plain(change)


def test_every_torn_record_is_refused(rng: np.random.Generator) -> None:
    record = encode(some_change(1, rng))
    for length in range(len(record)):
        with pytest.raises(WrongRecord):
            decode(record[:length])


def test_a_record_of_another_format_is_refused() -> None:
    with pytest.raises(WrongRecord, match="format"):
        decode(bytes((records.FORMAT + 1,)) + encode(empty_change())[1:])


PARTS = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner),
    max_leaves=9,
)
RECORDS = [encode(some_change(n, np.random.default_rng(n))) for n in (0, 1, 3)]


def hold_together(change: Change) -> bool:
    """Are all columns of one table as long?"""
    batch = change.patterns.patterns
    tables = (change.devices, change.gone, change.trends, change.patterns, batch)
    lengths = [{len(getattr(rows, name)) for name in rows.__struct_fields__} for rows in tables]
    return all(len(of_table) == 1 for of_table in lengths) and len(batch) == len(change.patterns)


def is_refused_or_right(record: bytes) -> bool:
    """Right: what was read comes back from bytes as it is."""
    try:
        change = decode(record)
    except WrongRecord:
        return True
    return hold_together(change) and plain(decode(encode(change))) == plain(change)


@given(st.sampled_from(RECORDS), st.lists(st.tuples(st.integers(0), st.integers(0, 9), st.binary(max_size=9))))
def test_damaged_bytes_are_refused_or_another_record(record: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for at, gone, instead in edits:
        start = 1 + at % len(record)
        record = record[:start] + instead + record[start + gone :]
    assert is_refused_or_right(record)


@given(st.sampled_from(RECORDS), st.integers(0, 11), PARTS, st.integers(0, 13))
def test_hostile_parts_are_refused_or_another_record(record: bytes, at: int, part: object, length: int) -> None:
    parts = msgspec.msgpack.decode(record[1:])
    parts[at] = part
    assert is_refused_or_right(record[:1] + msgspec.msgpack.encode(parts))
    assert is_refused_or_right(record[:1] + msgspec.msgpack.encode((parts * 2)[:length]))


@pytest.mark.parametrize("change", ["one byte more", "one row less", "one column more", "one column less"])
def test_columns_that_do_not_belong_together_are_refused(change: str) -> None:
    for table in (3, 4, 5, 11):
        for column in range(len(msgspec.msgpack.decode(RECORDS[-1][1:])[table])):
            parts = msgspec.msgpack.decode(RECORDS[-1][1:])
            columns = parts[table]
            if change == "one byte more":
                columns[column] += b"\0"
            elif change == "one row less":
                columns[column] = columns[column][: len(columns[column]) * 2 // 3]
            elif change == "one column more":
                columns.insert(column, columns[column])
            else:
                del columns[column]
            with pytest.raises(WrongRecord):
                decode(RECORDS[-1][:1] + msgspec.msgpack.encode(parts))


def test_nested_without_end_is_refused() -> None:
    parts = msgspec.msgpack.decode(RECORDS[-1][1:])
    parts[2][0][4] = {"genre": 0}
    record = RECORDS[-1][:1] + msgspec.msgpack.encode(parts)
    before, after = record.split(b"\x81\xa5genre\x00")
    with pytest.raises(WrongRecord, match="recursion"):
        decode(before + b"\x81\xa5genre" + b"\x91" * 100_000 + b"\x00" + after)

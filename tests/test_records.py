"""A change comes back from bytes as it went; what is not a record of this release is refused."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

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

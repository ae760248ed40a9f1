"""`answer_digest` against a plain twin made with `struct` and `sorted`."""

import struct

import numpy as np
import pytest
import xxhash

from constellation.digest import answer_digest

SEED = 20_240_817


def plain_digest(records: list[tuple[bytes, float, int, int]]) -> str:
    packed = sorted(device_id + struct.pack("<fIQ", rate, count, time) for device_id, rate, count, time in records)
    return xxhash.xxh64(b"".join(packed)).hexdigest()


def digest_of(records: list[tuple[bytes, float, int, int]]) -> str:
    ids = np.frombuffer(b"".join(r[0] for r in records), np.uint8).reshape(-1, 16)
    rates = np.array([r[1] for r in records], np.float32)
    counts = np.array([r[2] for r in records], np.uint32)
    return answer_digest(ids, rates, counts, np.array([r[3] for r in records], np.int64))


@pytest.mark.parametrize("n", [0, 1, 2, 100, 355])
def test_digest_agrees_with_the_plain_twin(n: int) -> None:
    rng = np.random.default_rng(SEED + n)
    records = [
        (rng.bytes(16), float(rng.random()), int(rng.integers(1, 10**6)), int(rng.integers(2**40))) for _ in range(n)
    ]
    assert digest_of(records) == plain_digest(records)


def test_digest_does_not_depend_on_order() -> None:
    rng = np.random.default_rng(SEED)
    records = [(rng.bytes(16), 0.9, 7, 1_760_000_000 + i) for i in range(50)]
    assert digest_of(records) == digest_of([records[i] for i in rng.permutation(50)])


def test_equal_ids_are_ordered_by_their_revision() -> None:
    same = [(b"\1" * 16, 0.8, 5, 3), (b"\1" * 16, 0.9, 4, 2), (b"\1" * 16, 0.8, 5, 2)]
    assert digest_of(same) == digest_of(same[::-1]) == plain_digest(same)


def test_zero_bytes_at_both_ends_count() -> None:
    records = [(bytes(16), 0.0, 1, 0), (bytes(15) + b"\1", 0.0, 1, 0), (b"\1" + bytes(15), 0.0, 1, 0)]
    assert digest_of(records) == plain_digest(records)
    assert digest_of(records[:1]) != digest_of(records[1:2])


def test_every_field_of_a_revision_counts() -> None:
    base = (b"\7" * 16, 0.9, 10, 1_000)
    others = [
        (b"\6" * 16, 0.9, 10, 1_000),
        (base[0], 0.91, 10, 1_000),
        (base[0], 0.9, 11, 1_000),
        (base[0], 0.9, 10, 1_001),
    ]
    assert len({digest_of([r]) for r in [base, *others]}) == 5


def test_strided_and_read_only_columns_are_read() -> None:
    wide = np.arange(20 * 32, dtype=np.uint16).astype(np.uint8).reshape(20, 32)
    rates, counts, times = (
        np.full(20, 0.5, np.float32),
        np.arange(1, 21, dtype=np.uint32),
        np.arange(20, dtype=np.int64),
    )
    for column in (wide, rates, counts, times):
        column.flags.writeable = False
    expected = answer_digest(np.ascontiguousarray(wide[:, :16][::2]), rates[:10], counts[::2].copy(), times[::2].copy())
    assert answer_digest(wide[:, :16][::2], rates[::2], counts[::2], times[::2]) == expected

"""Columns as bytes and back, against their twins; what is hostile is told, and never read past its end."""

from typing import Any

import numpy as np
import pytest

from kernels import block_reference as reference
from kernels import blocks
from tests.kernels.material import same

NOW_S = 1_760_000_000
SIZE = 1_024


def columns(seed: int, n: int) -> tuple[Any, ...]:
    """What `pack_columns` takes: of any age, also from before 1970's end to beyond the last day."""
    rng = np.random.default_rng(seed)
    updated = np.abs(NOW_S - (rng.exponential(30, n) * blocks.DAY_S).astype(np.int64) * rng.integers(0, 2, n))
    created = np.abs(updated - (rng.normal(0, 100, n) * blocks.DAY_S).astype(np.int64))
    created[rng.random(n) < 0.1] = rng.choice([0, 2**40])
    return (
        rng.permutation(256)[:n].astype(np.uint8),
        rng.random(n) < rng.random(),
        np.flatnonzero(rng.random(n) < 0.2),
        rng.integers(0, SIZE, n, dtype=np.int32),
        rng.integers(0, 256, (n, 30), dtype=np.uint8),
        rng.random(n, dtype=np.float32),
        np.minimum(np.exp(rng.uniform(0, 14, n)), 1_000_000).astype(np.uint32),
        *(created, updated),
    )


def unpack(block: bytes, size: int = SIZE) -> blocks.Unpacked:
    """What is in a packed block."""
    n, w, base = block[0], block[1], block[2] | block[3] << 8
    return blocks.unpack_columns(np.frombuffer(block, np.uint8), 4, n, w, base, size)


def twin_of(block: bytes, size: int = SIZE) -> list[list[int]] | None:
    return reference.unpack_columns(block, 4, block[0], block[1], block[2] | block[3] << 8, size)


def test_rates_round_as_their_twin_does() -> None:
    whole = np.arange(256, dtype=np.float32) / np.float32(255)
    halves = (np.arange(255, dtype=np.float32) + np.float32(0.5)) / np.float32(255)
    for rates in (whole, halves, np.random.default_rng(1).random(1_000, dtype=np.float32), whole[:0]):
        same(blocks.round_rates(rates), reference.round_rates(rates))


def test_counts_round_as_their_twin_does() -> None:
    counts = np.concatenate([np.arange(1, 5_000), np.geomspace(5_000, 1_000_000, 3_000).astype(np.int64)])
    same(blocks.round_counts(counts.astype(np.uint32)), reference.round_counts(counts))


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 100])
@pytest.mark.parametrize("seed", range(5))
def test_packed_columns_are_those_of_the_twin_and_are_read_back(n: int, seed: int) -> None:
    taken = columns(seed, n)
    packed, parted, order = blocks.pack_columns(*taken)
    head, tail, wanted_order = reference.pack_columns(*taken)
    assert (packed[:parted].tobytes(), packed[parted:].tobytes(), order.tolist()) == (head, tail, wanted_order)
    found, wanted = unpack(packed.tobytes()), twin_of(packed.tobytes())
    assert found.wrong == 0 and found.end == parted and wanted is not None
    assert as_lists(found) == wanted
    assert found.handles.tolist() == taken[0][order].tolist()


def as_lists(found: blocks.Unpacked) -> list[list[int]]:
    rates = np.rint(found.rates * 255).astype(np.int64)
    assert (found.rates == rates.astype(np.float32) / np.float32(255)).all()
    times = (found.created_at // blocks.DAY_S, found.updated_at // blocks.DAY_S)
    columns = (found.handles, found.numbers, rates, found.counts, found.prototypes.astype(np.int64), *times)
    return [*(column.tolist() for column in columns), [found.end]]


@pytest.mark.parametrize("seed", range(300))
def test_damaged_columns_are_told_or_within_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    packed, parted, _ = blocks.pack_columns(*columns(seed, int(rng.integers(1, 12))))
    damaged = bytearray(packed[:parted].tobytes())
    for at in rng.integers(0, len(damaged), rng.integers(1, 4)).tolist():
        damaged[at] = (int(rng.integers(256)), 0x80, 0xFF, 0)[rng.integers(4)]
    block = bytes(damaged[: rng.integers(4, len(damaged) + 1)] if rng.random() < 0.3 else damaged)
    found, wanted = unpack(block), twin_of(block)
    assert (found.wrong != 0) == (wanted is None)
    if wanted is not None:
        assert as_lists(found) == wanted


def test_every_wrong_has_its_name() -> None:
    handles, codes, ages = b"\1\1", b"\5\5", b"\0\0"
    good = (handles, b"\0\0", b"\0", b"\0\0", codes, b"\0", ages, b"\0\0")
    assert read(*good) == 0
    for place, bad, wrong in (
        (0, b"\1\0", blocks.HANDLE_TWICE),
        (2, b"\x40", blocks.WRONG_CENTROID),
        (4, b"\5\0", blocks.WRONG_COUNT),
        (4, b"\x90\5", blocks.WRONG_COUNT),
        (6, b"\0\3", blocks.WRONG_AGE),
        (6, b"\x80\x80\x80\0\0", blocks.WRONG_AGE),
        (7, b"\0\x80", blocks.WRONG_SINCE),
        (7, b"\xff\xff\x7f\0", blocks.WRONG_SINCE),
        (7, b"\0\6", blocks.WRONG_CREATED),
        (7, b"", blocks.WRONG_SINCE),
    ):
        assert read(*(bad if i == place else part for i, part in enumerate(good))) == wrong
    assert read(*good[:5]) == blocks.CUT_OFF


def read(*parts: bytes) -> int:
    """Two whole patterns, base is the third day of all."""
    return unpack(b"\2\2\2\0" + b"".join(parts)).wrong


@pytest.mark.parametrize("n", [0, 1, 2, 100])
@pytest.mark.parametrize("seed", range(4))
def test_contexts_are_numbered_as_by_the_twin(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = int(rng.integers(1, 300))
    occasions = [tuple(f"{word}" for word in rng.integers(0, 9, 3)) for _ in range(20)]
    hints = [tuple(f"{word}" for word in rng.integers(0, 400, rng.integers(0, 9))) for _ in range(kinds)]
    contexts = [(occasions[rng.integers(20)], hints[rng.integers(kinds)]) for _ in range(n)]
    known = np.zeros((n, blocks.CONTEXT_COLUMNS), np.int32)
    for row, (occasion, listed) in zip(known, contexts, strict=True):
        words = [int(word) for word in (*occasion, *listed)]
        row[:2] = occasions.index(occasion), hints.index(listed)
        row[2:5], row[5], row[6 : 6 + len(listed)] = words[:3], len(listed), words[3:]
    strings, told = blocks.number_contexts(known, np.arange(n, dtype=np.int32))
    assert ([str(string) for string in strings.tolist()], told.tobytes()) == reference.number_contexts(contexts)

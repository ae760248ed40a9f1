"""The twins of `kernels.blocks`: the same bytes, by lists and Python's integers."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def round_rates(rates: Array) -> Array:
    """255ths, halves to even."""
    return np.rint(rates * np.float32(255)).astype(np.uint8)


def round_counts(counts: Array) -> Array:
    """How many middles between neighbouring values are not above."""
    values = [code if code < 8 else (8 + code % 8) << (code // 8 - 1) for code in range(144)]
    middles = [(low + high) / 2 for low, high in itertools.pairwise(values)]
    return np.searchsorted(middles, counts, side="right").astype(np.uint8)


def pack_columns(
    handles: Array,
    whole: Array,
    prototypes: Array,
    numbers: Array,
    residuals: Array,
    rates: Array,
    counts: Array,
    created_at: Array,
    updated_at: Array,
) -> tuple[bytes, bytes, list[int]]:
    """Column by column; both parts."""
    order = sorted(range(len(handles)), key=lambda i: not whole[i])
    first = [i for i in order if whole[i]]
    updated, created = ([min(int(at) // 86_400, 65_535) for at in times[order]] for times in (updated_at, created_at))
    base, n = max(updated, default=0), len(order)
    high = [int(numbers[i]) >> 8 for i in first] + [0]
    kinds = sum(1 << order.index(place) for place in prototypes.tolist())
    since = [late - early for late, early in zip(updated, created, strict=True)]
    head = (
        *(bytes((n, len(first))), base.to_bytes(2, "little")),
        np.diff(handles[order].astype(np.int64), prepend=0).astype(np.uint8).tobytes(),
        bytes(int(numbers[i]) & 255 for i in first),
        bytes(high[k] + 16 * high[k + 1] for k in range(0, len(first), 2)),
        *(round_rates(rates[order]).tobytes(), round_counts(counts[order]).tobytes()),
        kinds.to_bytes((n + 7) // 8, "little"),
        *(varint(base - day) for day in updated),
        *(varint(2 * days if days >= 0 else -2 * days - 1) for days in since),
    )
    return b"".join(head), residuals[first].tobytes(), order


def unpack_columns(block: bytes, start: int, n: int, w: int, base: int, size: int) -> list[list[int]] | None:
    """Taken apart from the front: handles, numbers, rates in 255ths, counts, prototypes, days created and updated, and
    where they end; None if anything is wrong."""
    rest = iter(block[start:])
    columns = [list(itertools.islice(rest, count)) for count in (n, w, (w + 1) // 2, n, n, (n + 7) // 8)]
    if sum(map(len, columns)) < 3 * n + w + (w + 1) // 2 + (n + 7) // 8:
        return None
    differences, low, high, rates, codes, kinds = columns
    handles = [total % 256 for total in itertools.accumulate(differences)]
    numbers = [number + 256 * (high[k // 2] // 16 ** (k % 2) % 16) for k, number in enumerate(low)]
    ages, since = ([_read_varint(rest) for _ in range(n)] for _ in range(2))
    if len(set(handles)) < n or max(numbers, default=0) >= size or not all(1 <= code <= 143 for code in codes):
        return None
    if not all(0 <= age <= base for age in ages) or not all(0 <= folded <= 131_071 for folded in since):
        return None
    updated = [base - age for age in ages]
    created = [day + (f + 1) // 2 if f % 2 else day - f // 2 for day, f in zip(updated, since, strict=True)]
    if not all(0 <= day <= 65_535 for day in created):
        return None
    counts = [code if code < 8 else (8 + code % 8) << (code // 8 - 1) for code in codes]
    prototypes = [kinds[i // 8] >> i % 8 & 1 for i in range(n)]
    return [handles, numbers, rates, counts, prototypes, created, updated, [len(block) - len(list(rest))]]


def _read_varint(rest: Iterator[int]) -> int:
    """-1 for one that is longer than three bytes or cut off."""
    taken = [next(rest, 128)]
    while taken[-1] >= 128 and len(taken) < 3:
        taken.append(next(rest, 128))
    return sum(byte % 128 * 128**place for place, byte in enumerate(taken)) if taken[-1] < 128 else -1


def number_contexts(contexts: list[tuple[tuple[str, ...], tuple[str, ...]]]) -> tuple[list[str], bytes]:
    """Lists in which things are looked up."""
    occasions, hints = (list(dict.fromkeys(context[part] for context in contexts)) for part in (0, 1))
    strings = list(dict.fromkeys(itertools.chain(*occasions, *hints)))
    told = (
        bytes((len(occasions), len(hints))),
        *(varint(strings.index(string)) for listed in occasions for string in listed),
        bytes(map(len, hints)),
        *(varint(strings.index(string)) for listed in hints for string in listed),
        bytes(occasions.index(context[0]) for context in contexts),
        bytes(hints.index(context[1]) for context in contexts),
    )
    return strings, b"".join(told)


def varint(value: int) -> bytes:
    """LEB128."""
    return bytes((value,)) if value < 128 else bytes((value % 128 + 128,)) + varint(value // 128)

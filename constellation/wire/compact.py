"""Similar patterns and trends as packed blocks of bytes: what `embedding=compact` puts in their places in a reply.

The format is docs/compact.md. Pure functions of columns; `read_*` believe nothing: what they return has every number
within its bounds, whatever the bytes were; else they raise what the caller's `Refusal` makes. Called by `wire.sync` and
`wire.reply`.
"""

from collections.abc import Hashable
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from constellation import limits, rounding
from constellation.codebook import SIZE_MAX, STAMP_BYTES, Codebook, stamp
from constellation.errors import Problem
from constellation.limits import DAY_S
from constellation.model import DIM, Codes, Context, PatternBatch, Quantised, Residuals, Rows, Trend
from constellation.residuals import TABLES, Decoder, Quantiser
from constellation.wire.reading import Refusal, check_text
from kernels.codes import check_codes

FORMAT = 1

Value = TypeVar("Value", bound=Hashable)

_NUMBER_BITS = 12
_STRINGS_MAX = limits.SIMILAR_MAX * (3 + limits.GENRE_HINTS_MAX)
_VARINT_BYTES_MAX = 3
_OCCASION = attrgetter("time_of_day", "day_of_week", "content_type")
_HINTS, _REGION = attrgetter("genre_hints"), attrgetter("region")

assert 1 << _NUMBER_BITS >= SIZE_MAX
assert max(_STRINGS_MAX, 2 * rounding.DAY_MAX + 1) < 1 << 7 * _VARINT_BYTES_MAX
assert limits.CONTENT_ID_BYTES_MAX < 256 and limits.SIMILAR_MAX < 256 and limits.TRENDING_MAX < 256


class Held:
    """A codebook with a quantiser, ready to decode by."""

    def __init__(self, codebook: Codebook, quantiser: Quantiser) -> None:
        self.version, self.size, self.stamp = codebook.version, len(codebook), stamp(codebook)
        self._decoder = Decoder(codebook.codes, quantiser)

    def codes(self, numbers: Rows, residuals: Residuals) -> Codes:
        """(w, 384) of centroids (w,), below the size, and residuals (w, 30); 0 where they cancel out."""
        return self._decoder.decode(numbers, residuals)


class Similar(NamedTuple):
    """The columns of a block of n patterns, the first w of which are whole; rates, counts, times and contexts as in
    `model.PatternBatch`, rounded; codes are 0 for what is not whole."""

    handles: npt.NDArray[np.uint8]
    whole: npt.NDArray[np.bool_]
    codes: Codes
    rates: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint32]
    created_at: npt.NDArray[np.int64]
    updated_at: npt.NDArray[np.int64]
    contexts: list[Context]
    prototypes: npt.NDArray[np.bool_]


def write_similar(
    similar: PatternBatch,
    handles: npt.NDArray[np.uint8],
    whole: npt.NDArray[np.bool_],
    prototypes: list[int],
    quantised: Quantised,
) -> bytes:
    """The block of n patterns with handles (n,), of which whole (n,) come with their embedding, and first, and those at
    places `prototypes` are prototypes."""
    order = np.argsort(~whole, kind="stable")
    first = order[: np.count_nonzero(whole)]
    updated, created = rounding.days(similar.updated_at[order]), rounding.days(similar.created_at[order])
    base = int(updated.max(initial=0))
    is_prototype = np.zeros(len(order), np.bool_)
    is_prototype[prototypes] = True
    numbers = quantised.numbers[first]
    return b"".join((
        bytes((FORMAT,)), quantised.stamp, bytes((len(order), len(first))), base.to_bytes(2, "little"),
        _differences(handles[order]),
        numbers.astype(np.uint8).tobytes(), _nibbles(numbers >> 8),
        rounding.rate_bytes(similar.rates[order]).tobytes(),
        rounding.count_bytes(similar.counts[order]).tobytes(),
        np.packbits(is_prototype[order], bitorder="little").tobytes(),
        _varints(base - updated), _varints(_folded(updated - created)),
        _write_contexts([similar.contexts[place] for place in order.tolist()]),
        quantised.residuals[first].tobytes(),
    ))  # fmt: skip


def read_similar(block: bytes, held: Held, path: str, refuse: Refusal) -> Similar:
    """The columns of a block that was made with this codebook; `path` is where it was."""
    reader = _Reader(block, path, refuse)
    reader.byte(FORMAT, FORMAT, "format")
    if (came := reader.take(STAMP_BYTES)) != held.stamp:
        raise reader.wrong("stamp", f"{held.stamp.hex()}, that of codebook {held.version}", came.hex())
    n = reader.byte(0, limits.SIMILAR_MAX, "patterns")
    w = reader.byte(0, n, "whole patterns")
    base = int.from_bytes(reader.take(2), "little")
    handles = np.cumsum(reader.column(n), dtype=np.uint8)
    if len(set(handles.tolist())) != n:
        raise reader.wrong("handles", "each once", "one twice")
    numbers = reader.column(w).astype(np.int32) | _from_nibbles(reader.column((w + 1) // 2), w) << 8
    reader.check_all(numbers, 0, held.size - 1, "centroids")
    rates = rounding.rates_of(reader.column(n))
    counts = reader.column(n)
    reader.check_all(counts, 1, rounding.COUNT_CODE_MAX, "counts")
    prototypes = np.unpackbits(reader.column((n + 7) // 8), count=n, bitorder="little").astype(np.bool_)
    updated = base - reader.varints(n, 0, base, "age")
    created = updated - _unfolded(reader.varints(n, 0, 2 * rounding.DAY_MAX + 1, "time since creation"))
    reader.check_all(created, 0, rounding.DAY_MAX, "day of creation")
    contexts = _read_contexts(reader, n)
    codes = np.zeros((n, DIM), np.int8)
    codes[:w] = held.codes(numbers, reader.column(w * TABLES).reshape(w, TABLES))
    reader.end()
    if (zero := check_codes(codes[:w])) >= 0:
        raise reader.wrong("residuals", "a direction", f"a zero vector, the embedding of pattern {zero}")
    return Similar(
        handles=handles,
        whole=np.arange(n) < w,
        codes=codes,
        rates=rates,
        counts=rounding.counts_of(counts),
        created_at=created * DAY_S,
        updated_at=updated * DAY_S,
        contexts=contexts,
        prototypes=prototypes,
    )


def write_trends(trends: list[Trend]) -> bytes:
    """The block of a list of trends."""
    region_of = list(map(_REGION, trends))
    place_of = _numbered(region_of)
    scores = np.rint(np.array([trend.trending_score for trend in trends], np.float64) * 255).astype(np.uint8)
    ids = [trend.content_id.encode() for trend in trends]
    names = [region.encode() for region in place_of]
    return b"".join((
        bytes((FORMAT, len(trends), len(names))),
        bytes(map(len, names)), *names,
        bytes(map(place_of.__getitem__, region_of)),
        _differences(scores),
        bytes(map(len, ids)), *ids,
    ))  # fmt: skip


def read_trends(block: bytes, path: str, refuse: Refusal) -> list[Trend]:
    """The list in a block."""
    reader = _Reader(block, path, refuse)
    reader.byte(FORMAT, FORMAT, "format")
    n, r = (reader.byte(0, limits.TRENDING_MAX, part) for part in ("trends", "regions"))
    if r > n or (n and not r):
        raise reader.wrong("regions", f"1..{n}", str(r))
    names = reader.texts(reader.take(r), "region")
    regions = reader.column(n)
    reader.check_all(regions, 0, r - 1, "region of a trend")
    scores = np.cumsum(reader.column(n), dtype=np.uint8)
    lens = reader.column(n)
    reader.check_all(lens, 1, limits.CONTENT_ID_BYTES_MAX, "length of a content id")
    ids = reader.texts(lens.tobytes(), "content id")
    reader.end()
    columns = zip(ids, (scores / 255).tolist(), regions.tolist(), strict=True)
    return [Trend(content_id, score, names[region]) for content_id, score, region in columns]


def _write_contexts(contexts: list[Context]) -> bytes:
    """Every string once; every occasion (time, day, content type) and every tuple of hints once, by its strings; of
    each context which occasion and which hints."""
    texts: dict[str, int] = {}
    occasion_of, hints_of = list(map(_OCCASION, contexts)), list(map(_HINTS, contexts))
    occasions, hints = _numbered(occasion_of), _numbered(hints_of)
    of_occasions = [texts.setdefault(text, len(texts)) for occasion in occasions for text in occasion]
    of_hints = [texts.setdefault(text, len(texts)) for hint in hints for text in hint]
    encoded = [text.encode() for text in texts]
    return b"".join((
        _varints([len(encoded)]), bytes(map(len, encoded)), *encoded,
        bytes((len(occasions), len(hints))), _varints(of_occasions),
        bytes(map(len, hints)), _varints(of_hints),
        bytes(map(occasions.__getitem__, occasion_of)), bytes(map(hints.__getitem__, hints_of)),
    ))  # fmt: skip


def _numbered(values: list[Value]) -> dict[Value, int]:
    """Every value once -> its number, in the order of their first places."""
    return {value: number for number, value in enumerate(dict.fromkeys(values))}


def _read_contexts(reader: "_Reader", n: int) -> list[Context]:
    strings = int(reader.varints(1, 0, _STRINGS_MAX, "strings")[0])
    lens = reader.column(strings)
    reader.check_all(lens, 0, limits.CONTEXT_STRING_BYTES_MAX, "length of a string")
    texts = reader.texts(lens.tobytes(), "string")
    o, h = (reader.byte(min(n, 1), n, part) for part in ("occasions", "lists of hints"))
    words = [texts[i] for i in reader.varints(3 * o, 0, strings - 1, "string of an occasion").tolist()]
    occasions = list(zip(words[::3], words[1::3], words[2::3], strict=True))
    lens = reader.column(h)
    reader.check_all(lens, 0, limits.GENRE_HINTS_MAX, "hints")
    of_hints = [texts[i] for i in reader.varints(int(lens.sum()), 0, strings - 1, "string of a hint").tolist()]
    hints = [tuple(of_hints[start:end]) for start, end in pairwise(accumulate(lens.tolist(), initial=0))]
    occasion_of, hints_of = reader.column(n), reader.column(n)
    reader.check_all(occasion_of, 0, o - 1, "occasion of a pattern")
    reader.check_all(hints_of, 0, h - 1, "hints of a pattern")
    pairs = zip((occasions[i] for i in occasion_of.tolist()), (hints[i] for i in hints_of.tolist()), strict=True)
    return [Context(time, day, kind, listed) for (time, day, kind), listed in pairs]


class _Reader:
    """Takes a block apart from its beginning to its end."""

    def __init__(self, block: bytes, path: str, refuse: Refusal) -> None:
        self._block, self._at = block, 0
        self._path, self._refuse = path, refuse

    def take(self, count: int) -> bytes:
        start = self._at
        self._at += count
        if self._at > len(self._block):
            raise self.wrong("block", f"{count} bytes more at {start}", f"{len(self._block) - start}")
        return self._block[start : self._at]

    def column(self, count: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.take(count), np.uint8)

    def byte(self, low: int, high: int, part: str) -> int:
        return self._checked(self.take(1)[0], low, high, part)

    def varints(self, count: int, low: int, high: int, part: str) -> npt.NDArray[np.int64]:
        """LEB128, unsigned, of at most 3 bytes each."""
        ahead = np.frombuffer(self._block, np.uint8, offset=self._at)[: _VARINT_BYTES_MAX * count]
        if len(ahead) >= count and ahead[:count].max(initial=0) < 0x80:  # as nearly always
            self._at += count
            found = ahead[:count].astype(np.int64)
            self.check_all(found, low, high, part)
            return found
        return self._long_varints(ahead, count, low, high, part)

    def _long_varints(
        self, ahead: npt.NDArray[np.uint8], count: int, low: int, high: int, part: str
    ) -> npt.NDArray[np.int64]:
        ends = np.flatnonzero(ahead < 0x80)[:count]
        if len(ends) < count:
            raise self.wrong(part, f"{count} numbers", f"{len(ends)}")
        starts = np.concatenate(([0], ends[:-1] + 1))
        if (ends - starts).max() >= _VARINT_BYTES_MAX:
            raise self.wrong(part, f"numbers of at most {_VARINT_BYTES_MAX} bytes", "a longer one")
        found = np.zeros(count, np.int64)
        for place in range(int((ends - starts).max()) + 1):
            more = starts + place <= ends
            found[more] |= (ahead[starts[more] + place].astype(np.int64) & 0x7F) << 7 * place
        self._at += int(ends[-1]) + 1
        self.check_all(found, low, high, part)
        return found

    def texts(self, lens: bytes, part: str) -> list[str]:
        ends = list(accumulate(lens, initial=0))
        whole = self.take(ends[-1])
        try:
            if whole.isascii() and 0 not in whole:
                text = whole.decode("ascii")
                return [text[start:end] for start, end in pairwise(ends)]
            texts = [whole[start:end].decode() for start, end in pairwise(ends)]
        except UnicodeDecodeError as error:
            raise self.wrong(part, "UTF-8", str(error)) from None
        for text in texts:
            check_text(text, 0, 255, f"{self._path}: {part}", self._refuse)
        return texts

    def end(self) -> None:
        if self._at != len(self._block):
            raise self.wrong("block", f"{self._at} bytes", f"{len(self._block)}")

    def check_all(self, values: npt.NDArray[np.integer], low: int, high: int, part: str) -> None:
        if len(values):
            self._checked(int(values.max()), low, high, part)
            if low or values.dtype.kind == "i":
                self._checked(int(values.min()), low, high, part)

    def wrong(self, part: str, expected: str, got: str) -> Problem:
        """What to raise."""
        return self._refuse(f"{self._path}: {part}", expected, got)

    def _checked(self, value: int, low: int, high: int, part: str) -> int:
        if not low <= value <= high:
            raise self.wrong(part, f"{low}..{high}", str(value))
        return value


def _differences(values: npt.NDArray[np.uint8]) -> bytes:
    """Each less the one before, the first less 0, modulo 256."""
    differences = values.copy()
    differences[1:] -= values[:-1]
    return differences.tobytes()


def _nibbles(values: Rows) -> bytes:
    """(n,) below 16, two a byte, the first in the lower half."""
    padded = np.zeros(len(values) + len(values) % 2, np.uint8)
    padded[: len(values)] = values
    return (padded[::2] | padded[1::2] << 4).tobytes()


def _from_nibbles(both: npt.NDArray[np.uint8], count: int) -> Rows:
    halves: Rows = np.stack([both & 15, both >> 4], axis=1).ravel()[:count].astype(np.int32)
    return halves


def _varints(values: npt.NDArray[np.integer] | list[int]) -> bytes:
    listed = values if isinstance(values, list) else values.tolist()
    if max(listed, default=0) < 0x80:
        return bytes(listed)
    made = bytearray()
    for value in listed:
        while value >= 0x80:
            made.append(value & 0x7F | 0x80)
            value >>= 7
        made.append(value)
    return bytes(made)


def _folded(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0, -1, 1, -2 as 0, 1, 2, 3."""
    return np.where(values < 0, -2 * values - 1, 2 * values)


def _unfolded(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.where(values % 2, -(values + 1) // 2, values // 2)

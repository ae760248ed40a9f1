"""Similar patterns and trends as packed blocks of bytes: what `embedding=compact` puts in their places in a reply.

The format is docs/compact.md. Pure functions of columns; `read_*` believe nothing: what they return has every number
within its bounds, whatever the bytes were. Called by `wire.sync` and `wire.reply`.
"""

from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation import limits, rounding
from constellation.codebook import SIZE_MAX, STAMP_BYTES, Codebook, stamp
from constellation.limits import DAY_S
from constellation.model import DIM, Codes, Context, PatternBatch, Quantised, Residuals, Rows, Trend
from constellation.residuals import TABLES, Decoder, Quantiser
from constellation.wire.reading import check_text
from kernels.codes import check_codes

FORMAT = 1

_NUMBER_BITS = 12
_STRINGS_MAX = limits.SIMILAR_MAX * (3 + limits.GENRE_HINTS_MAX)
_VARINT_BYTES_MAX = 3
_AGE_MAX = rounding.DAY_MAX

assert 1 << _NUMBER_BITS >= SIZE_MAX
assert max(_STRINGS_MAX, 2 * _AGE_MAX + 1) < 1 << 7 * _VARINT_BYTES_MAX
assert limits.CONTENT_ID_BYTES_MAX < 256 and limits.SIMILAR_MAX < 256 and limits.TRENDING_MAX < 256


class WrongBlock(Exception):
    """Bytes that are no block: what was expected of which part, and what came."""

    def __init__(self, part: str, expected: str, got: str) -> None:
        super().__init__(f"{part}: expected {expected}, got {got}")
        self.part, self.expected, self.got = part, expected, got


class Similar(NamedTuple):
    """The columns of a block of n patterns, the first w of which are whole; rates, counts, times and contexts as in
    `model.PatternBatch`, rounded. numbers (w,), below the codebook's size, and residuals (w, 32) of the whole ones."""

    handles: npt.NDArray[np.uint8]
    whole: npt.NDArray[np.bool_]
    numbers: Rows
    residuals: Residuals
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
    place_of: dict[Context, int] = {}
    indices = bytes([place_of.setdefault(similar.contexts[i], len(place_of)) for i in order.tolist()])
    numbers = quantised.numbers[first]
    parts = [
        bytes((FORMAT,)), quantised.stamp, bytes((len(order), len(first), len(place_of))), base.to_bytes(2, "little"),
        np.diff(handles[order], prepend=np.uint8(0)).tobytes(),
        numbers.astype(np.uint8).tobytes(), _nibbles(numbers >> 8),
        quantised.residuals[first].tobytes(),
        rounding.rate_bytes(similar.rates[order]).tobytes(),
        rounding.count_bytes(similar.counts[order]).tobytes(),
        np.packbits(is_prototype[order], bitorder="little").tobytes(),
        indices,
        _varints(base - updated), _varints(_folded(updated - created)),
        _write_contexts(place_of),
    ]  # fmt: skip
    return b"".join(parts)


class Held:
    """A codebook with a quantiser, ready to decode by."""

    def __init__(self, codebook: Codebook, quantiser: Quantiser) -> None:
        self.version, self.size, self.stamp = codebook.version, len(codebook), stamp(codebook)
        self._decoder = Decoder(codebook.codes, quantiser)

    def codes(self, similar: Similar) -> Codes:
        """(n, 384), 0 for what is not whole. Raises `WrongBlock`."""
        codes = np.zeros((len(similar.handles), DIM), np.int8)
        first = len(similar.numbers)
        codes[:first] = self._decoder.decode(similar.numbers, similar.residuals)
        if (zero := check_codes(codes[:first])) >= 0:
            raise WrongBlock("residuals", "a direction", f"a zero vector, the embedding of pattern {zero}")
        return codes


def read_similar(block: bytes, held: Held) -> Similar:
    """The columns of a block that was made with this codebook. Raises `WrongBlock`."""
    reader = _Reader(block)
    _check_format(reader)
    if (came := reader.take(STAMP_BYTES)) != held.stamp:
        raise WrongBlock("stamp", f"{held.stamp.hex()}, that of codebook {held.version}", came.hex())
    n, w, c = (reader.byte(0, limits.SIMILAR_MAX, part) for part in ("patterns", "whole patterns", "contexts"))
    if w > n or c > n or (n and not c):
        raise WrongBlock("counts", f"at most {n} whole patterns and 1..{n} contexts", f"{w} and {c}")
    base = int.from_bytes(reader.take(2), "little")
    handles = np.cumsum(reader.column(n), dtype=np.uint8)
    if len(np.unique(handles)) != n:
        raise WrongBlock("handles", "each once", "one twice")
    numbers = reader.column(w).astype(np.int32) | _from_nibbles(reader.take((w + 1) // 2), w) << 8
    _check_all(numbers, 0, held.size - 1, "centroids")
    residuals = reader.column(w * TABLES).reshape(w, TABLES)
    rates = rounding.rates_of(reader.column(n))
    counts = reader.column(n)
    _check_all(counts, 1, rounding.COUNT_CODE_MAX, "counts")
    prototypes = np.unpackbits(reader.column((n + 7) // 8), count=n, bitorder="little").astype(np.bool_)
    indices = reader.column(n)
    _check_all(indices, 0, c - 1, "context of a pattern")
    updated = base - reader.varints(n, 0, base, "age")
    created = updated - _unfolded(reader.varints(n, 0, 2 * _AGE_MAX + 1, "time since creation"))
    _check_all(created, 0, rounding.DAY_MAX, "day of creation")
    contexts = _read_contexts(reader, c)
    reader.end()
    return Similar(
        handles=handles,
        whole=np.arange(n) < w,
        numbers=numbers,
        residuals=residuals,
        rates=rates,
        counts=rounding.counts_of(counts),
        created_at=created * DAY_S,
        updated_at=updated * DAY_S,
        contexts=[contexts[i] for i in indices.tolist()],
        prototypes=prototypes,
    )


def write_trends(trends: list[Trend]) -> bytes:
    """The block of a list of trends."""
    place_of: dict[str, int] = {}
    regions = bytes([place_of.setdefault(trend.region, len(place_of)) for trend in trends])
    scores = np.rint(np.array([trend.trending_score for trend in trends], np.float64) * 255).astype(np.uint8)
    ids = [trend.content_id.encode() for trend in trends]
    names = [region.encode() for region in place_of]
    return b"".join((
        bytes((FORMAT, len(trends), len(names))),
        bytes(map(len, names)), *names,
        regions,
        np.diff(scores, prepend=np.uint8(0)).tobytes(),
        bytes(map(len, ids)), *ids,
    ))  # fmt: skip


def read_trends(block: bytes) -> list[Trend]:
    """Raises `WrongBlock`."""
    reader = _Reader(block)
    _check_format(reader)
    n, r = (reader.byte(0, limits.TRENDING_MAX, part) for part in ("trends", "regions"))
    if r > n or (n and not r):
        raise WrongBlock("regions", f"1..{n}", str(r))
    names = reader.texts(reader.take(r), "region")
    regions = reader.column(n)
    _check_all(regions, 0, r - 1, "region of a trend")
    scores = np.cumsum(reader.column(n), dtype=np.uint8)
    lens = reader.column(n)
    _check_all(lens, 1, limits.CONTENT_ID_BYTES_MAX, "length of a content id")
    ids = reader.texts(lens.tobytes(), "content id")
    reader.end()
    columns = zip(ids, (scores / 255).tolist(), regions.tolist(), strict=True)
    return [Trend(content_id, score, names[region]) for content_id, score, region in columns]


def _write_contexts(contexts: dict[Context, int]) -> bytes:
    """The strings of all, each once, and of each context which they are."""
    place_of: dict[str, int] = {}

    def index(text: str) -> int:
        return place_of.setdefault(text, len(place_of))

    made: list[int] = []
    for each in contexts:
        made += (index(each.time_of_day), index(each.day_of_week), index(each.content_type), len(each.genre_hints))
        made += map(index, each.genre_hints)
    texts = [text.encode() for text in place_of]
    return _varints(np.array([len(texts)])) + bytes(map(len, texts)) + b"".join(texts) + _varints(np.array(made, int))


def _read_contexts(reader: "_Reader", count: int) -> list[Context]:
    strings = reader.varint(0, _STRINGS_MAX, "strings")
    lens = reader.column(strings)
    _check_all(lens, 0, limits.CONTEXT_STRING_BYTES_MAX, "length of a string")
    texts = reader.texts(lens.tobytes(), "string")

    def text() -> str:
        return texts[reader.varint(0, strings - 1, "string of a context")]

    made = []
    for _ in range(count):
        words = text(), text(), text()
        hints = reader.varint(0, limits.GENRE_HINTS_MAX, "genre hints")
        made.append(Context(*words, tuple(text() for _ in range(hints))))
    return made


class _Reader:
    """Takes a block apart from its beginning to its end."""

    def __init__(self, block: bytes) -> None:
        self._block, self._at = block, 0

    def take(self, count: int) -> bytes:
        start = self._at
        self._at += count
        if self._at > len(self._block):
            raise WrongBlock("block", f"{count} bytes more at {start}", f"{len(self._block) - start}")
        return self._block[start : self._at]

    def column(self, count: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.take(count), np.uint8)

    def byte(self, low: int, high: int, part: str) -> int:
        return _checked(self.take(1)[0], low, high, part)

    def varint(self, low: int, high: int, part: str) -> int:
        """LEB128, unsigned, of at most 3 bytes."""
        value = 0
        for place in range(_VARINT_BYTES_MAX):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return _checked(value, low, high, part)
        raise WrongBlock(part, f"a number of at most {_VARINT_BYTES_MAX} bytes", "a longer one")

    def varints(self, count: int, low: int, high: int, part: str) -> npt.NDArray[np.int64]:
        short = np.frombuffer(self._block[self._at : self._at + count], np.uint8)
        if len(short) == count and short.max(initial=0) < 0x80:
            self._at += count
            found = short.astype(np.int64)
            _check_all(found, low, high, part)
            return found
        return np.array([self.varint(low, high, part) for _ in range(count)], np.int64)

    def texts(self, lens: bytes, part: str) -> list[str]:
        ends = list(accumulate(lens, initial=0))
        whole = self.take(ends[-1])
        try:
            if whole.isascii() and 0 not in whole:
                text = whole.decode("ascii")
                return [text[start:end] for start, end in pairwise(ends)]
            texts = [whole[start:end].decode() for start, end in pairwise(ends)]
        except UnicodeDecodeError as error:
            raise WrongBlock(part, "UTF-8", str(error)) from None
        for text in texts:
            check_text(text, 0, 255, part, WrongBlock)
        return texts

    def end(self) -> None:
        if self._at != len(self._block):
            raise WrongBlock("block", f"{self._at} bytes", f"{len(self._block)}")


def _check_format(reader: _Reader) -> None:
    reader.byte(FORMAT, FORMAT, "format")


def _checked(value: int, low: int, high: int, part: str) -> int:
    if not low <= value <= high:
        raise WrongBlock(part, f"{low}..{high}", str(value))
    return value


def _check_all(values: npt.NDArray[np.integer], low: int, high: int, part: str) -> None:
    if len(values):
        _checked(int(values.min()), low, high, part)
        _checked(int(values.max()), low, high, part)


def _nibbles(values: Rows) -> bytes:
    """(n,) below 16, two a byte, the first in the lower half."""
    padded = np.zeros(len(values) + len(values) % 2, np.uint8)
    padded[: len(values)] = values
    return (padded[::2] | padded[1::2] << 4).tobytes()


def _from_nibbles(packed: bytes, count: int) -> Rows:
    both = np.frombuffer(packed, np.uint8)
    halves: Rows = np.stack([both & 15, both >> 4], axis=1).ravel()[:count].astype(np.int32)
    return halves


def _varints(values: npt.NDArray[np.integer]) -> bytes:
    if values.max(initial=0) < 0x80:
        return values.astype(np.uint8).tobytes()
    made = bytearray()
    for value in values.tolist():
        while value >= 0x80:
            made.append(value & 0x7F | 0x80)
            value >>= 7  # noqa: PLW2901
        made.append(value)
    return bytes(made)


def _folded(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0, -1, 1, -2 as 0, 1, 2, 3."""
    return np.where(values < 0, -2 * values - 1, 2 * values)


def _unfolded(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.where(values % 2, -(values + 1) // 2, values // 2)

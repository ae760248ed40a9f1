"""Similar patterns and trends as packed blocks of bytes: what `embedding=compact` puts in their places in a reply.

The format is docs/compact.md. Pure functions of columns; `read_*` believe nothing: what they return has every number
within its bounds, whatever the bytes were; else they raise what the caller's `Refusal` makes. Called by `wire.sync` and
`wire.reply`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation import limits
from constellation.codebook import SIZE_MAX, STAMP_BYTES, Codebook, stamp
from constellation.errors import Problem
from constellation.model import DIM, Codes, Context, PatternBatch, Quantised, Residuals, Rows, Trend
from constellation.residuals import TABLES, Decoder, Quantiser
from constellation.wire.contexts import read_contexts, write_contexts
from constellation.wire.pieces import Pieces, differences, sums
from constellation.wire.reading import Refusal
from kernels import blocks
from kernels.codes import check_codes

FORMAT = 1
_NUMBER_BITS = 12

assert 1 << _NUMBER_BITS >= SIZE_MAX
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
    columns, parted, order = blocks.pack_columns(
        *(handles, whole, np.array(prototypes, np.int64), quantised.numbers, quantised.residuals),
        *(similar.rates, similar.counts, similar.created_at, similar.updated_at),
    )
    packed = columns.tobytes()
    head = bytes((FORMAT,)) + quantised.stamp
    return b"".join((head, packed[:parted], write_contexts(similar.contexts, order), packed[parted:]))


def read_similar(block: bytes, held: Held, path: str, refuse: Refusal) -> Similar:
    """The columns of a block that was made with this codebook; `path` is where it was."""
    pieces = Pieces(block, path, refuse)
    pieces.byte(FORMAT, FORMAT, "format")
    if (came := pieces.take(STAMP_BYTES)) != held.stamp:
        raise pieces.wrong("stamp", f"{held.stamp.hex()}, that of codebook {held.version}", came.hex())
    n = pieces.byte(0, limits.SIMILAR_MAX, "patterns")
    w = pieces.byte(0, n, "whole patterns")
    base = int.from_bytes(pieces.take(2), "little")
    columns = blocks.unpack_columns(np.frombuffer(block, np.uint8), pieces.at, n, w, base, held.size)
    if columns.wrong:
        raise _wrong(columns, pieces, base, held)
    pieces.at = columns.end
    contexts = read_contexts(pieces, n)
    residuals = np.frombuffer(bytearray(pieces.take(w * TABLES)), np.uint8).reshape(w, TABLES)
    pieces.end()
    codes = held.codes(columns.numbers, residuals)
    if (zero := check_codes(codes)) >= 0:
        raise pieces.wrong("residuals", "a direction", f"a zero vector, the embedding of pattern {zero}")
    return Similar(
        handles=columns.handles,
        whole=np.arange(n) < w,
        codes=codes if w == n else np.concatenate([codes, np.zeros((n - w, DIM), np.int8)]),
        rates=columns.rates,
        counts=columns.counts,
        created_at=columns.created_at,
        updated_at=columns.updated_at,
        contexts=contexts,
        prototypes=columns.prototypes,
    )


def _wrong(columns: blocks.Unpacked, pieces: Pieces, base: int, held: Held) -> Problem:
    """What to raise for columns that are not what they should be."""
    part, expected = {
        blocks.CUT_OFF: ("block", f"{columns.end} bytes at least"),
        blocks.HANDLE_TWICE: ("handles", "each once"),
        blocks.WRONG_CENTROID: ("centroids", f"0..{held.size - 1}"),
        blocks.WRONG_COUNT: ("counts", f"1..{blocks.COUNT_CODE_MAX}"),
        blocks.WRONG_AGE: ("age", f"0..{base}, in at most {blocks.VARINT_BYTES_MAX} bytes"),
        blocks.WRONG_SINCE: (
            "time since creation",
            f"0..{blocks.SINCE_MAX}, in at most {blocks.VARINT_BYTES_MAX} bytes",
        ),
        blocks.WRONG_CREATED: ("day of creation", f"0..{blocks.DAY_MAX}"),
    }[columns.wrong]
    return pieces.wrong(part, expected, str(columns.got))


def write_trends(trends: list[Trend]) -> bytes:
    """The block of a list of trends. The same list goes to everybody for a while: it is written once."""
    known = _written.get(len(trends))
    if known is None or known[0] != trends:
        known = _written[len(trends)] = trends, _write_trends(trends)
    return known[1]


_written: dict[int, tuple[list[Trend], bytes]] = {}
"""Number of trends -> those that were written last, and their block."""


def _write_trends(trends: list[Trend]) -> bytes:
    numbers = {region: number for number, region in enumerate(dict.fromkeys(trend.region for trend in trends))}
    ids = [trend.content_id.encode() for trend in trends]
    names = [region.encode() for region in numbers]
    return b"".join((
        bytes((FORMAT, len(trends), len(names))),
        bytes(map(len, names)), *names,
        bytes(numbers[trend.region] for trend in trends),
        differences(round(trend.trending_score * blocks.RATE_MAX) for trend in trends),
        bytes(map(len, ids)), *ids,
    ))  # fmt: skip


def read_trends(block: bytes, path: str, refuse: Refusal) -> list[Trend]:
    """The list in a block."""
    pieces = Pieces(block, path, refuse)
    pieces.byte(FORMAT, FORMAT, "format")
    n, r = (pieces.byte(0, limits.TRENDING_MAX, part) for part in ("trends", "regions"))
    if r > n or (n and not r):
        raise pieces.wrong("regions", f"1..{n}", str(r))
    names = pieces.texts(pieces.take(r), "region")
    regions = pieces.column(n, 0, r - 1, "region of a trend")
    scores = sums(pieces.take(n))
    ids = pieces.texts(pieces.column(n, 1, limits.CONTENT_ID_BYTES_MAX, "length of a content id"), "content id")
    pieces.end()
    columns = zip(ids, scores, regions, strict=True)
    return [Trend(content_id, score / blocks.RATE_MAX, names[region]) for content_id, score, region in columns]

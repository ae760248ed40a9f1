"""Answers for compact replies: random columns with a codebook, and how hostile bytes are made of good ones."""

import numpy as np

from constellation.codebook import default_codebook
from constellation.limits import SIMILAR_MAX, TRENDING_MAX
from constellation.model import DIM, ID_BYTES, Context, PatternBatch, Quantised, Trend
from constellation.residuals import Encoder
from constellation.wire import compact
from constellation.wire.compact import Held
from kernels.codes import inverse_norms, quantise

BOOK = default_codebook()
assert BOOK.quantiser is not None
HELD = Held(BOOK, BOOK.quantiser)
ENCODER = Encoder(BOOK.codes, BOOK.quantiser)
NOW_S = 1_760_000_000

_WORDS = ("morning", "evening", "weekend", "movie", "series", "", "ночь", "夜" * 10, "x" * 32, *"abcdefghij")


def batch(n: int, rng: np.random.Generator) -> PatternBatch:
    """n patterns of any age and context, around the centroids."""
    near = BOOK.codes[rng.integers(0, len(BOOK), n)].astype(np.float32)
    codes = quantise((near + 20 * rng.standard_normal((n, DIM))).astype(np.float32))
    updated = NOW_S - (rng.exponential(30, n) * 86_400).astype(np.int64) * rng.integers(0, 2, n)
    return PatternBatch(
        ids=rng.integers(0, 256, (n, ID_BYTES), dtype=np.uint8),
        codes=codes,
        rates=rng.random(n, dtype=np.float32),
        counts=np.minimum(np.exp(rng.uniform(0, 14, n)), 1_000_000).astype(np.uint32),
        created_at=updated - (rng.normal(0, 100, n) * 86_400).astype(np.int64),
        updated_at=updated,
        contexts=[_context(rng) for _ in range(n)],
    )


def quantised(patterns: PatternBatch) -> Quantised:
    numbers = BOOK.buckets(patterns.codes)
    return Quantised(HELD.stamp, numbers, ENCODER.encode(patterns.codes, inverse_norms(patterns.codes), numbers))


def similar_block(seed: int, n: int | None = None) -> bytes:
    """A block of n patterns, or of a random number, some of them whole and some prototypes."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, SIMILAR_MAX + 1)) if n is None else n
    patterns, handles = batch(n, rng), rng.permutation(256)[:n].astype(np.uint8)
    whole, prototypes = rng.random(n) < rng.random(), np.flatnonzero(rng.random(n) < 0.2).tolist()
    return compact.write_similar(patterns, handles, whole, prototypes, quantised(patterns))


def trends(n: int, rng: np.random.Generator) -> list[Trend]:
    regions = ("europe", "global", "")
    scores = -np.sort(-rng.random(n))
    return [Trend(f"film:{rng.integers(1_000_000_000)}", float(score), regions[rng.integers(3)]) for score in scores]


def trends_block(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return compact.write_trends(trends(int(rng.integers(0, TRENDING_MAX + 1)), rng))


def damaged(block: bytes, rng: np.random.Generator) -> bytes:
    """The block cut off, with some bytes changed, or with some put in or taken out."""
    made = bytearray(block)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(made[: rng.integers(len(made))])
    for _ in range(rng.integers(1, 4)):
        # The numbers that say how long things are lie in the first bytes, and behind the columns.
        at = int(rng.integers(min(len(made), 12) if rng.random() < 0.3 else len(made)))
        if kind == 1:
            made[at] ^= 1 << rng.integers(8)
        elif kind == 2:
            made[at] = rng.integers(256)
        elif rng.random() < 0.5:
            made.insert(at, rng.integers(256))
        else:
            del made[at]
    return bytes(made)


def _context(rng: np.random.Generator) -> Context:
    words = [_WORDS[i] for i in rng.integers(0, len(_WORDS), 3 + rng.integers(0, 9))]
    return Context(words[0], words[1], words[2], tuple(words[3:]))

"""Do patterns that resemble each other meet in one bucket?

What shards add up together goes by bucket: patterns that resemble each other should share one, and patterns of unlike
films should not. Beside a codebook stand two bucketings that need no training: the one of the earlier design, which
hashes the first 8 dimensions in 256 levels each, and SimHash, the signs of 16 random projections (Charikar, STOC 2002).
The codebook is trained on patterns of some films; all are measured on patterns of others.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench import workload
from bench.plan import Answers, Note, Plan
from bench.report import Row, Target, Yardstick, at_least
from constellation import codebook
from constellation.fleet.households import Vectors
from kernels.codes import dequantise, inverse_norms

Buckets = npt.NDArray[np.int64]
"""(n,) int64: which bucket each pattern is in, 0 up to their number."""

SIZE = 1_024
SAMPLES_PER_CENTROID = 32
MEASURED_MAX = 10_000
NEAR = 0.9
NEAR_TOGETHER_MIN = 0.7
RATIO_ANYWHERE_MIN = 2.0

_ROWS_A_BLOCK = 1_000


def measure(plan: Plan) -> Answers:
    rng = plan.rng("grouping")
    library = workload.load_library(plan.patterns, plan.seed)
    size = min(SIZE, plan.patterns // SAMPLES_PER_CENTROID)
    samples = library.known.patterns(library.known.draw(size * SAMPLES_PER_CENTROID, rng), rng)
    trained = codebook.train(samples, size, version=1, seed=plan.seed)
    films = library.unseen.draw(min(plan.patterns, MEASURED_MAX), rng)
    codes = library.unseen.patterns(films, rng)
    vectors = dequantise(codes, inverse_norms(codes))
    judge = Judge(vectors, library.unseen.genres[films])
    simhash = judge.grouping(_signs(vectors, rng))
    yield from _rows(f"codebook of {size:,}", judge.grouping(trained.buckets(codes)), simhash)
    yield from _rows("codebook that ships", judge.grouping(codebook.default_codebook().buckets(codes)))
    yield from _rows("first 8 dimensions", judge.grouping(_levels(vectors)))
    yield from _rows("SimHash, 16 bits", simhash)
    yield Note(f"{len(codes):,} patterns, {judge.pairs:,} pairs of them that near")
    yield Note(f"the codebook of {size:,} saw none of their films, the one that ships those of the shipped catalogue")
    yield Note("purity: the share of patterns that are not alone in their bucket and of its most frequent genre")


class Grouping(NamedTuple):
    """What a bucketing does: shares 0..1, and how it divides the patterns."""

    near_together: float
    purity: float
    buckets: int
    largest: int


class Judge:
    """Knows which of n patterns are near each other, by vectors (n, 384), and of which genres (n,) they are."""

    def __init__(self, vectors: Vectors, genres: npt.NDArray[np.int32]) -> None:
        self._genres = genres
        self._near = np.concatenate(list(_near_pairs(vectors)))
        self.pairs = len(self._near)

    def grouping(self, named: npt.NDArray[np.integer]) -> Grouping:
        """Of a bucketing (n,) by any numbers."""
        _, buckets, sizes = np.unique(named, return_inverse=True, return_counts=True)
        return Grouping(
            near_together=float(np.mean(buckets[self._near[:, 0]] == buckets[self._near[:, 1]])),
            purity=self._purity(buckets, sizes),
            buckets=len(sizes),
            largest=int(sizes.max()),
        )

    def _purity(self, buckets: Buckets, sizes: Buckets) -> float:
        """Manning, Raghavan, Schuetze, Introduction to Information Retrieval, 16.3; but for those who are alone."""
        of_genre = np.zeros((len(sizes), self._genres.max() + 1), np.int64)
        np.add.at(of_genre, (buckets, self._genres), 1)
        return float(of_genre.max(axis=1)[sizes > 1].sum() / len(buckets))


def _near_pairs(vectors: Vectors) -> list[npt.NDArray[np.int64]]:
    """All pairs (m, 2) whose cosine is at least NEAR, in pieces."""
    pieces = []
    for start in range(0, len(vectors), _ROWS_A_BLOCK):
        one, other = np.nonzero(vectors[start : start + _ROWS_A_BLOCK] @ vectors.T >= NEAR)
        pairs = np.stack([one + start, other], axis=1)
        pieces.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return pieces


def _levels(vectors: Vectors) -> npt.NDArray[np.uint64]:
    """The earlier design: each of 8 dimensions as one of 256 levels from -1 to 1; a hash of them parts the same."""
    levels = np.minimum((vectors[:, :8] + 1) * 128, 255).astype(np.uint8)
    return levels.view(np.uint64)[:, 0]


def _signs(vectors: Vectors, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    bits: npt.NDArray[np.bool_] = vectors @ rng.standard_normal((vectors.shape[1], 16), dtype=np.float32) > 0
    return bits @ (1 << np.arange(16))


def _rows(name: str, made: Grouping, simhash: Grouping | None = None) -> list[Row]:
    """A bucketing's two rows; with SimHash beside them, they are held to something."""
    divided = f"{made.buckets:,} buckets, largest {made.largest:,}"
    near = Row(
        name=f"{name}: pairs with cosine >= {NEAR} in one bucket",
        value=made.near_together,
        unit="",
        quality=divided,
        yardstick=simhash and Yardstick("SimHash", simhash.near_together),
        target=at_least(NEAR_TOGETHER_MIN) if simhash else None,
        gate=Target(">=", RATIO_ANYWHERE_MIN, of="ratio") if simhash else None,
    )
    pure = Row(
        name=f"{name}: genre purity",
        value=made.purity,
        unit="",
        quality=divided,
        yardstick=simhash and Yardstick("SimHash", simhash.purity),
    )
    return [near, pure]

"""How a household's taste becomes patterns: the recipe behind every simulated TV and every benchmark.

Pure functions of arrays and a generator: the same seed gives the same patterns. `bench/workload.py` makes a million
patterns with them, `fleet.tv` a handful at a time.
"""

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""(n, 384) float32 unit vectors."""
Films = npt.NDArray[np.int32]
"""Rows of the catalogue, or of whatever stands in for it."""

NEIGHBOURS = 40
"""Films that count as near to a film."""
BLENDED_MAX = 4
"""Neighbours that enter one pattern at most."""
NOISE = np.float32(0.012)
"""Standard deviation of the noise in each dimension, as a share of the sum's norm."""
INTERESTS_MAX = 3
"""Interests of one household at most."""
FAVOURITE_SHARE = 0.5
"""How often a household watches the very film of an interest; else one near it."""

_ROWS_A_BLOCK = 2_000


def neighbour_table(vectors: Vectors) -> npt.NDArray[np.int32]:
    """(n, 40) int32: the nearest other films of each film by cosine, in no order. n > 40; O(n^2), 0.3 s for 3,200."""
    table = np.empty((len(vectors), NEIGHBOURS), np.int32)
    for start in range(0, len(vectors), _ROWS_A_BLOCK):
        cosines = vectors[start : start + _ROWS_A_BLOCK] @ vectors.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -2
        table[start : start + len(cosines)] = np.argpartition(cosines, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
    return table


def make_patterns(
    embeddings: Vectors, neighbours: npt.NDArray[np.int32], films: Films, rng: np.random.Generator
) -> Vectors:
    """(m, 384) unit vectors, one pattern per film of `films` (m,): that film and none to four of its neighbours, each
    with a uniform random weight, plus Gaussian noise."""
    count = len(films)
    sums = embeddings[films] * (1 - rng.random((count, 1), dtype=np.float32))
    blended = rng.integers(0, BLENDED_MAX, size=count, endpoint=True)
    for number in range(BLENDED_MAX):
        weights = rng.random((count, 1), dtype=np.float32) * (blended > number)[:, None]
        sums += weights * embeddings[neighbours[films, rng.integers(0, neighbours.shape[1], size=count)]]
    sums += rng.standard_normal(sums.shape, dtype=np.float32) * (NOISE * np.linalg.norm(sums, axis=1, keepdims=True))
    normalised: Vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return normalised


def draw_interests(popularity: npt.NDArray[np.float64], rng: np.random.Generator) -> Films:
    """One to three distinct films, drawn with probability proportional to `popularity` (n,), which sums to 1."""
    count = int(rng.integers(1, INTERESTS_MAX, endpoint=True))
    return rng.choice(len(popularity), size=count, replace=False, p=popularity).astype(np.int32)


def watch(neighbours: npt.NDArray[np.int32], interests: Films, count: int, rng: np.random.Generator) -> Films:
    """(count,) films that a household with these interests watches: as often one of them as a neighbour of one."""
    chosen = interests[rng.integers(0, len(interests), size=count)]
    near = neighbours[chosen, rng.integers(0, neighbours.shape[1], size=count)]
    return np.where(rng.random(count) < FAVOURITE_SHARE, chosen, near).astype(np.int32)

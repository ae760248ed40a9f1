"""Micro-benchmarks of the hot kernels: `pytest tests/bench/test_kernels.py --benchmark-enable` times them.

Otherwise each runs once, so that they keep working.
"""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from constellation.shard.similarity import SimilarityIndex
from kernels import centroids, codes, scan

ROWS = 20_000
DIM = 384


@pytest.fixture(scope="module")
def column() -> codes.Codes:
    return codes.quantise(np.random.default_rng(1).standard_normal((ROWS, DIM)).astype(np.float32))


def test_quantise_100_vectors(benchmark: BenchmarkFixture) -> None:
    vectors = np.random.default_rng(2).standard_normal((100, DIM)).astype(np.float32)
    assert benchmark(codes.quantise, vectors).shape == (100, DIM)


def test_scan_rows_for_the_top_100(benchmark: BenchmarkFixture, column: codes.Codes) -> None:
    inverse = codes.inverse_norms(column)
    rows = np.arange(ROWS, dtype=np.int32)
    found, _ = benchmark(scan.scan_top_k, column, inverse, rows, column[0], inverse[0], 100)
    assert found[0] == 0


def test_nearest_of_1024_centroids(benchmark: BenchmarkFixture, column: codes.Codes) -> None:
    some = column[:1024].copy()
    inverse = codes.inverse_norms(some)
    coarse = centroids.coarsen(some, inverse)
    nearest = benchmark(centroids.nearest_centroid, column[5:6].copy(), some, inverse, *coarse)
    assert nearest.tolist() == [5]


def test_pairwise_cosines_of_one_household(benchmark: BenchmarkFixture, column: codes.Codes) -> None:
    rows = np.arange(32, dtype=np.int32)
    cosines = benchmark(scan.pairwise_cosine, column, codes.inverse_norms(column), rows)
    assert np.allclose(np.diag(cosines), 1)


def test_index_search_for_100(benchmark: BenchmarkFixture, column: codes.Codes) -> None:
    index = SimilarityIndex(column, codes.inverse_norms(column))
    for row in range(ROWS // 10):
        index.add(row)
    found, _ = benchmark(index.search, column[3], 100)
    assert found[0] == 3

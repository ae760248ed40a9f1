"""K-means: seeds and rounds against their twins, empty clusters, and that it finds clusters that are there."""

import itertools

import numpy as np
import pytest

from kernels import codes as coding
from kernels import kmeans, reference
from kernels.scan import Codes
from tests.kernels.material import DIM, SHORT, random_codes, same, unit


def clustered(seed: int, clusters: int, each: int, d: int) -> Codes:
    """`each` codes near each of `clusters` random directions, cluster by cluster."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.standard_normal((clusters, d)), each, axis=0)
    return coding.quantise((centres + 0.1 * rng.standard_normal(centres.shape)).astype(np.float32))


def fitted(codes: Codes, k: int, rounds: int) -> kmeans.Round:
    inv = coding.inverse_norms(codes)
    made = kmeans.lloyd(codes, inv, codes[list(kmeans.plus_plus(codes, inv, k, np.random.default_rng(1)))])
    for _ in range(rounds):
        made = kmeans.lloyd(codes, inv, made.centroids)
    return made


@pytest.mark.parametrize("k", [1, 2, 9])
@pytest.mark.parametrize("seed", range(4))
def test_seeds_agree_with_twin(seed: int, k: int) -> None:
    codes = random_codes(seed, 40)
    got = list(kmeans.plus_plus(codes, unit(codes), k, np.random.default_rng(seed)))
    assert got == reference.plus_plus(codes, unit(codes), k, np.random.default_rng(seed))


def test_every_different_code_is_a_seed_before_one_comes_twice() -> None:
    codes = np.repeat(clustered(3, 6, 1, DIM), 5, axis=0)
    drawn = list(kmeans.plus_plus(codes, coding.inverse_norms(codes), 8, np.random.default_rng(0)))
    assert {row // 5 for row in drawn[:6]} == set(range(6))
    assert len(drawn) == 8, "and it ends though nothing is left to draw"


@pytest.mark.parametrize("k", [1, 3, 12])
@pytest.mark.parametrize("seed", range(4))
def test_round_agrees_with_twin(seed: int, k: int) -> None:
    codes = random_codes(seed, 30)
    centroids = random_codes(seed + 50, k)
    for _ in range(3):
        made = kmeans.lloyd(codes, unit(codes), centroids)
        moved, nearest, cosine = reference.lloyd(codes, unit(codes), centroids)
        same(made.centroids, moved)
        same(made.nearest, nearest)
        assert made.cosine == pytest.approx(cosine, abs=1e-9)
        centroids = moved


def test_centroid_without_codes_becomes_the_farthest_code() -> None:
    codes = np.zeros((4, SHORT), np.int8)
    codes[:, 0] = 127
    codes[:, 1] = [0, 10, 20, 90]
    centroids = np.repeat(codes[:1], 3, axis=0)  # of equal ones the first is nearest to all
    made = kmeans.lloyd(codes, unit(codes), centroids)
    assert not made.nearest.any()
    same(made.centroids[1:], codes[[3, 2]])
    assert kmeans.lloyd(codes, unit(codes), made.centroids).nearest.tolist() == [2, 2, 2, 1]


def test_codes_that_cancel_out_leave_no_zero_centroid() -> None:
    codes = np.zeros((2, SHORT), np.int8)
    codes[:, 0] = [127, -127]
    across = np.zeros((1, SHORT), np.int8)
    across[0, 1] = 127
    same(kmeans.lloyd(codes, unit(codes), across).centroids, codes[:1])


def test_clusters_that_are_there_are_found() -> None:
    made = fitted(clustered(5, 6, 10, 48), 6, 2)
    groups = made.nearest.reshape(6, 10)
    assert (groups == groups[:, :1]).all() and len(set(groups[:, 0].tolist())) == 6
    assert made.cosine > 0.99


def test_rounds_bring_centroids_nearer() -> None:
    cosines = [fitted(random_codes(2, 90), 6, rounds).cosine for rounds in range(3)]
    assert all(before < after for before, after in itertools.pairwise(cosines))

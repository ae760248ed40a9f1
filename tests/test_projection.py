"""The sheet of paper that the codebook's centroids lie on: the same every time, near ones near, whatever they are."""

from collections.abc import Generator

import numpy as np
import numpy.typing as npt
import pytest

from constellation.codebook import default_codebook
from constellation.model import DIM, Codes
from constellation.projection import Projection, project
from kernels.codes import inverse_norms, quantise


def run(steps: Generator[None, None, Projection]) -> Projection:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            projection: Projection = end.value
            return projection


def projected(codes: Codes) -> Projection:
    return run(project(codes, inverse_norms(codes)))


def nearest(distances: npt.NDArray[np.floating], k: int) -> list[set[int]]:
    np.fill_diagonal(distances, np.inf)
    return [set(row) for row in np.argsort(distances, axis=1)[:, :k].tolist()]


def test_neighbours_stay_neighbours_more_often_than_on_the_two_principal_axes() -> None:
    book = default_codebook()
    codes = book.codes[:300].copy()
    vectors = codes * inverse_norms(codes)[:, None]
    wanted = nearest(-(vectors @ vectors.T), 10)
    _, axes = np.linalg.eigh(np.cov(vectors.T))
    kept = []
    for places in (projected(codes).places, vectors @ axes[:, -2:]):
        found = nearest(((places[:, None] - places[None]) ** 2).sum(axis=2), 10)
        kept.append(sum(len(mine & theirs) for mine, theirs in zip(found, wanted, strict=True)))
    assert kept[0] > 2 * kept[1]


def test_same_centroids_lie_the_same_way_and_within_the_sheet(rng: np.random.Generator) -> None:
    codes = quantise(rng.standard_normal((60, DIM)).astype(np.float32))
    first, second = projected(codes), projected(codes)
    assert np.array_equal(first.places, second.places) and np.array_equal(first.nearest, second.nearest)
    assert first.places.min() == 0 and first.places.max() == 1


def test_clusters_lie_apart_and_each_has_its_nearest_in_its_own(rng: np.random.Generator) -> None:
    centres = np.repeat(rng.standard_normal((4, DIM)), 20, axis=0)
    found = projected(quantise((centres + 0.3 * rng.standard_normal(centres.shape)).astype(np.float32)))
    cluster = np.arange(80) // 20
    assert (cluster[found.nearest] == cluster).all()
    places = found.places
    near = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    np.fill_diagonal(near, np.inf)
    assert (cluster[near.argmin(axis=1)] == cluster).mean() > 0.9


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_few_centroids_and_equal_ones_have_a_place_too(size: int) -> None:
    for codes in (np.ones((size, DIM), np.int8), np.eye(size, DIM, dtype=np.int8) * np.int8(127)):
        found = projected(codes)
        assert found.places.shape == (size, 2) and found.nearest.shape == (size,)
        assert np.isfinite(found.places).all()

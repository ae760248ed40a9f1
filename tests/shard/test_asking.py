"""What a device gets: as many as there are, by interest, the most similar first; and how many of the nearest."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from constellation import catalogue
from constellation.fleet.households import make_patterns, neighbour_table
from constellation.model import DIM, Codes, SyncOptions
from constellation.shard import Shard
from constellation.shard.similarity import SimilarityIndex
from kernels.codes import inverse_norms, quantise
from tests.shard.material import EVERYTHING, START, batch, id_of, new_shard, request

K = 100


def blend(*parts: tuple[int, float], rng: np.random.Generator, noise: float = 0.5) -> Codes:
    """(384,) near a weighted sum of directions."""
    vector = noise * rng.standard_normal(DIM)
    for number, weight in parts:
        vector += weight * np.random.default_rng(number).standard_normal(DIM)
    code: Codes = quantise(vector.astype(np.float32)[None])[0]
    return code


def tell(shard: Shard, device: int, codes: list[Codes], counts: list[int] | None = None) -> None:
    added = batch([(i, 0.9, 10 if counts is None else counts[i]) for i in range(len(codes))])
    added.codes[:] = np.array(codes, np.int8).reshape(-1, DIM)
    shard.apply(request(device, added), START)


def cosines_to(shard: Shard, device: int, code: Codes, k: int = K) -> npt.NDArray[np.float64]:
    similar = shard.answer(id_of(device), SyncOptions(similar=k, trending=0, embedding="i8")).similar
    exact = similar.codes.astype(float)
    cosines: npt.NDArray[np.float64] = exact @ code / np.linalg.norm(exact, axis=1) / np.linalg.norm(code.astype(float))
    return cosines


def test_results_are_the_most_similar_best_first(rng: np.random.Generator) -> None:
    shard = new_shard()
    liked = blend((1, 1), rng=rng)
    tell(shard, 1, [liked])
    for device in range(2, 12):
        tell(shard, device, [blend((1, weight), (device, 1), rng=rng) for weight in rng.uniform(0, 3, 20)])
    cosines = cosines_to(shard, 1, liked)
    assert len(cosines) == K
    assert (np.diff(cosines) <= 1e-6).all()
    everything = np.sort(np.concatenate([cosines_to(shard, 99, liked), cosines]))
    assert cosines.min() >= np.sort(everything)[::-1][2 * K - 1]
    assert (cosines_to(shard, 1, liked, k=10) == cosines[:10]).all()


def test_each_interest_gets_its_share(rng: np.random.Generator) -> None:
    """Two tastes, one three times as heavy: three quarters of the results are like it."""
    shard = new_shard()
    tell(shard, 1, [blend((1, 2), rng=rng), blend((2, 2), rng=rng)], counts=[300, 100])
    for device in range(2, 12):
        tell(shard, device, [blend((1 + i % 2, 2), rng=rng) for i in range(30)])
    first, second = (blend((number, 1), rng=rng, noise=0) for number in (1, 2))
    assert np.count_nonzero(cosines_to(shard, 1, first, k=40) > 0.7) == 30
    assert np.count_nonzero(cosines_to(shard, 1, second, k=40) > 0.7) == 10


@pytest.mark.parametrize("interests", [1, 2, 3])
@pytest.mark.parametrize("overlap", [0.0, 0.8, 1.0])
def test_there_are_as_many_results_as_asked_for_or_available(
    interests: int, overlap: float, rng: np.random.Generator
) -> None:
    """Interests far enough apart to be several, yet with the same patterns nearest; many own patterns among them."""
    shard = new_shard(patterns=2_000)
    mine = [blend((number, 1), (9, overlap), rng=rng) for number in range(interests)]
    tell(shard, 1, mine + [blend((9, 1), rng=rng) for _ in range(25)])
    available = 0
    asked = (1, 2, 3, 50, 99, 100)
    for device, size in zip(itertools.count(2), (0, 1, 2, 30, 30, 30, 30), strict=False):
        tell(shard, device, [blend((9, 1), rng=rng) for _ in range(size)])
        available += size
        for k in asked:
            similar = shard.answer(id_of(1), SyncOptions(similar=k, trending=0, embedding="i8")).similar
            distinct = {code.tobytes() for code in similar.codes}
            assert len(similar) == len(distinct) == min(k, available)
            assert not distinct & {code.tobytes() for code in mine}


def test_a_device_with_all_the_nearest_patterns_itself_gets_those_of_others(rng: np.random.Generator) -> None:
    """255 own patterns lie between it and anybody else."""
    shard = new_shard(per_device=255)
    for start in range(0, 255, 85):
        added = batch([(start + i, 0.9, 10) for i in range(85)])
        added.codes[:] = [blend((1, 5), rng=rng) for _ in range(85)]
        shard.apply(request(1, added), START)
    for device in range(2, 6):
        tell(shard, device, [blend((2, 5), rng=rng) for _ in range(30)])
    assert len(shard.answer(id_of(1), EVERYTHING).similar) == K


class Column:
    """A code column with the shard's index over it, changed and settled as the shard does."""

    def __init__(self, rows: int) -> None:
        self.codes = np.zeros((rows, DIM), np.int8)
        self.inverse = np.zeros(rows, np.float32)
        self.index = SimilarityIndex(self.codes, self.inverse)

    def write(self, rows: npt.NDArray[np.int64], codes: Codes) -> None:
        inverse = inverse_norms(codes)
        for i, row in enumerate(rows.tolist()):
            if row in self.index:
                self.index.remove(row)
            self.codes[row], self.inverse[row] = codes[i], inverse[i]
            self.index.add(row)
            self.index.settle()
        while self.index.settle():
            pass

    def recall(self, queries: Codes) -> float:
        """Share of the 100 nearest that are found; one with the cosine of the hundredth is as good as it."""
        unit = self.codes.astype(np.float32) * self.inverse[:, None]
        found = 0
        for query in queries:
            exact = unit @ query.astype(np.float32)
            hundredth = np.partition(exact, -K)[-K]
            rows, cosines = self.index.search(query, K)
            assert len(set(rows.tolist())) == K and (np.diff(cosines) <= 0).all()
            found += int(np.count_nonzero(exact[rows] >= hundredth - 1e-4 * abs(hundredth)))
        return found / K / len(queries)


def test_most_of_the_nearest_are_found_fresh_and_after_all_were_replaced(rng: np.random.Generator) -> None:
    """Household patterns over the shipped catalogue; the second generation comes in another order."""
    vectors = catalogue.load().vectors()
    neighbours = neighbour_table(vectors)

    def made(count: int) -> Codes:
        films = rng.integers(0, len(vectors), count, dtype=np.int32)
        return quantise(make_patterns(vectors, neighbours, films, rng))

    column = Column(20_000)
    queries = made(60)
    column.write(np.arange(20_000), made(20_000))
    assert column.recall(queries) >= 0.95
    column.write(rng.permutation(20_000), made(20_000))
    assert len(column.index) == 20_000
    assert column.recall(queries) >= 0.95

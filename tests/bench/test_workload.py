"""The workload is what it says: seeded, in two parts that share no film, households with the interests they claim."""

from pathlib import Path

import numpy as np
import pytest

from bench import workload
from bench.peers.exact import ExactScan, recall
from constellation.fleet.households import NEIGHBOURS
from kernels.codes import check_codes

PATTERNS = 2_000
SEED = 7


@pytest.fixture(scope="module")
def library() -> workload.Library:
    return workload.load_library(PATTERNS, SEED)


def test_same_seed_gives_the_same_bytes(library: workload.Library) -> None:
    first, second = (workload.make_households(library.known, 50, None, np.random.default_rng(SEED)) for _ in range(2))
    assert [column.tobytes() for column in first] == [column.tobytes() for column in second]


def test_parts_share_no_film(library: workload.Library) -> None:
    assert not (library.known.vectors @ library.unseen.vectors.T > 0.9999).any()


def test_patterns_resemble_their_film_and_are_no_copies_of_it(library: workload.Library) -> None:
    rng = np.random.default_rng(SEED)
    films = library.known.draw(500, rng)
    codes = library.known.patterns(films, rng)
    assert check_codes(codes) == -1
    cosines = np.sum(ExactScan(codes).vectors * library.known.vectors[films], axis=1)
    assert 0.5 < np.median(cosines) < 0.99
    assert cosines.max() < 0.9999


@pytest.mark.parametrize("interests", [1, 2, 3])
def test_household_has_as_many_interests_as_asked(library: workload.Library, interests: int) -> None:
    households = workload.make_households(library.known, 200, interests, np.random.default_rng(SEED))
    assert (households.interest_counts() == interests).all()
    for films, liked in zip(households.films, households.interests, strict=True):
        assert set(films) == set(liked[:interests])


def test_even_households_have_as_many_patterns_of_each_interest(library: workload.Library) -> None:
    households = workload.make_households(library.known, 200, 2, np.random.default_rng(SEED))
    of_the_first = (households.films == households.interests[:, :1]).sum(axis=1)
    apart = households.interests[:, 0] != households.interests[:, 1]
    assert (of_the_first[apart & households.even] == workload.PATTERNS_A_DEVICE // 2).all()
    assert (of_the_first[apart & ~households.even] > workload.PATTERNS_A_DEVICE // 2).all()


def test_ids_carry_their_numbers_and_differ_between_blocks() -> None:
    rng = np.random.default_rng(SEED)
    ids, others = workload.make_ids(300, rng), workload.make_ids(300, rng)
    assert workload.numbers_of(ids).tolist() == list(range(300))
    assert len(np.unique(np.vstack([ids, others]), axis=0)) == 600


def test_films_come_from_the_file_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(SEED).standard_normal((300, 384)).astype(np.float16)
    np.savez(tmp_path / "films.npz", embedding=vectors, genres=["Drama|Silent", "Comedy", "Drama"] * 100)
    monkeypatch.setenv(workload.FILMS_VARIABLE, str(tmp_path / "films.npz"))
    library = workload.load_library.__wrapped__(PATTERNS, SEED)
    assert library.source == "films.npz, 300 films"
    assert len(library.known.vectors) + len(library.unseen.vectors) == 300
    genres = np.concatenate([library.known.genres, library.unseen.genres])
    assert sorted(np.bincount(genres)) == [100, 200], "a film is of the first of its genres"


def test_without_a_file_the_shipped_catalogue_is_used_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(workload.FILMS_VARIABLE, raising=False)
    monkeypatch.setattr(workload, "FILMS_FILE", Path("nowhere.npz"))
    library = workload.load_library.__wrapped__(PATTERNS, SEED)
    assert library.source.startswith("the shipped catalogue")
    assert "nowhere.npz" in library.source


def test_file_that_was_named_and_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workload.FILMS_VARIABLE, "nowhere.npz")
    with pytest.raises(FileNotFoundError):
        workload.load_library.__wrapped__(PATTERNS, SEED)


def test_a_film_has_as_many_pattern_neighbours_at_every_scale() -> None:
    small, large = (workload.load_library(patterns, SEED) for patterns in (PATTERNS, 3 * PATTERNS))
    assert len(small.known.vectors) == PATTERNS // workload.PATTERNS_A_FILM
    assert len(large.known.vectors) == 3 * PATTERNS // workload.PATTERNS_A_FILM
    assert small.known.neighbours.shape[1] == NEIGHBOURS


def test_exact_scan_agrees_with_plain_cosines() -> None:
    rng = np.random.default_rng(SEED)
    codes = rng.integers(-127, 128, (200, 384), dtype=np.int8)
    queries = rng.integers(-127, 128, (3, 384), dtype=np.int8)
    exact = ExactScan(codes)
    for query, found in zip(queries, exact.top(queries, 10), strict=True):
        cosines = [
            float(np.dot(code.astype(float), query.astype(float)) / np.linalg.norm(code.astype(float)))
            for code in codes
        ]
        best = set(np.argsort(cosines)[-10:].tolist())
        assert set(found.tolist()) == best == set(exact.query(query, 10).tolist())
    assert recall(np.array([1, 2, 3]), np.array([2, 3, 4, 5])) == 0.5

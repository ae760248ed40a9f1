"""The shipped catalogue holds what its loader promises, and the faults of its source are gone."""

from pathlib import Path

import numpy as np
import pytest

from constellation import catalogue
from constellation.catalogue import make
from constellation.limits import CONTENT_ID_BYTES_MAX, TITLE_BYTES_MAX
from constellation.model import DIM
from kernels import codes

FILMS = catalogue.load()


def test_all_columns_describe_the_same_films() -> None:
    assert len(FILMS) == 3_200
    for column in (FILMS.titles, FILMS.years, FILMS.genres, FILMS.directors, FILMS.votes, FILMS.content_ids):
        assert len(column) == 3_200
    assert FILMS.codes.shape == (3_200, DIM) and FILMS.codes.dtype == np.int8


def test_content_ids_are_unique_and_short() -> None:
    assert len(set(FILMS.content_ids)) == 3_200
    assert max(len(name.encode()) for name in FILMS.content_ids) <= CONTENT_ID_BYTES_MAX
    assert max(len(title.encode()) for title in FILMS.titles) <= TITLE_BYTES_MAX
    assert FILMS.content_ids[FILMS.titles.index("The Godfather")] == "film:the-godfather-1972"


def test_most_voted_films_come_first() -> None:
    assert (np.diff(FILMS.votes) <= 0).all()
    assert FILMS.titles[0] == "The Shawshank Redemption"


def test_codes_are_those_of_the_system() -> None:
    again = codes.quantise(np.ascontiguousarray(FILMS.vectors()))
    assert np.array_equal(again, FILMS.codes)


def test_sequels_lie_near_their_film() -> None:
    vectors = FILMS.vectors()
    cosines = vectors @ vectors[FILMS.titles.index("The Matrix")]
    nearest = {FILMS.titles[row] for row in np.argsort(-cosines)[:3]}
    assert nearest == {"The Matrix", "The Matrix Reloaded", "The Matrix Revolutions"}


def test_columns_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        FILMS.codes[0, 0] = 1


def test_file_stays_small_and_carries_its_licence() -> None:
    folder = Path(catalogue.__file__).parent
    assert (folder / "films.npz").stat().st_size < 3_000_000
    assert "BSD" in (folder / "LICENSE").read_text()


@pytest.mark.parametrize(
    ("title", "date", "expected"),
    [
        (1408, "Jun 22 2007", ("1408", 2007)),
        ("LÈon", "Nov 18 1994", ("Léon", 1994)),
        ("Alien³", "May 22 1992", ("Alien³", 1992)),
        ("Gone with the Wind", "Dec 15 2039", ("Gone with the Wind", 1939)),
        ("King Kong (1933)", "Apr 07 2033", ("King Kong", 1933)),
        ("Charge of the Light Brigade, The", "Oct 20 2036", ("The Charge of the Light Brigade", 1936)),
        ("The Helix...  Loaded", "Apr 15 2005", ("The Helix... Loaded", 2005)),
        ("Restless", "Jan 28 2011", ("Restless", 2011)),
    ],
)
def test_faults_of_the_source_are_cleaned(title: object, date: str, expected: tuple[str, int]) -> None:
    film = make.clean(_row(title, date))
    assert film is not None and (film.title, film.year) == expected
    assert film.text == f"{expected[0]} is a {expected[1]} film."


def test_row_without_a_title_is_skipped() -> None:
    assert make.clean(_row(None, "Nov 03 2006")) is None


def _row(title: object, date: str) -> dict[str, object]:
    unknown = ("Major Genre", "Creative Type", "Source", "Director", "Distributor", "MPAA Rating")
    numbers = ("IMDB Votes", "IMDB Rating", "Running Time min")
    return {"Title": title, "Release Date": date, **dict.fromkeys(unknown + numbers)}

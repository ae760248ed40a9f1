"""What all simulated TVs share: the catalogue as vectors, which films are near which, and how popular each is.

Computed once a run (0.5 s) and read-only afterwards: a household costs no more than its own few rows.
"""

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.catalogue import Catalogue
from constellation.fleet.households import Vectors, neighbour_table
from constellation.model import Context

TIMES_OF_DAY = ("morning", "afternoon", "evening", "night")
DAYS_OF_WEEK = ("weekday", "weekend")


class Films(NamedTuple):
    """n films: vectors (n, 384) float32 units, neighbours (n, 40) int32, popularity (n,) float64 that sums to 1."""

    catalogue: Catalogue
    vectors: Vectors
    neighbours: npt.NDArray[np.int32]
    popularity: npt.NDArray[np.float64]
    titles: dict[str, str]

    def context(self, film: int, rng: np.random.Generator) -> Context:
        """When and what: the film's genres, at a time drawn evenly."""
        time_of_day = TIMES_OF_DAY[rng.integers(len(TIMES_OF_DAY))]
        return _context(self.catalogue.genres[film], time_of_day, DAYS_OF_WEEK[rng.integers(len(DAYS_OF_WEEK))])

    def title(self, content_id: str) -> str:
        """The film of a trend by title and year; what is no film (`genre:drama`) by its id."""
        return self.titles.get(content_id, content_id)


def prepare(catalogue: Catalogue) -> Films:
    """Popularity is the share of all votes; a film that nobody voted for counts as one vote."""
    vectors = catalogue.vectors()
    votes = np.maximum(catalogue.votes, 1).astype(np.float64)
    titles = {
        content_id: f"{title} ({year})"
        for content_id, title, year in zip(catalogue.content_ids, catalogue.titles, catalogue.years, strict=True)
    }
    return Films(catalogue, vectors, neighbour_table(vectors), votes / votes.sum(), titles)


@functools.cache
def _context(genres: str, time_of_day: str, day_of_week: str) -> Context:
    """One object for all TVs that watch such films at such a time."""
    hints = tuple(genre.lower() for genre in genres.split("|") if genre)
    return Context(time_of_day, day_of_week, "movie", hints)

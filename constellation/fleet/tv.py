"""One simulated TV: a household with a few interests, whose watching becomes patterns, and a real client.

Between two syncs most households learn nothing, some confirm what they like, a few find something new: 70, 20 and 10 in
a hundred, the mix that the benchmarks use too.
"""

import uuid

import numpy as np

from constellation.client import Client
from constellation.fleet.films import Films
from constellation.fleet.households import draw_interests, make_patterns, watch

QUIET_SHARE = 0.7
CONFIRMING_SHARE = 0.2
FIRST_PATTERNS_MIN = 2
FIRST_PATTERNS_MAX = 6
NEW_PATTERNS = 2
PATTERNS_MAX = 12
"""A household that finds more forgets its oldest."""


class Tv:
    """Reproducible: everything it learns comes from its own generator, whatever the network does."""

    __slots__ = ("_films", "_patterns", "_rng", "client", "interests")

    def __init__(self, films: Films, client: Client, rng: np.random.Generator) -> None:
        self.client = client
        self.interests = draw_interests(films.popularity, rng)
        self._films = films
        self._rng = rng
        self._patterns: list[uuid.UUID] = []
        self._discover(int(rng.integers(FIRST_PATTERNS_MIN, FIRST_PATTERNS_MAX, endpoint=True)))

    def live(self) -> None:
        """What the household learns between two syncs."""
        draw = self._rng.random()
        if draw < QUIET_SHARE:
            return
        if draw < QUIET_SHARE + CONFIRMING_SHARE:
            self._confirm()
        else:
            self._discover(NEW_PATTERNS)

    def _discover(self, count: int) -> None:
        films = watch(self._films.neighbours, self.interests, count, self._rng)
        for film, vector in zip(
            films, make_patterns(self._films.vectors, self._films.neighbours, films, self._rng), strict=True
        ):
            pattern_id = self.client.learn(
                vector,
                success_rate=float(self._rng.uniform(0.65, 1.0)),
                sample_count=int(self._rng.integers(8, 60)),
                context=self._films.context(film, self._rng),
            )
            self._patterns.append(pattern_id)
        for forgotten in self._patterns[:-PATTERNS_MAX]:
            self.client.forget(forgotten)
        del self._patterns[:-PATTERNS_MAX]

    def _confirm(self) -> None:
        """One or two patterns are used again, as successfully as ever."""
        count = min(int(self._rng.integers(1, 2, endpoint=True)), len(self._patterns))
        for place in self._rng.choice(len(self._patterns), size=count, replace=False):
            rate = min(1.0, max(0.0, self._rng.normal(0.85, 0.1)))
            self.client.observe(self._patterns[place], success_rate=rate, samples=int(self._rng.integers(1, 20)))

"""Whether what TVs received resembles their taste, and by how much more than chance would."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.fleet.films import Films
from constellation.fleet.tv import Tv

TVS_MEASURED_MAX = 1_000
PATTERNS_WANTED = 50
"""A TV with this many received patterns counts as well served."""


class Relevance(NamedTuple):
    """Cosines are means over TVs of the mean, over their patterns, of the best cosine to one of the TV's interests."""

    tvs: int
    well_served: int
    received_cosine: float
    random_cosine: float


def measure(films: Films, tvs: Sequence[Tv], rng: np.random.Generator) -> Relevance:
    """Received patterns against as many drawn from those of all households, for up to a thousand TVs with any."""
    served = [tv for tv in tvs if len(tv.client.neighbours)]
    well_served = sum(len(tv.client.neighbours) >= PATTERNS_WANTED for tv in served)
    if not served:
        return Relevance(0, 0, 0.0, 0.0)
    sample = [served[place] for place in rng.permutation(len(served))[:TVS_MEASURED_MAX]]
    pool = np.array([pattern.code for tv in sample for pattern in tv.client.learned.patterns.values()])
    received, chance = [], []
    for tv in sample:
        interests = films.vectors[tv.interests]
        codes = tv.client.neighbours.codes
        received.append(_best_cosines(codes, interests).mean())
        chance.append(_best_cosines(pool[rng.integers(len(pool), size=len(codes))], interests).mean())
    return Relevance(len(served), well_served, float(np.mean(received)), float(np.mean(chance)))


def _best_cosines(codes: npt.NDArray[np.int8], interests: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n,) the cosine of each code to the interest nearest to it."""
    vectors = codes.astype(np.float32)
    cosines: npt.NDArray[np.float32] = (vectors @ interests.T).max(axis=1) / np.linalg.norm(vectors, axis=1)
    return cosines

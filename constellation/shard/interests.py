"""What a household likes: its few patterns in up to three groups, each spoken for by its heaviest member.

A household likes several things at once; the mean of its patterns lies between them and resembles none
(`bench.relevance`). So every interest asks for itself. A pure function of the device's patterns.
"""

import numpy as np
import numpy.typing as npt

from constellation.limits import INTERESTS_MAX
from constellation.model import Rows

SAME_INTEREST_COSINE = 0.5
"""Patterns at least this close to a medoid belong to it."""

Weights = npt.NDArray[np.float64]


def find_interests(cosines: npt.NDArray[np.float32], weights: Weights) -> tuple[Rows, Weights]:
    """Medoids and shares of 1..3 interests among m >= 1 patterns; cosines (m, m), weights (m,) >= 0.

    Leader clustering (Hartigan 1975, chapter 3), heaviest first: a pattern far from every medoid so far founds an
    interest while there are fewer than three, any other joins the nearest. Returns indices (i,) int32 of the medoids,
    heaviest interest first, and their shares (i,) of the total weight. Equal weights: the earlier pattern is heavier.
    Where nothing weighs anything (rates that updates brought down to zero), all interests are alike.
    """
    order = np.argsort(-weights, kind="stable")
    medoids: list[int] = []
    shares: list[float] = []
    for i in order.tolist():
        near = cosines[i, medoids]
        nearest = int(near.argmax()) if medoids else -1
        if not medoids or (near[nearest] < SAME_INTEREST_COSINE and len(medoids) < INTERESTS_MAX):
            medoids.append(i)
            shares.append(float(weights[i]))
        else:
            shares[nearest] += float(weights[i])
    parts = np.array(shares) if any(shares) else np.ones(len(shares))
    heaviest_first = np.argsort(-parts, kind="stable")
    return np.array(medoids, np.int32)[heaviest_first], parts[heaviest_first] / parts.sum()


def divide(k: int, shares: Weights) -> list[int]:
    """Split k results by share, largest remainder first; the parts sum to k."""
    exact = shares * k
    parts = np.floor(exact).astype(int)
    remainders = np.argsort(parts - exact, kind="stable")
    parts[remainders[: k - int(parts.sum())]] += 1
    return [int(part) for part in parts]

"""What a household likes: its few patterns in up to three groups, so that every interest can ask for itself.

A household likes several things at once; the mean of all its patterns lies between them and resembles none
(`bench.relevance`). A pure function of the device's patterns.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.limits import INTERESTS_MAX

SAME_INTEREST_COSINE = 0.5
"""Patterns at least this close to a medoid belong to it."""

Weights = npt.NDArray[np.float64]


class Interest(NamedTuple):
    """Indices of its patterns, the heaviest, its medoid, first; and what share of the household's weight they have."""

    members: list[int]
    share: float


def find_interests(cosines: npt.NDArray[np.float32], weights: Weights) -> list[Interest]:
    """The 1..3 interests among m >= 1 patterns, heaviest first; cosines (m, m), weights (m,) >= 0.

    Leader clustering (Hartigan 1975, chapter 3), heaviest first: a pattern far from every medoid so far founds an
    interest while there are fewer than three, any other joins the nearest. Equal weights: the earlier pattern is
    heavier. Where nothing weighs anything (rates that updates brought down to zero), all interests are alike.
    """
    weight, cosine = weights.tolist(), cosines.tolist()
    groups: list[list[int]] = []
    for i in sorted(range(len(weight)), key=weight.__getitem__, reverse=True):
        near = [cosine[i][members[0]] for members in groups]
        closest = max(near, default=-1.0)
        if not groups or (closest < SAME_INTEREST_COSINE and len(groups) < INTERESTS_MAX):
            groups.append([i])
        else:
            groups[near.index(closest)].append(i)
    sums = [sum(weight[i] for i in members) for members in groups]
    total = sum(sums)
    shares = [part / total for part in sums] if total else [1 / len(groups)] * len(groups)
    return [Interest(groups[g], shares[g]) for g in sorted(range(len(groups)), key=shares.__getitem__, reverse=True)]


def divide(k: int, shares: list[float]) -> list[int]:
    """Split k results by share, largest remainder first; the parts sum to k."""
    exact = [share * k for share in shares]
    parts = [int(part) for part in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    for i in by_remainder[: k - sum(parts)]:
        parts[i] += 1
    return parts

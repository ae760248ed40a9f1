"""The codebook's centroids on a sheet of paper: near ones near each other, for people to look at. Decides nothing.

t-SNE (van der Maaten and Hinton, JMLR 2008) from the two principal axes on (Kobak and Berens, Nature Communications
2019), each place pushed by a sample of the others (Tang et al., LargeVis, WWW 2016); the same centroids give the same
sheet. Plain NumPy, in steps for a thread beside the loop, as its operations let go of the interpreter. Called by
`api.page`, once for each codebook.
"""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.model import Codes, Rows
from kernels.scan import scan_top_k

_PERPLEXITY = 12
_NEIGHBOURS = 2 * _PERPLEXITY
_STEPS = 250
_STEPS_AT_ONCE = 10
_EXAGGERATED_STEPS, _EXAGGERATION = 100, 8.0
_MOMENTUM_EARLY, _MOMENTUM_LATE = 0.5, 0.8
_RATE_MIN = 50.0
_START_SPREAD = 1e-4
_OTHERS_MIN, _PAIRS = 16, 1 << 15
"""Drawn for each place and for all of them; where K is 1,024, 32 for each."""
_POWER_STEPS = 30
_TINY = 1e-12
_SCANS_AT_ONCE = 50
_BISECTIONS = 40

Floats = npt.NDArray[np.float32]


class Projection(NamedTuple):
    """K centroids: places (K, 2) float32 in 0..1, and the number of the nearest other one of each (K,) int32."""

    places: Floats
    nearest: Rows


def project(codes: Codes, inverse: Floats) -> Generator[None, None, Projection]:
    """Of codes (K, 384) with inverse (K,) = 1/|code|, returned after steps of some 50 ms, a second of one core in all
    where K is 1,024."""
    codes, inverse, size = codes.copy(), inverse.copy(), len(codes)  # a codebook's are read-only
    near, cosines = yield from _nearest(codes, inverse, min(_NEIGHBOURS, size - 1))
    nearest = near[:, 0] if size > 1 else np.zeros(1, np.int32)
    if size <= 3:  # nothing to arrange
        along = (0.5 + np.arange(size) / 8).astype(np.float32)
        return Projection(np.stack((along, along), axis=1), nearest)
    pairs = _affinities(near, 1 - cosines)
    yield
    places = yield from _arranged(_principal(codes * inverse[:, None]), *pairs)
    return Projection(_within(places), nearest)


def _nearest(codes: Codes, inverse: Floats, k: int) -> Generator[None, None, tuple[Rows, Floats]]:
    """The k nearest others of each, best first, (K, k), and their cosines."""
    everyone = np.arange(len(codes), dtype=np.int32)
    near, cosines = np.empty((len(codes), k), np.int32), np.empty((len(codes), k), np.float32)
    for i in range(len(codes)):
        found, of_found = scan_top_k(codes, inverse, everyone, codes[i], inverse[i], k + 1)
        others = np.flatnonzero(found != i)[:k]
        near[i], cosines[i] = found[others], of_found[others]
        if i % _SCANS_AT_ONCE == 0:
            yield
    return near, cosines


def _principal(vectors: Floats) -> Floats:
    """Along the two axes of largest variance, about, by power iteration.

    Without BLAS, whose threads wait for one another by spinning, on the cores that syncs need.
    """
    centred = vectors - vectors.mean(axis=0)
    axes = np.random.default_rng(0).standard_normal((vectors.shape[1], 2)).astype(np.float32)
    for _ in range(_POWER_STEPS):
        axes = np.einsum("nd,nk->dk", centred, np.einsum("nd,dk->nk", centred, axes))
        axes[:, 0] /= max(float(np.sqrt((axes[:, 0] ** 2).sum())), _TINY)
        axes[:, 1] -= (axes[:, 0] * axes[:, 1]).sum() * axes[:, 0]
        axes[:, 1] /= max(float(np.sqrt((axes[:, 1] ** 2).sum())), _TINY)
    along = np.einsum("nd,dk->nk", centred, axes)
    start: Floats = (along / max(float(along[:, 0].std()), _TINY) * _START_SPREAD).astype(np.float32)
    return start


def _affinities(near: Rows, distances: Floats) -> tuple[Rows, Rows, Floats]:
    """How much i is drawn to j, and j to i: two columns of numbers and one of shares, which add up to 1."""
    distances = distances - distances[:, :1]
    wanted = np.log(min(_PERPLEXITY, near.shape[1]))
    low, high = np.zeros(len(near)), np.full(len(near), 1e6)
    for _ in range(_BISECTIONS):
        sharpness = (low + high) / 2
        weights = np.exp(-distances * sharpness[:, None])
        weights /= weights.sum(axis=1, keepdims=True)
        entropy = -(weights * np.log(weights + 1e-30)).sum(axis=1)
        low, high = np.where(entropy > wanted, sharpness, low), np.where(entropy > wanted, high, sharpness)
    i = np.repeat(np.arange(len(near), dtype=np.int32), near.shape[1])
    j, share = near.ravel(), (weights / (2 * len(near))).ravel().astype(np.float32)
    return np.concatenate((i, j)), np.concatenate((j, i)), np.concatenate((share, share))


def _arranged(places: Floats, i: Rows, j: Rows, share: Floats) -> Generator[None, None, Floats]:
    """Gradient descent with momentum and a gain for each coordinate, as in the paper's own code."""
    rng, everyone = np.random.default_rng(0), np.arange(len(places), dtype=np.int32)
    some = max(_OTHERS_MIN, _PAIRS // len(places))
    moved, gains = np.zeros_like(places), np.ones_like(places)
    rate = max(_RATE_MIN, len(places) / _EXAGGERATION / 4)
    for step in range(_STEPS):
        early = step < _EXAGGERATED_STEPS
        others = (everyone[:, None] + 1 + rng.permutation(len(places) - 1)[:some]) % len(places)
        gradient = _gradient(places, i, j, share * (_EXAGGERATION if early else 1.0), others)
        gains = np.maximum(np.where(np.sign(gradient) != np.sign(moved), gains + 0.2, gains * 0.8), 0.01)
        moved = (_MOMENTUM_EARLY if early else _MOMENTUM_LATE) * moved - rate * gains * gradient
        places = places + moved
        places -= places.mean(axis=0)
        if step % _STEPS_AT_ONCE == 0:
            yield
    return places


def _gradient(places: Floats, i: Rows, j: Rows, share: Floats, others: Rows) -> Floats:
    """What draws i to j, and what pushes each place from all; the latter as told by others (K, m), drawn at random."""
    apart = places[i] - places[j]
    pull = share / (1 + (apart * apart).sum(axis=1))
    drawn = np.stack([np.bincount(i, pull * apart[:, axis], len(places)) for axis in (0, 1)], axis=1)
    x, y = (places[:, axis, None] - places[others, axis] for axis in (0, 1))
    closeness = 1 / (1 + x * x + y * y)
    total = closeness.sum()
    closeness *= closeness
    pushed = np.stack([(closeness * away).sum(axis=1) for away in (x, y)], axis=1) / total
    gradient: Floats = (4 * (drawn - pushed)).astype(np.float32)
    return gradient


def _within(places: Floats) -> Floats:
    """Turned so that the longer axis lies flat, and spread over 0..1: half by value, half by rank, so that a few that
    lie far out do not press the others together."""
    _, axes = np.linalg.eigh(places.T @ places)
    turned = places @ axes[:, ::-1]
    low, high = turned.min(axis=0), turned.max(axis=0)
    ranks = np.argsort(np.argsort(turned, axis=0, kind="stable"), axis=0, kind="stable")
    fitted: Floats = ((turned - low) / np.maximum(high - low, _TINY) / 2 + ranks / (len(places) - 1) / 2).astype(
        np.float32
    )
    return fitted

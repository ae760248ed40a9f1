"""What does the noise of a private round leave of its prototypes?

Buckets of so many devices each, whose patterns are made of real films (`bench.crowd`), with the noise that a release of
each epsilon takes: the cosine of the noised prototype with the exact one. Beside it what drawing the noise costs.
"""

import os

import numpy as np
import numpy.typing as npt

from bench import workload
from bench.crowd import Crowd
from bench.plan import Answers, Note, Plan, Timings
from bench.report import Row, Target, Yardstick, at_least
from constellation.federation.gaussian import discrete_gaussian
from constellation.federation.noise import Noising, fields, scale_of
from constellation.federation.privacy import PrivacyBudget, Release, calibrated
from constellation.federation.terms import MIN_DEVICES
from constellation.model import DIM
from constellation.rounds import BOUNDS, BucketSums, Privacy
from kernels.contributions import Totals

BUCKETS, BUCKETS_OF_A_ROUND = 64, 1_024
DELTA, DAY_S = 1e-9, 86_400
EPSILONS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
DEVICES = (300, 1_000, 10_000, 100_000)
"""In a bucket."""
GATED_EPSILON, GATED_DEVICES, COSINE_MIN = 1.0, 10_000, 0.95
ROUND_S_MAX = 5.0
RELEASES_A_DAY = 24

_BOUNDS = BOUNDS["aggregates"]


def measure(plan: Plan) -> Answers:
    rng = plan.rng("privacy")
    part = workload.load_library(plan.patterns, plan.seed).known
    crowd = Crowd(part, 1, BUCKETS, 1, rng)
    for devices in DEVICES:
        exact = crowd.sums(np.full(crowd.terms.buckets, devices))
        yield from (_fidelity(exact, devices, epsilon) for epsilon in EPSILONS)
    yield _cost(rng)
    yield from _notes()


def _fidelity(exact: BucketSums, devices: int, epsilon: float) -> Row:
    noising = Noising(calibrated(Privacy(epsilon, DELTA)), _BOUNDS, MIN_DEVICES["aggregates"], os.urandom)
    noised = noising.totals(Totals(exact.sums, exact.weights, exact.samples, exact.patterns, exact.devices))
    cosines = _cosines(noised.sums, exact.sums)
    rates = np.abs(noised.weights / noised.samples - exact.weights / exact.samples)
    target = at_least(COSINE_MIN) if (epsilon, devices) == (GATED_EPSILON, GATED_DEVICES) else None
    return Row(
        name=f"epsilon {epsilon:g}, {devices:,} devices a bucket",
        value=max(0.0, float(cosines.mean())),
        unit="cosine",
        quality=f"worst {cosines.min():.3f}; {np.count_nonzero(noised.devices)} of {len(cosines)} published; "
        f"success rate off by {rates.mean():.3f}",
        yardstick=Yardstick("without noise", 1.0),
        target=target,
        gate=target,
    )


def _cost(rng: np.random.Generator) -> Row:
    exact, plain = Timings(), Timings()
    sigma, _ = scale_of(fields(_BOUNDS)["sums"], calibrated(Privacy(1.0, DELTA)).multiplier)
    n = BUCKETS_OF_A_ROUND * DIM
    drawn = exact.measure(discrete_gaussian, sigma, n, os.urandom)
    plain.measure(rng.normal, 0.0, sigma, n)
    return Row(
        name=f"noise for {BUCKETS_OF_A_ROUND:,} prototypes",
        value=exact.p50 / 1e3,
        unit="s",
        quality=f"{exact.p50 * 1e6 / n:.0f} ns a number; standard deviation {drawn.std() / sigma:.4f} sigma",
        yardstick=Yardstick("NumPy's Gaussian, in floats", plain.p50 / 1e3),
        target=Target("<=", ROUND_S_MAX),
    )


def _notes() -> Answers:
    budget = PrivacyBudget(epsilon=np.inf, delta=1e-7, window_s=DAY_S)
    for epsilon in EPSILONS:
        noise = calibrated(Privacy(epsilon, DELTA))
        release = Release(0, noise.multiplier, noise.names_delta)
        day = budget.spent([release] * RELEASES_A_DAY)
        yield Note(
            f"epsilon {epsilon:g} at delta {DELTA:g} takes a noise multiplier of {noise.multiplier:.2f}; "
            f"{RELEASES_A_DAY} a day come to epsilon {day:.2f} at delta {budget.delta:g}"
        )


def _cosines(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    left, right = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines: npt.NDArray[np.float64] = (left * right).sum(axis=1) / lengths
    return cosines

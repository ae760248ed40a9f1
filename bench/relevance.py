"""Does asking by interest serve a household better than asking by the mean of its patterns?

A household's interests are films. A returned pattern is *relevant* if it was made from one of them or from the films
nearest to them: as many as 200 patterns were made of, twice what is asked for, so that it is as hard to be relevant
among a million patterns as among a thousand. By interest is what the shard answers; by mean is the best that one query
could do: an exact scan for the mean of the household's patterns, weighted as the shard weighs them. *Calibrated* counts
for each interest no more than its share: an answer all about one does not serve the others (Steck, RecSys 2018).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench import workload
from bench.loaded import Loaded, load_shard
from bench.peers.exact import ExactScan
from bench.plan import Answers, Note, Plan, tracked
from bench.report import Row, Target, Yardstick
from bench.workload import Films, Households, Part

K = 100
RATIO_MIN = {2: 1.4, 3: 1.8}
RATIO_ANYWHERE_MIN = {2: 1.2, 3: 1.4}
"""With few films, as in the shipped catalogue, interests overlap, and their mean resembles more of them."""
RELEVANT_PATTERNS = 2 * K
"""About as many were made of the films of one interest."""


class Precision(NamedTuple):
    """Shares of the answer, each 0..1."""

    plain: float
    calibrated: float


def measure(plan: Plan) -> Answers:
    loaded = load_shard(plan)
    library = workload.load_library(plan.patterns, plan.seed)
    judge = Judge(library.known, loaded.households)
    exact = ExactScan(loaded.households.codes)
    for interests, even in ((1, True), (2, True), (3, True), (2, False), (3, False)):
        asking = _households(loaded.households, interests, even)[: plan.queries].tolist()
        by_interest, by_mean = [], []
        for household in tracked(asking, f"{interests} interests"):
            by_interest.append(judge.precision(household, _ask_shard(loaded, household)))
            by_mean.append(judge.precision(household, _ask_by_mean(exact, loaded.households, household)))
        yield _row(interests, even, _mean(by_interest), _mean(by_mean))
    yield Note(f"relevant to an interest: made from its film or the next nearest, {judge.relevant_films} films in all")
    yield Note("calibrated: what counts for an interest is at most its share of the household's patterns")
    yield Note("even: as many patterns of each interest; uneven: half as many of the second, a quarter of the third")


def _households(households: Households, interests: int, even: bool) -> npt.NDArray[np.int64]:
    """Their numbers; with one interest there is nothing to be uneven."""
    alike = households.even == even if interests > 1 else np.ones(len(households), bool)
    return np.flatnonzero((households.interest_counts() == interests) & alike)


class Judge:
    """Knows which film every pattern was made from, and which films belong to which interest."""

    def __init__(self, part: Part, households: Households) -> None:
        self.relevant_films = max(1, round(RELEVANT_PATTERNS * len(part.vectors) / households.films.size))
        self._part = part
        self._households = households
        self._film_of = households.films.reshape(-1)
        self._relevant: dict[int, Films] = {}

    def precision(self, household: int, patterns: npt.NDArray[np.int64]) -> Precision:
        """How much of an answer, given as numbers of patterns, serves the household."""
        own = self._households.films[household]
        films = self._film_of[patterns]
        served = np.zeros(K, bool)
        calibrated = 0.0
        for interest in self._households.interests[household]:
            if interest < 0:
                continue
            relevant = np.isin(films, self._films_of(interest))
            served[: len(films)] |= relevant
            calibrated += min(float(relevant.sum()) / K, float(np.mean(own == interest)))
        return Precision(float(served.mean()), calibrated)

    def _films_of(self, interest: int) -> Films:
        """Found once: each household is judged twice, and many share an interest."""
        if interest not in self._relevant:
            cosines = self._part.vectors @ self._part.vectors[interest]
            near = np.argpartition(cosines, -self.relevant_films)[-self.relevant_films :]
            self._relevant[interest] = near.astype(np.int32)
        return self._relevant[interest]


def _ask_shard(loaded: Loaded, household: int) -> npt.NDArray[np.int64]:
    answer = loaded.shard.answer(loaded.households.device_ids[household].tobytes(), workload.EVERYTHING)
    return workload.numbers_of(answer.similar.ids)


def _ask_by_mean(exact: ExactScan, households: Households, household: int) -> npt.NDArray[np.int64]:
    own = households.rows_of(household)
    mean = (households.rates[own] * households.counts[own]) @ exact.vectors[own]
    found = exact.query(mean, K + workload.PATTERNS_A_DEVICE)
    scores = exact.vectors[found] @ mean
    others = (found < own.start) | (found >= own.stop)
    best: npt.NDArray[np.int64] = found[others][np.argsort(-scores[others])][:K]
    return best


def _mean(precisions: list[Precision]) -> Precision:
    plain, calibrated = np.mean(precisions, axis=0)
    return Precision(float(plain), float(calibrated))


def _row(interests: int, even: bool, by_interest: Precision, by_mean: Precision) -> Row:
    name = f"{interests} interests, {'even' if even else 'uneven'}" if interests > 1 else "1 interest"
    held = even and interests in RATIO_MIN
    return Row(
        name=f"{name}: precision@{K} by interest",
        value=by_interest.plain,
        unit="",
        quality=f"calibrated {by_interest.calibrated:.3f}, by mean {by_mean.calibrated:.3f}",
        yardstick=Yardstick("by mean, exact scan", by_mean.plain),
        target=Target(">=", RATIO_MIN[interests], of="ratio") if held else None,
        gate=Target(">=", RATIO_ANYWHERE_MIN[interests], of="ratio") if held else None,
    )

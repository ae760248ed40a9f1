"""Does asking by interest serve a household better than asking by the mean of its patterns?

A household's interests are films. A returned pattern is *relevant* if it was made from one of them or from one of their
40 nearest neighbours. By interest is what the shard answers; by mean is the best that one query could do: an exact scan
for the mean of the household's patterns, weighted as the shard weighs them. *Calibrated* counts for each interest no
more than its share of the answer (Steck, RecSys 2018): an answer all about one interest does not serve the others.
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


class Precision(NamedTuple):
    """Shares of the answer, each 0..1."""

    plain: float
    calibrated: float


def measure(plan: Plan) -> Answers:
    loaded = load_shard(plan)
    library = workload.load_library(plan.patterns, plan.seed)
    judge = Judge(library.known, loaded.households)
    exact = ExactScan(loaded.households.codes)
    for interests in (1, 2, 3):
        asking = np.flatnonzero(loaded.households.interest_counts() == interests)[: plan.queries]
        by_interest, by_mean = [], []
        for household in tracked(asking.tolist(), f"{interests} interests"):
            by_interest.append(judge.precision(household, _ask_shard(loaded, household)))
            by_mean.append(judge.precision(household, _ask_by_mean(exact, loaded.households, household)))
        yield from _rows(interests, _mean(by_interest), _mean(by_mean), len(asking))
    yield Note("relevant: made from a film of the household's interests or from one of that film's 40 neighbours")
    yield Note("calibrated: what counts for an interest is at most its share of the household's patterns")


class Judge:
    """Knows which film every pattern was made from, and which films belong to which interest."""

    def __init__(self, part: Part, households: Households) -> None:
        self._part = part
        self._households = households
        self._film_of = households.films.reshape(-1)

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
        return np.append(self._part.neighbours[interest], np.int32(interest))


def _ask_shard(loaded: Loaded, household: int) -> npt.NDArray[np.int64]:
    answer = loaded.shard.answer(loaded.households.device_ids[household].tobytes(), workload.EVERYTHING)
    return workload.numbers_of(answer.similar.ids)


def _ask_by_mean(exact: ExactScan, households: Households, household: int) -> npt.NDArray[np.int64]:
    a_device = households.films.shape[1]
    own = np.arange(household * a_device, (household + 1) * a_device)
    weights = (households.rates * households.counts)[own]
    mean = weights @ exact.vectors[own]
    found = exact.query(mean, K + a_device)
    scores = exact.vectors[found] @ mean
    others = ~np.isin(found, own)
    return found[others][np.argsort(-scores[others])][:K]


def _mean(precisions: list[Precision]) -> Precision:
    plain, calibrated = np.mean(precisions, axis=0)
    return Precision(float(plain), float(calibrated))


def _rows(interests: int, by_interest: Precision, by_mean: Precision, households: int) -> Answers:
    plural = "interest" if interests == 1 else "interests"
    target = Target(">=", RATIO_MIN[interests], of="ratio") if interests in RATIO_MIN else None
    for kind in Precision._fields:
        yield Row(
            name=f"{interests} {plural}: {kind} precision@{K} by interest",
            value=getattr(by_interest, kind),
            unit="",
            quality=f"{households} households",
            yardstick=Yardstick("by mean, exact scan", getattr(by_mean, kind)),
            target=target,
            gate=target is not None,
        )

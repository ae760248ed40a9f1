"""A shard that holds a whole load of households, shared by the questions that only read it or change little."""

import functools
from typing import NamedTuple

from bench import workload
from bench.plan import Plan, tracked
from bench.workload import Households
from constellation.shard import Shard


class Loaded(NamedTuple):
    """A shard and the households that it holds; `now` is just after the last of them synced."""

    shard: Shard
    households: Households
    now: float


@functools.lru_cache(maxsize=1)
def load_shard(plan: Plan) -> Loaded:
    """One for all questions that leave it as it is, or nearly."""
    return load_anew(plan)


def load_anew(plan: Plan) -> Loaded:
    """Households with one to three interests, one first sync each, as the API would apply them."""
    rng = plan.rng("load")
    library = workload.load_library(plan.patterns, plan.seed)
    households = workload.make_households(library.known, plan.patterns // workload.PATTERNS_A_DEVICE, None, rng)
    shard = Shard(workload.shard_settings(plan.patterns))
    now = float(workload.START_S)
    for request in tracked(workload.first_syncs(households, rng), "loading the shard", len(households)):
        now += workload.TICK_S
        shard.apply(request, now)
        while shard.maintain():
            pass
    return Loaded(shard, households, now)

"""A fleet in several processes, where one core is not enough to be as many TVs: each has a share of them.

Each keeps its own timetable, so that the loop stays open; at the end what they saw is one tally. Called by `cli.fleet`.
"""

import asyncio
import itertools
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import msgspec
import uvloop
from rich.console import Console

from constellation.client import open_session
from constellation.fleet import screen
from constellation.fleet.films import Films
from constellation.fleet.relevance import Relevance
from constellation.fleet.run import CONNECTIONS_MAX, Outcome, Plan, furnish, prepare, run_share
from constellation.fleet.traffic import Tally


def run_shared(plan: Plan, processes: int, console: Console) -> Outcome:
    """As `run.run`, by so many processes, with one summary. Ctrl-C ends it early where all of them see it, as on a
    terminal. Raises `SyncFailed` as `run` does."""
    world = prepare(console)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_furnish(plan, world, console))
    screen.announce(console, plan.devices, plan.mean_interval_s, plan.urls, plan.minutes, plan.seed)
    spawning = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(processes, mp_context=spawning) as pool,
        _leaving_ctrl_c_to_the_others(),
        console.status(f"{processes} processes are TVs"),
    ):
        outcomes = list(pool.map(_share, shares(plan, processes)))
    tally = Tally()
    for outcome in outcomes:
        tally.merge(outcome.tally)
    relevance = _together([outcome.relevance for outcome in outcomes])
    screen.summary(console, tally, world, plan.devices, relevance)
    return Outcome(tally, relevance)


def shares(plan: Plan, processes: int) -> list[Plan]:
    """The TVs of each process: consecutive numbers, as many or one more."""
    interval_s, bounds = plan.mean_interval_s, [plan.devices * n // processes for n in range(processes + 1)]
    return [
        msgspec.structs.replace(plan, first=plan.first + start, devices=stop - start, interval_s=interval_s)
        for start, stop in itertools.pairwise(bounds)
    ]


def _share(plan: Plan) -> Outcome:
    """Runs in a child, which inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run_share(plan))


async def _furnish(plan: Plan, world: Films, console: Console) -> None:
    async with open_session(CONNECTIONS_MAX) as session:
        await furnish(plan, session, world, console)


@contextmanager
def _leaving_ctrl_c_to_the_others() -> Iterator[None]:
    """They stop and tell what they saw; this one only waits for that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _together(parts: Sequence[Relevance]) -> Relevance:
    tvs = sum(part.tvs for part in parts)
    received, chance = (
        sum(part.tvs * cosine for part, cosine in zip(parts, cosines, strict=True)) / max(1, tvs)
        for cosines in ([part.received_cosine for part in parts], [part.random_cosine for part in parts])
    )
    return Relevance(tvs, sum(part.well_served for part in parts), received, chance)

"""One run of a fleet from start to summary: content, TVs, traffic, relevance. Called by `cli.fleet` and `cli.demo`."""

import asyncio
import contextlib
import random
import uuid

import aiohttp
import msgspec
import numpy as np
import uvloop
from rich.console import Console

from constellation import catalogue
from constellation.client import Client, Codebooks, Unreachable, open_session
from constellation.fleet import content, films, rounds, screen
from constellation.fleet.relevance import Relevance, measure
from constellation.fleet.traffic import Tally, Traffic
from constellation.fleet.tv import Tv
from constellation.identity import Issuer, Scope

RATE_DEFAULT = 150.0
"""Syncs a second that a fleet offers unless told otherwise: about one shard's share."""
INTERVAL_S_MIN = 5.0
CONNECTIONS_MAX = 128
TOKEN_SPARE_S = 3_600
"""Beyond the syncs: for the catalogue before them, and what is shown after them."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `urls`: shards, each the first that every so many-th TV asks; the map may send it to another.
    `interval_s`: mean time between two syncs of a TV; None spreads them to about 150 syncs/s. `first`: the number of
    the first TV, where others run those before it."""

    urls: tuple[str, ...]
    devices: int
    minutes: float
    interval_s: float | None = None
    seed: int = 1
    first: int = 0
    issuer: Issuer | None = None
    """Of tokens, where the shards ask for them."""

    def token(self, subject: str, *scopes: Scope) -> str | None:
        """For as long as the run lasts."""
        if self.issuer is None:
            return None
        return self.issuer.issue(subject, scopes, int(self.minutes * 60) + TOKEN_SPARE_S)

    @property
    def mean_interval_s(self) -> float:
        return self.interval_s or max(INTERVAL_S_MIN, self.devices / RATE_DEFAULT)


class Outcome(msgspec.Struct, frozen=True):
    tally: Tally
    relevance: Relevance

    @property
    def exit_code(self) -> int:
        """1 unless there were syncs, and none failed."""
        return 0 if self.tally.syncs and not self.tally.failed else 1


def run(plan: Plan, console: Console) -> Outcome:
    """Run to the end, or to Ctrl-C, and print the summary. Raises `SyncFailed` if the shard takes no content."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(plan, console))


async def _run(plan: Plan, console: Console) -> Outcome:
    world = prepare(console)
    async with open_session(CONNECTIONS_MAX) as session:
        await furnish(plan, session, world, console)
        tvs = _build(plan, session, world, console)
        traffic = Traffic(tvs, plan.mean_interval_s, random.Random(plan.seed))
        screen.announce(console, plan.devices, plan.mean_interval_s, plan.urls, plan.minutes, plan.seed)
        await _watched(plan, session, traffic, world, console)
        if len(plan.urls) > 1:
            await rounds.show(console, plan.urls, session, tvs, world, plan.token("fleet", "admin"))
    relevance = measure(world, tvs, np.random.default_rng(plan.seed))
    screen.summary(console, traffic.tally, world, plan.devices, relevance)
    return Outcome(traffic.tally, relevance)


async def run_share(plan: Plan) -> Outcome:
    """Only the TVs, at shards that have the titles already; nothing is shown. For a process of several."""
    console = Console(quiet=True)
    world = prepare(console)
    async with open_session(CONNECTIONS_MAX) as session:
        tvs = _build(plan, session, world, console)
        traffic = Traffic(tvs, plan.mean_interval_s, random.Random(plan.seed + plan.first))
        with contextlib.suppress(asyncio.CancelledError):  # asyncio.Runner turns the first Ctrl-C into this
            await traffic.run(plan.minutes * 60)
    return Outcome(traffic.tally, measure(world, tvs, np.random.default_rng(plan.seed)))


def prepare(console: Console) -> films.Films:
    with console.status("measuring which films are near which"):
        return films.prepare(catalogue.load())


async def furnish(plan: Plan, session: aiohttp.ClientSession, world: films.Films, console: Console) -> None:
    """Give the shards the titles. Raises `Unreachable`, and `SyncFailed` if one takes none."""
    for url in plan.urls:
        await _check_ready(url, session)
    await _post_content(plan, session, world, console)


async def _check_ready(url: str, session: aiohttp.ClientSession) -> None:
    """Fail at once, and not after minutes of patience, where nobody serves. Raises `Unreachable`."""
    try:
        async with session.get(f"{url}/health/ready") as response:
            status = response.status
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unreachable(f"{url} does not answer: {error}") from error
    if status != 200:
        raise Unreachable(f"{url} is not ready: /health/ready answers {status}")


async def _post_content(plan: Plan, session: aiohttp.ClientSession, world: films.Films, console: Console) -> None:
    token = plan.token("fleet", "content")
    with screen.progress(console) as bar:
        task = bar.add_task("posting the catalogue", total=len(world.catalogue) * len(plan.urls))
        for url in plan.urls:
            await content.post_catalogue(
                url, session, world.catalogue, random.Random(plan.seed), lambda: bar.advance(task), token
            )


def _build(plan: Plan, session: aiohttp.ClientSession, world: films.Films, console: Console) -> list[Tv]:
    """All TVs, each with a generator and an id of its own; the seed decides both."""
    jitter, codebooks, tvs = random.Random(plan.seed), Codebooks(), []
    with screen.progress(console) as bar:
        numbers = range(plan.first, plan.first + plan.devices)
        for number in bar.track(numbers, description="furnishing households"):
            rng = np.random.default_rng([plan.seed, number])
            device_id = uuid.UUID(bytes=rng.bytes(16), version=4)
            url = plan.urls[number % len(plan.urls)]
            token = plan.token(str(device_id), "device")
            tvs.append(Tv(world, Client(url, device_id, session, rng=jitter, codebooks=codebooks, token=token), rng))
    return tvs


async def _watched(
    plan: Plan, session: aiohttp.ClientSession, traffic: Traffic, world: films.Films, console: Console
) -> None:
    """Run the traffic with the screen beside it; Ctrl-C ends the run early, and the summary still comes."""
    token = plan.token("fleet", "admin")
    watching = asyncio.gather(
        screen.watch(console, traffic.tally, world),
        *(rounds.watch(console, url, session, token) for url in plan.urls if len(plan.urls) > 1),
    )
    try:
        await traffic.run(plan.minutes * 60)
    except asyncio.CancelledError:  # asyncio.Runner turns the first Ctrl-C into this
        console.print("interrupted")
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

"""Whatever happens in whatever order: what was taken of a shard is in the round, once, and a round never changes."""

import asyncio
import itertools
from collections import defaultdict
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constellation.federation import RefusedPartial
from constellation.federation.database import CoordinatorDatabase, OpenRound
from constellation.federation.leading import NoRound
from constellation.federation.worker import Schedule, Worker
from constellation.storage.connections import make_database
from tests.federation.material import shard_name
from tests.federation.reporting import VERSION, beat, expected_result, expire_lease, join, opened, partial_of
from tests.storage.conftest import execute

SHARDS = (1, 2, 3)
GOES_TO = {"collecting": ("merging", "abandoned"), "merging": ("published",), "published": (), "abandoned": ()}

_numbers = itertools.count()


class Action(NamedTuple):
    """`of`: which worker, or which shard."""

    what: str
    of: int


OF_SHARDS = ("report", "report", "report again", "fall silent", "come back")
ACTIONS = st.one_of(
    *[st.builds(Action, st.just("step"), st.integers(0, 1))] * 3,
    *[st.builds(Action, st.sampled_from(OF_SHARDS), st.sampled_from(SHARDS))] * 2,
    st.builds(Action, st.sampled_from(["deadline", "lease runs out", "kill"]), st.integers(0, 1)),
)


class World:
    """Two workers and three shards, and what must be so."""

    def __init__(self, url: str, database: CoordinatorDatabase) -> None:
        self.url, self.database = url, database
        self.workers = [self._worker(), self._worker()]
        self.killed: list[Worker] = []
        """They never take another step, and never gave back their lease."""
        self.last: dict[int, OpenRound] = {}
        """What each shard was asked for last."""
        self.taken: defaultdict[int, set[int]] = defaultdict(set)
        self.states: dict[int, str] = {}
        self.results: dict[int, bytes] = {}

    def _worker(self) -> Worker:
        return Worker(self.url, "a test", Schedule(0, 3_600))

    async def do(self, action: Action) -> None:
        match action.what:
            case "step":
                try:
                    await self.workers[action.of].step()
                except NoRound:
                    assert await execute(self.url, "SELECT FROM shards WHERE heartbeat > now() - interval '9 s'") == []
            case "report":
                asked = await self.database.open_round(shard_name(action.of))
                if asked is not None:
                    self.last[action.of] = asked
                    await self._report(action.of)
            case "report again":
                await self._report(action.of)
            case "fall silent":
                silenced = "UPDATE shards SET heartbeat = now() - interval '1 h' WHERE shard_id = $1"
                await execute(self.url, silenced, shard_name(action.of))
            case "come back":
                await beat(self.database, action.of, VERSION)
            case "deadline":
                await execute(self.url, "UPDATE rounds SET deadline = now() WHERE state = 'collecting'")
            case "lease runs out":
                await expire_lease(self.url)
            case "kill":
                self.killed.append(self.workers[action.of])
                self.workers[action.of] = self._worker()

    async def _report(self, shard: int) -> None:
        if shard not in self.last:
            return
        asked = self.last[shard]
        open_ = self.states.get(asked.number, "collecting") == "collecting"
        try:
            await self.database.report(partial_of(shard, asked))
            assert open_
            self.taken[asked.number].add(shard)
        except RefusedPartial:
            assert not open_

    async def check(self) -> None:
        rows = await execute(self.url, "SELECT number, state, reported, result FROM rounds ORDER BY number")
        assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
        for number, state, reported, result in rows:
            before = self.states.get(number, "collecting")
            assert state == before or state in GOES_TO[before]
            self.states[number] = state
            if state == "published":
                if number not in self.results:
                    self.results[number] = await expected_result(self.database, number, *sorted(self.taken[number]))
                assert result == self.results[number] and reported == len(self.taken[number])
            if state == "abandoned":
                assert not self.taken[number] and result is None
        assert sum(state in ("collecting", "merging") for state in self.states.values()) <= 1

    async def close(self) -> None:
        for worker in (*self.workers, *self.killed):
            await worker.close()


@given(st.lists(ACTIONS, min_size=40, max_size=80))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rounds_keep_what_they_took_in_any_order_of_events(server: str, actions: list[Action]) -> None:
    async def scenario() -> None:
        url = await make_database(server, f"any_order_{next(_numbers)}")
        async with opened(url) as database:
            await join(database, *SHARDS)
            world = World(url, database)
            try:
                for action in actions:
                    await world.do(action)
                    await world.check()
            finally:
                await world.close()

    asyncio.run(scenario())

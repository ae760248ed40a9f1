"""Slots move between live shards that are killed at every step while devices sync: nothing is lost, nothing doubled."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import numpy as np

from constellation.federation.database import CoordinatorDatabase, Member, connected
from constellation.federation.leading import take_lead
from constellation.federation.moves import Moves
from constellation.rounds import decode_partial
from constellation.slots import SLOTS, slot_of
from constellation.storage.embedded import DATABASE
from tests.api.process import START_S_MAX, Server, environment
from tests.durability.ledger import Ledger, Tv
from tests.durability.life import SOAKING, Stored, kill, living, stop, stored, until
from tests.storage.conftest import execute
from tests.storage.conftest import server as server
from tests.storage.conftest import url as url
from tests.storage.gates import gate_reached, gated

STEPS = (
    ("UPDATE OF state ON moves", "NEW.state = 'copying'", "source"),
    ("INSERT ON moving", "true", "source"),
    ("UPDATE OF state ON moves", "NEW.state = 'copied'", "source"),
    ("DELETE ON moving", "true", "target"),
    ("UPDATE OF state ON moves", "NEW.state = 'owned'", "target"),
    ("UPDATE OF state ON moves", "NEW.state = 'done'", "source"),
)
"""What a shard does in the coordinator database last before it is killed: on which rows, and which shard that is."""


class Region:
    """Two shards of one map, at addresses that they keep, with databases on one server."""

    def __init__(self, folder: Path, server: str, coordinator: str) -> None:
        self.coordinator = coordinator
        self._folder, self._server = folder, server
        self._ports = {name: free_port() for name in ("a", "b")}
        self.servers: dict[str, Server] = {}
        self._lives: dict[str, contextlib.AsyncExitStack] = {}

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def database(self, name: str) -> str:
        return self._server.replace(f"/{DATABASE}?", f"/moves_{name}_{self._ports[name]}?")

    async def create(self) -> None:
        """Both at the same time; the coordinator knows them before: the first has all slots, each sees the other."""
        async with connected(self.coordinator) as database:
            await database.migrate()
            for name in self._ports:
                await database.register(Member(name, "eu", self.url(name)))
        for name in self._ports:
            await execute(self._server, f"CREATE DATABASE moves_{name}_{self._ports[name]}")
        await asyncio.gather(*(self.start(name) for name in self._ports))

    async def start(self, name: str, coordinator: str = "") -> None:
        options = ("--shard-id", name, "--region", "eu", "--port", str(self._ports[name]))
        urls = ("--coordinator-url", coordinator or self.coordinator, "--database-url", self.database(name))
        (self._folder / name).mkdir(exist_ok=True)
        life = self._lives[name] = contextlib.AsyncExitStack()
        self.servers[name] = await life.enter_async_context(living(self._folder / name, *options, *urls))

    async def kill(self, name: str) -> None:
        await kill(self.servers[name])
        await self._lives[name].aclose()

    async def stop(self) -> None:
        await asyncio.gather(*(stop(running) for running in self.servers.values()))
        for life in self._lives.values():
            await life.aclose()


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


@contextlib.asynccontextmanager
async def region(folder: Path, server: str, coordinator: str) -> AsyncIterator[tuple[Region, Moves]]:
    made = Region(folder, server, coordinator)
    try:
        await made.create()
        async with connected(coordinator) as database:
            await until(lambda: _know_each_other(made), START_S_MAX)
            yield made, Moves(database)
    finally:
        for life in made._lives.values():
            await life.aclose()


async def _know_each_other(region: Region) -> bool:
    """Has each looked at the map?"""
    async with httpx.AsyncClient(verify=False) as client:
        replies = [await client.get(f"{region.url(name)}/api/v1/shards") for name in region.servers]
    return [len(reply.raise_for_status().json()["shards"]) for reply in replies] == [2, 2]


async def state(moves: Moves) -> str:
    """Of the first one."""
    [move] = await moves.numbered([1])
    return move.state


async def over(moves: Moves, numbers: list[int]) -> None:
    async def is_over() -> bool:
        return all(move.state in ("done", "undone") for move in await moves.numbered(numbers))

    await until(is_over, START_S_MAX)


async def check_kept(ledger: Ledger, region: Region) -> None:
    """Both databases together hold what was acknowledged, each device where its slot is."""
    parts = {name: await stored(region.database(name)) for name in region.servers}
    a, b = parts["a"], parts["b"]
    assert not a.sequences.keys() & b.sequences.keys() and not a.patterns.keys() & b.patterns.keys()
    # Each shard has titles of its own; of one that was posted to both the last revision counts.
    titles = sorted([*a.titles.items(), *b.titles.items()], key=lambda one: int(one[1][0].split()[1]))
    ledger.check_stored(Stored(a.patterns | b.patterns, a.sequences | b.sequences, dict(titles)))
    owners = dict(await execute(region.coordinator, "SELECT slot, shard_id FROM slots"))
    assert all(owners[slot_of(device_id)] == name for name, part in parts.items() for device_id in part.sequences)
    samples: Counter[str] = Counter()
    for name in parts:
        query = "SELECT item, sum(count)::bigint FROM trend_counts GROUP BY item"
        samples.update(dict(await execute(region.database(name), query)))
    assert +samples == samples_of(ledger)


def samples_of(ledger: Ledger) -> Counter[str]:
    samples: Counter[str] = Counter()
    for piece in ledger.reference.pieces(1_000):
        for item, count in zip(piece.change.trends.items, piece.change.trends.counts.tolist(), strict=True):
            samples[item] += count
    return samples


def test_devices_notice_nothing_of_a_move_but_where_they_are_sent(
    folder: Path, server: str, url: str, rng: np.random.Generator
) -> None:
    """All go, by a `drain` that is killed, and half come back. What comes late is a duplicate where the device is."""

    async def scenario() -> None:
        ledger = Ledger(rng, patient=True)
        async with region(folder, server, url) as (both, moves), connected(url) as database:
            async with ledger.syncing(both.url("a")):
                await ledger.more(50)
                async with gated(url, "UPDATE OF state ON moves"):
                    command = subprocess.Popen(command_line(url, "drain", "a"), env=environment())
                    await gate_reached(url)
                    command.kill()
                    command.wait(START_S_MAX)
                await over(moves, [1])
                await ledger.more(50)
            [move] = await moves.numbered([1])
            assert (move.state, len(move.slots), move.imported) == ("done", SLOTS, len(ledger.tvs))
            await ledger.settle(both.url("a"))
            with_patterns = sum(bool(device.patterns) for device in ledger.model.devices.values())
            assert await count_in_a_round(database, 1, 1) == with_patterns
            await check_drained(both, "a", ledger.tvs[0])
            forgotten = ledger.tvs.pop()
            await ledger.forget(both.url("a"), forgotten)
            async with ledger.syncing(both.url("a")):
                assert "8,192 slots" in await shards(url, "move", "--from=b", "--to=a", "--share=0.5")
                await ledger.more(50)
            await ledger.settle(both.url("b"))
            with_patterns = sum(bool(device.patterns) for device in ledger.model.devices.values())
            assert await count_in_a_round(database, 2, len(both.servers)) == with_patterns
            for tv in (*ledger.tvs, forgotten):
                await ledger.send_old(both.url("b"), tv.sent[0])
                await ledger.send_old(both.url("a"), tv.sent[-1])
            await ledger.settle(both.url("a"))
            listed = await shards(url, "list")
            assert "0-8191" in listed and "8192-16383" in listed
            await execute(url, "DO $$ BEGIN DROP SCHEMA public CASCADE; CREATE SCHEMA public; END $$")
            await until(lambda: has_slots(url, {"b": (0, 8_191), "a": (8_192, 16_383)}), START_S_MAX)
            await both.stop()
            await check_kept(ledger, both)

    asyncio.run(scenario())


async def has_slots(url: str, expected: dict[str, tuple[int, int]]) -> bool:
    """Is that the map of a database which may be empty yet?"""
    with contextlib.suppress(asyncpg.UndefinedTableError):
        rows = await execute(url, "SELECT shard_id, min(slot), max(slot) FROM slots GROUP BY shard_id")
        return {shard_id: (first, last) for shard_id, first, last in rows} == expected
    return False


async def check_drained(region: Region, name: str, tv: Tv) -> None:
    """It has neither slots nor devices, sends every device on, and can be drained again."""
    assert f"shard {name} has no slots" in await shards(region.coordinator, "drain", name)
    async with httpx.AsyncClient(base_url=region.url(name)) as client:
        listed = (await client.get("/api/v1/shards")).raise_for_status().json()["shards"]
        assert {shard["id"]: len(shard["slots"]) for shard in listed}[name] == 0
        reply = await client.post("/api/v1/sync", content=tv.sent[-1], headers={"Content-Type": "application/json"})
        assert (reply.status_code, reply.headers["Location"]) == (307, f"{region.url('b')}/api/v1/sync")
        assert (await client.get("/api/v1/stats")).json()["total_devices"] == 0


async def count_in_a_round(database: CoordinatorDatabase, number: int, shards_reporting: int) -> int:
    """Devices with patterns that the shards tell, by a worker that does not publish."""
    lead = await take_lead(database, "a test")
    assert lead is not None
    assert await lead.open(0, 60) is not None

    async def is_collected() -> bool:
        return await lead.close_collecting(number) is not None

    await until(is_collected, START_S_MAX)
    partials, after = [], ""
    while found := await lead.next_partial(number, after):
        after, content = found
        partials.append(decode_partial(content))
    await lead.abandon(number, "a test")
    await lead.release()
    assert len(partials) == shards_reporting
    return sum(partial.devices for partial in partials)


def test_killed_at_any_step_the_move_goes_on(folder: Path, server: str, url: str, rng: np.random.Generator) -> None:
    """There and back again and again; each time the acting shard dies at another step."""
    steps = [*STEPS] * 4 if SOAKING else STEPS[1::3]

    async def scenario() -> None:
        ledger = Ledger(rng, patient=True)
        async with region(folder, server, url) as (both, moves):
            for turn, (event, condition, who) in enumerate(steps):
                source, target = ("a", "b") if turn % 2 == 0 else ("b", "a")
                dies, lives = (source, target) if who == "source" else (target, source)
                async with ledger.syncing(both.url(lives)):
                    await ledger.more(30)
                    async with gated(url, event, condition):
                        numbers = await moves.plan(source, target, [slot_of(tv.id) for tv in ledger.tvs[:6]])
                        await gate_reached(url)
                        await both.kill(dies)
                    await both.start(dies)
                    await over(moves, numbers)
                    await ledger.more(30)
                await ledger.settle(both.url(lives))
                assert {move.state for move in await moves.numbered(numbers)} == {"done"}
            await both.stop()
            await check_kept(ledger, both)

    asyncio.run(scenario())


def test_what_was_told_stays_refused_in_the_next_life_without_coordinator_and_is_served_when_taken_back(
    folder: Path, server: str, url: str, rng: np.random.Generator
) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        async with region(folder, server, url) as (both, moves):
            for tv in ledger.tvs:
                await ledger.sync_once(both.url("a"), tv)
            leaving = ledger.tvs[:2]
            async with gated(url, "DELETE ON moving"):
                await moves.plan("a", "b", [slot_of(tv.id) for tv in leaving])
                await gate_reached(url)
                await asyncio.gather(both.kill("a"), both.kill("b"))
            await both.start("a", f"postgresql://127.0.0.1:{free_port()}/away")
            for tv in ledger.tvs:
                tv.pending, tv.tries = ledger.new_delta(tv), 0
            assert not await ledger.resend(both.url("a"))
            assert {tv.number for tv in ledger.tvs if tv.pending} == {tv.number for tv in leaving}
            assert all('"moving"' in refusal for refusal in ledger.refusals) and len(ledger.refusals) == len(leaving)
            await both.kill("a")
            cancel = shards(url, "move", "--from=a", "--to=b", "--cancel")
            _, told = await asyncio.gather(both.start("a"), cancel)
            assert "1 moves from a to b are taken back" in told
            await until(lambda: ledger.resend(both.url("a")))
            assert await state(moves) == "cancelled"
            await both.start("b")
            await over(moves, [1])
            await both.stop()
            await check_kept(ledger, both)

    asyncio.run(scenario())


def command_line(url: str, action: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "constellation", "shards", action, "--coordinator-url", url, *options]


async def shards(url: str, action: str, *options: str) -> str:
    """What the command prints, wide enough for a table."""

    def run() -> "subprocess.CompletedProcess[str]":
        env = environment({"COLUMNS": "250"})
        return subprocess.run(command_line(url, action, *options), env=env, capture_output=True, text=True, timeout=120)

    ended = await asyncio.to_thread(run)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout

"""Shards that keep their state, for as long as a block lasts; databases to give them; and what a database holds."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from constellation.config import Settings
from constellation.model import ContentItem
from constellation.records import Change
from constellation.shard import Shard
from constellation.storage import embedded
from constellation.storage.database import connect
from constellation.storage.embedded import EmbeddedServer
from constellation.storage.keeper import JournaledKeeper, open_keeper
from constellation.storage.loading import load
from tests.api.process import Server, command, environment, serving
from tests.api.test_metrics import scrape

SOAKING = os.environ.get("CONSTELLATION_SOAK") == "1"
"""The long form of every test that repeats something."""
SMALL = {"shared_buffers": "16MB"}
BOUNDS = (
    *("--max-devices", "1000", "--max-patterns", "10000", "--quality-threshold", "0.5", "--serve-threshold", "0.5"),
    *("--device-burst", "1000000"),  # a few devices sync as fast as they can
)
WAIT_S_MAX = 30.0
POLL_S = 0.01
REFUSED_S_MAX = 120


def keeping(data_dir: Path, *options: str) -> tuple[str, ...]:
    """Options of a shard with this data directory."""
    return ("--storage", "postgres", "--data-dir", str(data_dir), *BOUNDS, *options)


@contextlib.asynccontextmanager
async def living(data_dir: Path, *options: str, program: str = "constellation") -> AsyncIterator[Server]:
    """A shard that serves; stopped at the end, if it still runs. The test's own loop turns meanwhile."""
    life = serving(*keeping(data_dir, *options), program=program)
    server = await asyncio.to_thread(life.__enter__)
    try:
        yield server
    finally:
        await asyncio.to_thread(life.__exit__, None, None, None)


async def kill(server: Server) -> None:
    server.child.kill()
    await asyncio.to_thread(server.wait)


async def stop(server: Server) -> None:
    """As an operator does; it says that all went well."""
    server.terminate()
    assert await asyncio.to_thread(server.wait) == 0


async def restored(settings: Settings) -> tuple[JournaledKeeper, Shard]:
    """A shard in this process, and what keeps it; nothing runs in the background."""
    keeper = await open_keeper(settings)
    assert isinstance(keeper, JournaledKeeper)
    shard = Shard(settings, time.time(), keeper.tombstone_key)
    await keeper.restore(shard)
    for _ in shard.restored():
        pass
    keeper.begin(shard)
    return keeper, shard


async def refused(*options: str, extra: Mapping[str, str] | None = None) -> str:
    """What a shard says that may not start."""

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command(*options), env=environment(extra), capture_output=True, text=True, timeout=REFUSED_S_MAX
        )

    ended = await asyncio.to_thread(run)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    return ended.stderr


async def until(holds: Callable[[], bool | Coroutine[Any, Any, bool]], seconds_max: float = WAIT_S_MAX) -> None:
    """Polls until it holds; fails after the deadline."""
    deadline = time.monotonic() + seconds_max
    while True:
        held = holds()
        if held if isinstance(held, bool) else await held:
            return
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(POLL_S)


async def drained(server: Server) -> bool:
    """Is everything in the database?"""
    scraped = await asyncio.to_thread(scrape, server.metrics_url)
    [records] = [value for (name, _), value in scraped.items() if name == "constellation_backlog_records"]
    return records == 0


@contextlib.asynccontextmanager
async def postgres(data_dir: Path) -> AsyncIterator[EmbeddedServer]:
    """A PostgreSQL of its own; for a shard's data directory only while no shard has it."""
    server = await embedded.start(data_dir, SMALL)
    try:
        yield server
    finally:
        await server.stop()


def end_leftovers(folder: Path) -> None:
    """A killed shard leaves its database running; what works below this folder ends."""
    for process in _working_below(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(WAIT_S_MAX)


def _working_below(folder: Path) -> Iterator[Any]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("postgres") and Path(process.cwd()).is_relative_to(folder.resolve()):
                yield process


Held = tuple[bytes, float, int, int, bytes]
"""code, rate, count, created_at, the first genre hint: what identifies a version of a pattern"""
HeldTitle = tuple[str, bytes, str]
"""title, code, metadata: what identifies a version of a title"""


class Stored(NamedTuple):
    """What a database holds: patterns by owner and id, sequences by device, titles by id."""

    patterns: dict[tuple[bytes, bytes], Held]
    sequences: dict[bytes, int]
    titles: dict[str, HeldTitle]


async def stored(url: str) -> Stored:
    database = await connect(url)
    held = Stored({}, {}, {})
    try:
        await database.migrate()
        async with contextlib.aclosing(load(database)) as changes:
            async for change in changes:
                _add(held, change)
    finally:
        await database.close()
    return held


async def stored_in(data_dir: Path) -> Stored:
    """What the database of a stopped shard holds."""
    async with postgres(data_dir) as server:
        return await stored(server.url)


def held_title(item: ContentItem) -> HeldTitle:
    return item.title, item.code.tobytes(), repr(item.metadata)


def _add(held: Stored, change: Change) -> None:
    devices, rows = change.devices, change.patterns
    held.titles.update((item.content_id, held_title(item)) for _, item in change.content)
    held.sequences.update(zip(map(bytes, devices.ids), devices.sequences.tolist(), strict=True))
    batch = rows.patterns
    for i, key in enumerate(zip(map(bytes, rows.owners), map(bytes, batch.ids), strict=True)):
        assert key not in held.patterns, "twice in the database"
        hint = "".join(batch.contexts[i].genre_hints[:1]).encode()
        held.patterns[key] = (
            *(batch.codes[i].tobytes(), float(batch.rates[i]), int(batch.counts[i])),
            *(int(batch.created_at[i]), hint),
        )

"""The worker walks rounds to their end, whatever its shards do, and however often the database goes away."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from constellation.federation.database import RoundRow
from constellation.federation.worker import Schedule, Worker
from constellation.rounds import Partial, decode_result, encode
from constellation.storage import embedded
from constellation.storage.connections import DatabaseUnavailable
from tests.federation.material import shard_name
from tests.federation.reporting import (
    DEVICES,
    Change,
    asked,
    expected_result,
    join,
    leading,
    opened,
    partial_of,
    published,
    report,
    shards,
)
from tests.storage.conftest import FAST, execute

Rounds = AsyncGenerator[RoundRow, None]

AT_ONCE = Schedule(0, 60)


@contextlib.asynccontextmanager
async def working(url: str, schedule: Schedule = AT_ONCE, holder: str = "a worker") -> AsyncIterator[Rounds]:
    """Rounds of a worker in this process."""
    worker = Worker(url, holder, schedule)
    try:
        async with contextlib.aclosing(worker.rounds()) as rounds:
            yield rounds
    finally:
        await worker.close()


def test_rounds_are_published_one_after_the_other(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2, 3)
            async with shards(database, 1, 2, 3), working(url) as rounds:
                for number in (1, 2, 3):
                    row = await anext(rounds)
                    assert (row.number, row.state, row.why) == (number, "published", "")
                    assert (row.reported, row.expected) == (3, 3)
                    assert await published(database) == await expected_result(database, number, 1, 2, 3)
            made = decode_result(await published(database))
            assert (row.devices, row.patterns) == (made.devices, made.patterns) == (3 * DEVICES, made.patterns)
            assert row.prototypes == len(made.prototypes) > 0
            assert row.trends == sum(map(len, made.trends)) > 0

    asyncio.run(scenario())


def test_round_begins_with_the_interval(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1)
            async with shards(database, 1), working(url, Schedule(2, 60)) as rounds:
                for _ in range(3):
                    await anext(rounds)
            begun = await execute(
                url, "SELECT floor(extract(epoch FROM opened_at) / 2)::int FROM rounds ORDER BY number"
            )
            assert len(set(begun)) == len(begun) == 3

    asyncio.run(scenario())


def test_shard_that_never_reports_is_waited_for_until_the_deadline(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2, 3)
            async with shards(database, 1, 3), working(url, Schedule(0, 2)) as rounds:
                row = await anext(rounds)
            assert (row.state, row.reported, row.expected) == ("published", 2, 3) and row.took_s >= 2
            made = decode_result(await published(database))
            assert (made.shards_reported, made.shards_expected) == (2, 3)

    asyncio.run(scenario())


def test_round_that_nobody_reports_to_is_abandoned_and_the_next_one_is_not(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1)
            async with working(url, Schedule(0, 0)) as rounds:
                row = await anext(rounds)
            assert (row.number, row.state, row.why) == (1, "abandoned", "no shard reported by the deadline")
            assert await database.published(0, "") is None
            async with shards(database, 1), working(url) as rounds:
                row = await anext(rounds)
            assert (row.number, row.state) == (2, "published")

    asyncio.run(scenario())


def lie_about_sums(lying: Partial) -> None:
    lying.buckets.sums[0, 0] = (int(lying.buckets.weights[0]) << 14) + 1


def lie_about_region(lying: Partial) -> None:
    lying.region = "elsewhere"


@pytest.mark.parametrize("lie", [lie_about_sums, lie_about_region])
def test_hostile_partial_is_refused_and_the_round_goes_on_without_it(url: str, lie: Change) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2, 3)
            async with working(url) as rounds:
                ended = asyncio.ensure_future(anext(rounds))
                await asyncio.gather(report(database, 1), report(database, 2, lie), report(database, 3))
                row = await ended
            assert (row.state, row.reported, row.expected) == ("published", 2, 3)
            assert row.why.startswith(f"the partial of shard '{shard_name(2)}' is refused: ")
            assert await published(database) == await expected_result(database, 1, 1, 3)

    asyncio.run(scenario())


def test_bytes_that_are_no_partial_or_another_shards_are_refused(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2, 3)
            lead = await leading(database)
            await lead.open(0, 60)
            await lead.release()
            of = await asked(database, 1)
            for number, content in (
                (1, b"\x01no frame"),
                (2, encode(partial_of(3, of))),
                (3, encode(partial_of(3, of))),
            ):
                await execute(url, "UPDATE partials SET content = $2 WHERE shard_id = $1", shard_name(number), content)
            async with working(url) as rounds:
                row = await anext(rounds)
            assert (row.state, row.reported) == ("published", 1)
            assert "'shard-1' is refused: it cannot be read" in row.why
            assert "'shard-2' is refused: it says that it is of shard 'shard-3'" in row.why
            assert await published(database) == await expected_result(database, 1, 3)

    asyncio.run(scenario())


def test_round_of_refused_partials_alone_is_abandoned(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1)
            async with working(url) as rounds:
                ended = asyncio.ensure_future(anext(rounds))
                await report(database, 1, lie_about_sums)
                row = await ended
            assert row.state == "abandoned" and "is refused: buckets: expected sums of at most" in row.why
            assert await database.published(0, "") is None

    asyncio.run(scenario())


def test_worker_that_stops_lets_another_go_on_at_once(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)
            async with working(url, holder="first") as rounds:
                ended = asyncio.ensure_future(anext(rounds))
                await report(database, 1)
                ended.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await ended
            async with working(url, holder="second") as rounds:
                ended = asyncio.ensure_future(anext(rounds))
                await report(database, 2)
                row = await ended
            assert (row.number, row.reported) == (1, 2)
            assert await published(database) == await expected_result(database, 1, 1, 2)

    asyncio.run(scenario())


def test_database_that_was_away_in_the_middle_of_rounds_changes_nothing() -> None:
    async def scenario(folder: Path) -> None:
        server = await embedded.start(folder, FAST)
        url = server.url
        async with opened(url) as database:
            await join(database, 1, 2, 3)
            async with shards(database, 1, 2), working(url) as rounds:
                ended = asyncio.ensure_future(anext(rounds))
                await _reported(url, 2)
                await server.stop()
                with pytest.raises(DatabaseUnavailable):
                    await database.published(0, "")
                assert not ended.done()
                server = await embedded.start(folder, FAST)
                assert server.url == url
                await report(database, 3)
                row = await ended
                assert (row.number, row.state, row.reported) == (1, "published", 3)
                assert await published(database) == await expected_result(database, 1, 1, 2, 3)
        await server.stop()

    with tempfile.TemporaryDirectory(prefix="constellation-test-") as name:
        asyncio.run(scenario(Path(name) / "data"))


async def _reported(url: str, n: int) -> None:
    async with asyncio.timeout(30):
        while await execute(url, "SELECT FROM partials WHERE content IS NOT NULL HAVING count(*) = $1", n) == []:
            await asyncio.sleep(0.02)

"""The worker's side of the coordinator database: who leads, when a round is opened, closed and ended."""

import asyncio

import pytest

from constellation.federation import RefusedPartial
from constellation.federation.database import CoordinatorDatabase, Member
from constellation.federation.leading import LeaseLost, NoRound, take_lead
from constellation.federation.merging import FederationCoordinator
from constellation.limits import ROUNDS_KEPT, SHARD_LIVE_S
from constellation.rounds import decode_result, encode
from tests.federation.material import BUCKETS, shard_name
from tests.federation.reporting import (
    VERSION,
    asked,
    beat,
    codebook,
    expire_lease,
    join,
    leading,
    opened,
    partial_of,
    report,
)
from tests.storage.conftest import execute


async def fall_silent(url: str, number: int) -> None:
    """As if the time had passed."""
    await execute(
        url,
        "UPDATE shards SET heartbeat = now() - make_interval(secs => $2) WHERE shard_id = $1",
        *(shard_name(number), SHARD_LIVE_S),
    )


async def set_back(url: str, seconds: float) -> None:
    """As if all rounds had been opened so much earlier."""
    await execute(url, "UPDATE rounds SET opened_at = opened_at - make_interval(secs => $1)", seconds)


async def publish(database: CoordinatorDatabase) -> int:
    """One more round, of shard 1."""
    lead = await leading(database)
    row = await lead.open(0, 60)
    assert row is not None
    await report(database, 1)
    await lead.close_collecting(row.number)
    current = await lead.current()
    assert current is not None
    _, content = await lead.next_partial(row.number, "") or ("", b"")
    assert content
    result = FederationCoordinator(current.terms).run_federation([])
    await lead.publish(result, encode(result), "")
    await lead.release()
    return row.number


def test_one_leads_until_its_lease_runs_out_or_is_released(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            taken = await asyncio.gather(*(take_lead(database, f"w{i}") for i in range(4)))
            [first] = [lead for lead in taken if lead is not None]
            await first.release()
            second = await leading(database)
            assert await take_lead(database, "third") is None
            await expire_lease(url)
            await second.current()  # nobody else came: it is prolonged
            assert await take_lead(database, "third") is None
            await expire_lease(url)
            await leading(database)
            for late in (first, second):
                with pytest.raises(LeaseLost):
                    await late.current()

    asyncio.run(scenario())


def test_step_of_a_worker_that_lost_its_lease_changes_nothing(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1)
            lead = await leading(database)
            await lead.open(0, 60)
            of = await report(database, 1)
            await lead.close_collecting(of.number)
            current = await lead.current()
            assert current is not None
            result = FederationCoordinator(current.terms).run_federation([partial_of(1, of)])
            await expire_lease(url)
            await leading(database)
            before = await execute(url, "SELECT * FROM rounds, leases")
            for step in (
                lead.publish(result, encode(result), ""),
                lead.abandon(of.number, "late"),
                lead.open(0, 60),
                lead.close_collecting(of.number),
                lead.release(),
            ):
                with pytest.raises(LeaseLost):
                    await step
            assert await execute(url, "SELECT * FROM rounds, leases") == before

    asyncio.run(scenario())


def test_round_is_opened_once_an_interval(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1)
            lead = await leading(database)
            assert await lead.open(3_600, 60) is not None
            await lead.abandon(1, "a test")
            await set_back(url, -3_600)  # as if it were that of the next hour
            assert await lead.open(3_600, 60) is None
            await set_back(url, 7_200)
            row = await lead.open(3_600, 60)
            assert row is not None and (row.number, row.state) == (2, "collecting")

    asyncio.run(scenario())


def test_round_has_the_newest_codebook_that_all_living_shards_are_grouped_under(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            lead = await leading(database)
            with pytest.raises(NoRound, match="no shard whose patterns are in buckets"):
                await lead.open(0, 60)
            await join(database, 1, version=4)
            await join(database, 2, 3)
            await join(database, 4, version=2)
            await fall_silent(url, 4)
            await database.heartbeat(shard_name(3), 1, 0, 0, 0)  # it has just been started
            await lead.open(0, 60)
            current = await lead.current()
            assert current is not None
            assert (current.terms.codebook_version, current.terms.buckets) == (VERSION, BUCKETS)
            assert current.terms.map_epoch == (await database.shard_map()).epoch == 4
            assert list(current.terms.shards) == [shard_name(n) for n in (1, 2, 3, 4)]
            await lead.abandon(1, "a test")
            await database.heartbeat(shard_name(2), 1, 0, 0, 9)
            await database.heartbeat(shard_name(1), 1, 0, 0, 9)
            with pytest.raises(NoRound, match="codebook 9, which nobody has published"):
                await lead.open(0, 60)
            await database.publish_codebook(codebook(9))
            row = await lead.open(0, 60)
            assert row is not None and row.codebook_version == 9

    asyncio.run(scenario())


def test_a_shard_without_slots_is_not_asked_and_nothing_waits_for_it(url: str) -> None:
    """Were it one of three, nothing could be published that two have."""

    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)
            await execute(url, "UPDATE slots SET shard_id = $1", shard_name(1))
            await database.heartbeat(shard_name(2), 1, 0, 0, 1)  # it is grouped under nothing newer
            lead = await leading(database)
            await lead.open(0, 60)
            current = await lead.current()
            assert current is not None and list(current.terms.shards) == [shard_name(1)]
            assert current.terms.codebook_version == VERSION
            await report(database, 1)
            assert await database.open_round(shard_name(2)) is None
            closed = await lead.close_collecting(1)
            assert closed is not None and (closed.state, closed.expected, closed.reported) == ("merging", 1, 1)

    asyncio.run(scenario())


def test_round_is_held_to_the_strictest_of_its_shards(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)
            await database.register(Member("careful", "eu", "http://careful", sharing="aggregates"))
            lead = await leading(database)
            await lead.open(0, 60)
            current = await lead.current()
            assert current is not None and (current.terms.sharing, current.terms.min_devices) == ("aggregates", 20)

    asyncio.run(scenario())


def test_collecting_ends_when_all_that_live_have_reported(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2, 3)
            lead = await leading(database)
            await lead.open(0, 60)
            assert await lead.close_collecting(1) is None
            await report(database, 1)
            await fall_silent(url, 2)
            assert await lead.close_collecting(1) is None
            await report(database, 3)
            row = await lead.close_collecting(1)
            assert row is not None and (row.state, row.reported, row.expected) == ("merging", 2, 3)

    asyncio.run(scenario())


def test_collecting_waits_for_the_deadline_while_nobody_has_reported(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1)
            lead = await leading(database)
            await lead.open(0, 60)
            await fall_silent(url, 1)
            assert await lead.close_collecting(1) is None
            await execute(url, "UPDATE rounds SET deadline = now()")
            row = await lead.close_collecting(1)
            assert row is not None and (row.state, row.why) == ("abandoned", "no shard reported by the deadline")
            assert await lead.current() is None

    asyncio.run(scenario())


def test_report_that_is_being_kept_when_collecting_ends_is_in_the_round(url: str) -> None:
    """Or is refused: never neither."""

    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)
            lead = await leading(database)
            for number in range(1, 9):
                await lead.open(0, 0)
                await report(database, 1)
                given = partial_of(2, await asked(database, 2))
                outcome, row = await asyncio.gather(
                    database.report(given), lead.close_collecting(number), return_exceptions=True
                )
                assert not isinstance(row, BaseException) and row is not None
                if outcome is None:
                    [(kept,)] = await execute(url, "SELECT count(content) FROM partials WHERE round = $1", number)
                    assert row.reported == kept == 2
                else:
                    assert isinstance(outcome, RefusedPartial) and row.reported == 1
                await lead.abandon(number, "a test")

    asyncio.run(scenario())


def test_partials_go_when_a_later_round_is_published_and_rounds_after_a_while(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1)
            assert await database.published(0, shard_name(1)) is None
            assert [await publish(database) for _ in range(2)] == [1, 2]
            assert await execute(url, "SELECT DISTINCT round FROM partials") == [(2,)]
            for number, gave in ((1, True), (2, False)):
                published = await database.published(1, shard_name(number))
                assert published is not None and decode_result(published.result).number == 2
                assert bool(published.given) == gave
            assert await database.published(2, shard_name(1)) is None
            assert await database.published(77, "") is not None, "a shard knows a round of a database that was lost"
            await execute(url, "UPDATE rounds SET number = number + $1 WHERE number = 1", ROUNDS_KEPT - 1)
            await execute(url, "DELETE FROM rounds WHERE number = 2")
            assert await publish(database) == ROUNDS_KEPT + 1
            assert [row.number for row in await database.last_rounds(9)] == [ROUNDS_KEPT + 1, ROUNDS_KEPT]
            await execute(url, "UPDATE rounds SET number = 2 WHERE number = $1", ROUNDS_KEPT)
            assert await publish(database) == ROUNDS_KEPT + 2
            assert [row.number for row in await database.last_rounds(1)] == [ROUNDS_KEPT + 2]
            assert len(await database.last_rounds(9)) == 2

    asyncio.run(scenario())


def test_rounds_do_not_go_back_to_an_older_codebook(url: str) -> None:
    """Which a shard that was started again is grouped under, until it has got to the one of the others."""

    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)
            await database.publish_codebook(codebook(VERSION - 1))
            await publish(database)
            await beat(database, 2, VERSION - 1)
            lead = await leading(database)
            row = await lead.open(0, 60)
            assert row is not None and row.codebook_version == VERSION
            await lead.abandon(row.number, "a test")
            await beat(database, 1, VERSION - 1)
            with pytest.raises(NoRound):
                await lead.open(0, 60)

    asyncio.run(scenario())

"""The coordinator database as shards use it: map, heartbeats, codebooks, and reports that are taken or refused."""

import asyncio
from collections.abc import Callable

import pytest

from constellation.federation import RefusedPartial
from constellation.federation.database import Held, Member, Refused, Unregistered, connect
from constellation.federation.moves import Moves
from constellation.limits import SHARD_LIVE_S
from constellation.rounds import GLOBAL, Partial, decode_partial, encode
from constellation.slots import SLOTS
from constellation.storage.connections import WrongDatabase
from tests.federation.material import shard_name
from tests.federation.reporting import asked, beat, codebook, join, leading, opened, partial_of, report
from tests.storage.conftest import execute
from tests.storage.conftest import opened as opened_as_shard


def test_database_of_a_shard_is_refused_and_that_of_a_federation_is_no_shards(url: str) -> None:
    async def scenario() -> None:
        database = await connect(url)
        with pytest.raises(WrongDatabase, match="holds no federation"):
            await database.check()
        await database.close()
        async with opened(url) as database:
            await database.check()
        with pytest.raises(WrongDatabase, match="0001_coordinator where 0001_initial belongs"):
            async with opened_as_shard(url):
                pass

    asyncio.run(scenario())


def test_first_shard_of_a_region_has_all_slots_and_later_ones_none(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            for shard_id, region in (("a", "eu"), ("b", "us"), ("c", "eu")):
                await database.register(Member(shard_id, region, f"http://{shard_id}"))
            found = await database.shard_map()
            assert [(one.shard_id, one.region, one.slots) for one in found.shards] == [
                ("a", "eu", [(0, SLOTS - 1)]),
                ("c", "eu", []),
                ("b", "us", [(0, SLOTS - 1)]),
            ]

    asyncio.run(scenario())


def test_shards_that_start_together_share_evenly_in_any_order(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await asyncio.gather(*(database.register(Member(f"s{i}", "eu", "http://s"), i, 3) for i in (2, 0, 1)))
            slots = [one.slots for one in (await database.shard_map()).shards]
            assert slots == [[(0, 5_460)], [(5_461, 10_921)], [(10_922, 16_383)]]

    asyncio.run(scenario())


def test_ranges_of_slots_are_those_of_the_rows(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await database.register(Member("a", "eu", "http://a"))
            await database.register(Member("b", "eu", "http://b"))
            await execute(url, "UPDATE slots SET shard_id = 'b' WHERE slot IN (0, 7, 8, 16383)")
            a, b = (await database.shard_map()).shards
            assert a.slots == [(1, 6), (9, 16_382)]
            assert b.slots == [(0, 0), (7, 8), (16_383, 16_383)]

    asyncio.run(scenario())


def test_map_epoch_grows_when_a_shard_joins_or_has_another_address_and_not_when_it_comes_again(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            for shard_id, address, epoch in (("a", "1", 1), ("a", "1", 1), ("a", "2", 2), ("b", "3", 3)):
                await database.register(Member(shard_id, "eu", f"http://{address}"))
                assert (await database.shard_map()).epoch == epoch
                assert await database.heartbeat("a", epoch, 5, 9, 1) == epoch
            a, b = (await database.shard_map()).shards
            assert (a.url, a.devices, a.patterns, a.epoch) == ("http://2", 5, 9, 3)
            assert (b.devices, b.patterns, b.epoch) == (0, 0, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("order", ["abcd", "dcab", "bdac"])
def test_shards_bring_the_slots_that_they_held_to_a_database_that_was_lost(url: str, order: str) -> None:
    """Also one that had none, where a share would be free; what a shard has that is not there yet stays free."""
    slots = {"a": [0, 1, 7], "b": [*range(2, 7), *range(8, 9_000)], "c": [*range(9_000, SLOTS)], "d": []}

    async def scenario() -> None:
        async with opened(url) as database:
            for shard_id in order:
                held = Held(9, slots[shard_id])
                for _ in range(2):  # killed before it looked at the map
                    await database.register(Member(shard_id, "eu", "http://s"), held=held)
                free = {slot for other in order[order.index(shard_id) + 1 :] for slot in slots[other]}
                rows = await execute(url, "SELECT slot, shard_id FROM slots")
                assert dict(rows) == {slot: one for one in order for slot in slots[one] if slot not in free}
            await database.register(Member("new", "eu", "http://new"))
            assert (await database.shard_map()).shards[-1].slots == []

    asyncio.run(scenario())


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_two_shards_that_held_a_slot_the_one_with_the_newer_map_has_it(url: str, order: str) -> None:
    """The move was not seen by the shard that they left. A new shard that came too early gives back what it took."""
    held = {"a": Held(5, [1, 2, 3, 4]), "b": Held(6, [3, 4, 5])}

    async def scenario() -> None:
        async with opened(url) as database:
            await database.register(Member("early", "eu", "http://early"))
            await database.register(Member("abroad", "us", "http://abroad"), held=Held(7, [3, 4]))
            for shard_id in (*order, *order):
                await database.register(Member(shard_id, "eu", "http://s"), held=held[shard_id])
            found = await database.shard_map()
            assert [one.slots for one in found.shards] == [[(1, 2)], [(3, 5)], [(0, 0), (6, SLOTS - 1)], [(3, 4)]]
            assert found.epoch > 7
            await database.register(Member("a", "eu", "http://s"), held=Held(found.epoch, [1, 2]))
            assert (await database.shard_map()).epoch == found.epoch

    asyncio.run(scenario())


@pytest.mark.parametrize("order", ["abc", "bca"])
def test_a_database_from_before_a_move_learns_of_it_from_the_shards(url: str, order: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            members = [Member(shard_id, "eu", f"http://{shard_id}") for shard_id in "abc"]
            for number, member in enumerate(members):
                await database.register(member, number, 3)
            before = await database.shard_map()
            held = {one.shard_id: list(range(one.slots[0][0], one.slots[0][1] + 1)) for one in before.shards}
            for shard_id in "abc":  # such a one is older than the database: slots moved while it was away
                await database.register(members["abc".index(shard_id)], held=Held(0, held[shard_id][9:]))
            assert [one.slots for one in (await database.shard_map()).shards] == [one.slots for one in before.shards]
            await Moves(database).plan("b", "c", [held["b"][-1]])
            held["a"].append(held["b"].pop(0))
            for shard_id in order:
                await database.register(members["abc".index(shard_id)], held=Held(before.epoch + 1, held[shard_id]))
            after = await database.shard_map()
            assert [one.slots for one in after.shards] == [[(one[0], one[-1])] for one in held.values()]
            assert after.epoch > before.epoch + 1 and await Moves(database).unfinished() == []

    asyncio.run(scenario())


def test_shard_of_another_region_or_of_the_reserved_one_is_refused(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await database.register(Member("a", "eu", "http://a"))
            with pytest.raises(Refused, match="shard a is one of region eu, not of us"):
                await database.register(Member("a", "us", "http://a"))
            with pytest.raises(Refused, match="choose another --region"):
                await database.register(Member("b", GLOBAL, "http://b"))
            assert [one.shard_id for one in (await database.shard_map()).shards] == ["a"]

    asyncio.run(scenario())


def test_shard_lives_while_its_heartbeat_is_young(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            with pytest.raises(Unregistered):
                await beat(database, 1)
            await join(database, 1)
            assert [one.live for one in (await database.shard_map()).shards] == [True]
            await execute(url, "UPDATE shards SET heartbeat = now() - make_interval(secs => $1)", SHARD_LIVE_S)
            assert [one.live for one in (await database.shard_map()).shards] == [False]
            await beat(database, 1)
            assert [one.live for one in (await database.shard_map()).shards] == [True]

    asyncio.run(scenario())


def test_codebook_is_given_by_version_and_never_changes(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            assert await database.codebook(0) is None
            for version in (1, 3, 2, 3):
                await database.publish_codebook(codebook(version))
            newest = await database.codebook(2)
            assert newest is not None and newest.version == 3
            assert (newest.codes == codebook(3).codes).all()
            assert await database.codebook(3) is None
            with pytest.raises(Refused, match="codebook 3 is published with other centroids"):
                await database.publish_codebook(codebook(3, seed=1))

    asyncio.run(scenario())


def test_partial_given_twice_is_the_first_one(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)
            await (await leading(database)).open(0, 60)
            of = await report(database, 1)
            assert await database.open_round(shard_name(1)) is None
            other = partial_of(1, of)
            other.devices += 1
            await asyncio.gather(*(database.report(other) for _ in range(2)))
            [(kept,)] = await execute(url, "SELECT content FROM partials WHERE content IS NOT NULL")
            assert kept == encode(partial_of(1, of)) and decode_partial(kept).devices != other.devices

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda one: setattr(one, "map_epoch", one.map_epoch + 1), "map_epoch: round 1 has 2, got 3"),
        (lambda one: setattr(one, "codebook_version", 2), "codebook_version: round 1 has 3, got 2"),
        (lambda one: setattr(one, "round", 2), "there is no round 2"),
        (lambda one: setattr(one, "shard_id", "stranger"), "round 1 did not ask this shard"),
    ],
)
def test_partial_of_another_round_is_refused(url: str, change: Callable[[Partial], None], why: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)
            await (await leading(database)).open(0, 60)
            with pytest.raises(RefusedPartial, match=why):
                await report(database, 1, change)
            assert await execute(url, "SELECT FROM partials WHERE content IS NOT NULL") == []
            await report(database, 1)

    asyncio.run(scenario())


def test_shard_that_joins_later_is_asked_by_the_next_round(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1)
            lead = await leading(database)
            await lead.open(0, 60)
            await join(database, 2)
            assert await database.open_round(shard_name(2)) is None
            await report(database, 1)
            await lead.close_collecting(1)
            await lead.abandon(1, "a test")
            await lead.open(0, 60)
            assert (await asked(database, 2)).number == 2

    asyncio.run(scenario())


def test_partial_that_comes_late_is_refused(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)
            lead = await leading(database)
            await lead.open(0, 0)
            await report(database, 1)
            late = partial_of(2, await asked(database, 2))
            await lead.close_collecting(1)
            with pytest.raises(RefusedPartial, match="round 1 is merging, it came too late"):
                await database.report(late)
            assert await database.open_round(shard_name(2)) is None
            await lead.abandon(1, "a test")
            with pytest.raises(RefusedPartial, match="round 1 is abandoned, it came too late"):
                await database.report(late)

    asyncio.run(scenario())

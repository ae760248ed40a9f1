"""Moves of slots in the coordinator database: whose turn it is, what a round waits for, and what is refused."""

import asyncio

import pytest

from constellation.federation.database import CoordinatorDatabase, Member, Refused
from constellation.federation.leading import NoRound
from constellation.federation.moves import Move, Moves, Piece
from constellation.limits import MOVE_DEVICES_MAX, MOVE_GIVEN_UP_S, SHARD_LIVE_S
from constellation.slots import SLOTS, ranges_of
from tests.federation.material import REGIONS, shard_name
from tests.federation.reporting import SHARES, asked, beat, join, leading, opened, report
from tests.storage.conftest import execute

A, B, C, D = (shard_name(number) for number in (1, 2, 3, 4))
EACH = SLOTS // SHARES
PIECES = [Piece(1, 3, b"one"), Piece(2, 4, b"two")]


async def state(moves: Moves, number: int = 1) -> str:
    [move] = await moves.numbered([number])
    return move.state


async def owner(url: str, slot: int) -> str:
    [[shard_id]] = await execute(url, "SELECT shard_id FROM slots WHERE slot = $1", slot)
    return str(shard_id)


async def silence(url: str, shard_id: str, seconds: int) -> None:
    """As if the time had passed."""
    await execute(
        url,
        "UPDATE shards SET heartbeat = now() - make_interval(secs => $2) WHERE shard_id = $1",
        *(shard_id, seconds + 1),
    )


async def copy(moves: Moves, number: int = 1) -> None:
    await moves.begin(number)
    assert await moves.tell(number, PIECES)
    await moves.copied(number)


async def take_in(moves: Moves, number: int = 1) -> None:
    pieces = await moves.pieces(number, 10)
    assert pieces == PIECES
    await moves.imported(number, pieces)


async def planned(database: CoordinatorDatabase, url: str) -> Moves:
    """Of the slots of A, 5 and 6 are to go to B."""
    await join(database, 1, 2)
    moves = Moves(database)
    assert await moves.plan(A, B, [5, 6]) == [1]
    return moves


def test_a_move_from_its_plan_to_its_end_and_every_step_twice(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            moves = await planned(database, url)
            epoch = (await database.shard_map()).epoch
            await moves.own(1)
            await moves.end(1)
            assert await state(moves) == "planned" and not await moves.tell(1, PIECES)
            for _ in range(2):
                await moves.begin(1)
                assert await state(moves) == "copying" and await moves.pieces(1, 10) is None
                assert await moves.tell(1, PIECES)
            await moves.copied(1)
            await moves.begin(1)  # too late, and it changes nothing
            for pieces in (PIECES[:1], PIECES[1:]):
                await moves.own(1)
                assert await state(moves) == "copied" and await owner(url, 5) == A
                for _ in range(2):
                    assert await moves.pieces(1, 1) == pieces
                for _ in range(2):
                    await moves.imported(1, pieces)
            assert await moves.pieces(1, 1) == []
            for _ in range(2):
                await moves.own(1)
                assert await state(moves) == "owned"
            shards = await database.shard_map()
            assert shards.epoch == epoch + 1
            assert [shard.slots for shard in shards.shards] == [[(0, 4), (7, EACH - 1)], [(5, 6), (EACH, 2 * EACH - 1)]]
            for _ in range(2):
                await moves.end(1)
            assert await moves.unfinished() == [] and await execute(url, "SELECT FROM moving") == []
            [move] = await moves.numbered([1])
            assert move == Move(1, A, B, [5, 6], "done", move.devices, 7, 7, "")

    asyncio.run(scenario())


@pytest.mark.parametrize("at", ["planned", "copying", "copied", "taken in"])
def test_what_has_not_changed_owner_is_taken_back(url: str, at: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            moves = await planned(database, url)
            if at == "copying":
                await moves.begin(1)
                await moves.tell(1, PIECES)
            elif at != "planned":
                await copy(moves)
            if at == "taken in":
                await take_in(moves)
            assert await moves.cancel(A, B, "a test") == [1]
            assert await moves.cancel(A, B, "a test") == []
            assert await execute(url, "SELECT FROM moving") == []
            assert not await moves.tell(1, PIECES) and await moves.pieces(1, 10) is None
            for late in (moves.begin, moves.copied, moves.own):
                await late(1)
            kept_by_target = at in ("copied", "taken in")
            assert await state(moves) == ("cancelled" if kept_by_target else "undone")
            assert await owner(url, 5) == A
            if kept_by_target:  # what B may hold of them has to go first
                with pytest.raises(Refused, match="move 1 of slots 6 is not over"):
                    await moves.plan(A, B, [6])
                await join(database, 3)
                assert await moves.plan(A, C, [6]) == [2]
                await moves.end(1)
            assert await state(moves) == "undone"
            assert await moves.plan(A, B, [5])

    asyncio.run(scenario())


def test_what_has_changed_owner_is_not_taken_back(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            moves = await planned(database, url)
            await copy(moves)
            await take_in(moves)
            await moves.own(1)
            assert await moves.cancel(A, B, "a test") == [] and await state(moves) == "owned"

    asyncio.run(scenario())


def test_plans_that_cannot_be_are_refused(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            moves = await planned(database, url)
            await database.register(Member(C, REGIONS[1], "http://c"))
            await database.register(Member(D, REGIONS[0], "http://d"), SHARES - 1, SHARES)
            await execute(url, "DELETE FROM slots WHERE shard_id = $1", D)
            for pair, slots, why in (
                ((A, B), [6, 7], "move 1 of slots 6 is not over"),
                ((A, A), [7], "give another shard"),
                ((A, "nobody"), [7], "there is no shard nobody"),
                ((B, A), [7], f"does not have slots 7; it has slots {EACH}-{2 * EACH - 1}"),
                ((D, A), None, f"nothing to move: shard {D} has no slots"),
                ((A, C), [7], f"of region {REGIONS[0]}, {C} of {REGIONS[1]}"),
            ):
                with pytest.raises(Refused, match=why):
                    await moves.plan(*pair, slots)
            await silence(url, B, SHARD_LIVE_S)
            with pytest.raises(Refused, match="start it first"):
                await moves.plan(A, B, [7])
            assert len(await moves.unfinished()) == 1

    asyncio.run(scenario())


def test_a_share_of_the_slots_goes_in_moves_of_few_devices(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)
            moves = Moves(database)
            await database.heartbeat(A, 1, 10 * MOVE_DEVICES_MAX, 0, 0)
            numbers = await moves.plan(A, B, None, 0.5)
            found = await moves.numbered(numbers)
            assert len(found) == 6 and [move.number for move in found] == numbers
            assert ranges_of(slot for move in found for slot in move.slots) == [(EACH // 2, EACH - 1)]
            assert max(move.devices for move in found) <= MOVE_DEVICES_MAX
            assert await moves.of(A) == await moves.of(B) == found and await moves.of(C) == []

    asyncio.run(scenario())


def test_a_drained_shard_gives_each_other_one_an_equal_part(url: str) -> None:
    """Also where some of its slots are on their way, and when it is said again."""

    async def scenario() -> None:
        async with opened(url) as database:
            moves = await planned(database, url)
            await join(database, 3, 4)
            await database.register(Member("abroad", REGIONS[1], "http://abroad"))
            await silence(url, D, SHARD_LIVE_S)
            numbers = await moves.drain(A)
            assert numbers == await moves.drain(A, [B]) == [1, 2, 3]
            found = await moves.numbered(numbers)
            assert [move.to_shard for move in found] == [B, B, C] and len(found[1].slots) == len(found[2].slots)
            assert sorted(slot for move in found for slot in move.slots) == list(range(EACH))
            for move in found:
                await copy(moves, move.number)
                await take_in(moves, move.number)
                await moves.own(move.number)
            assert await moves.drain(A) == numbers  # it has to drop them yet
            for number in numbers:
                await moves.end(number)
            assert await moves.drain(A) == []
            assert await execute(url, "SELECT FROM slots WHERE shard_id = $1", A) == []

    asyncio.run(scenario())


def test_a_shard_is_drained_onto_those_that_are_named(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2, 3, 4)
            moves = Moves(database)
            found = await moves.numbered(await moves.drain(A, [D, B, D]))
            assert [(move.to_shard, len(move.slots)) for move in found] == [(D, EACH // 2), (B, EACH // 2)]

    asyncio.run(scenario())


def test_a_shard_that_cannot_be_drained_stays_as_it_is(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1)
            moves = Moves(database)
            for shard_id, targets, why in (
                (A, [], f"no other shard of region {REGIONS[0]}"),
                ("nobody", [], "there is no shard nobody"),
                (A, [B], f"there is no shard {B}"),
            ):
                with pytest.raises(Refused, match=why):
                    await moves.drain(shard_id, targets)
            await join(database, 2, 3)
            with pytest.raises(Refused, match="give another shard"):
                await moves.drain(A, [B, A])
            assert await moves.unfinished() == []
            await moves.drain(C, [A])
            with pytest.raises(Refused, match=f"on their way to shard {A} in move 1"):
                await moves.drain(A)
            found = await moves.numbered(await moves.drain(B))
            assert [move.to_shard for move in found] == [A]  # C is being drained, too
            await silence(url, B, SHARD_LIVE_S)
            with pytest.raises(Refused, match="start it first"):
                await moves.drain(B)

    asyncio.run(scenario())


def test_a_move_whose_target_died_is_taken_back_after_a_while(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            moves = await planned(database, url)
            await moves.plan(A, B, [9])
            await copy(moves)
            await silence(url, B, MOVE_GIVEN_UP_S - 2)
            await moves.give_up(A)
            assert await state(moves) == "copied"
            await silence(url, B, MOVE_GIVEN_UP_S)
            await moves.give_up(A)
            assert (await state(moves), await state(moves, 2)) == ("cancelled", "undone")
            [move, _] = await moves.numbered([1, 2])
            assert "was not heard of" in move.why

    asyncio.run(scenario())


def test_no_move_begins_or_arrives_while_a_round_goes_on(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            moves = await planned(database, url)
            await moves.plan(A, B, [9])
            lead = await leading(database)
            await moves.begin(1)
            await moves.tell(1, PIECES)
            await lead.open(0, 60)  # nobody takes anything in yet
            await moves.copied(1)
            await moves.begin(2)
            assert await state(moves, 2) == "planned"
            assert await moves.pieces(1, 10) is None
            await report(database, 1)
            assert await database.open_round(B) is None  # it may hold devices that A counts
            await lead.abandon(1, "a test")
            await take_in(moves)
            await execute(url, "INSERT INTO rounds SELECT 2, 'merging', now(), now(), 1, version, '', 0 FROM codebooks")
            await moves.own(1)
            assert await state(moves) == "copied"
            await lead.abandon(2, "a test")
            await moves.own(1)
            assert await state(moves) == "owned"

    asyncio.run(scenario())


def test_no_round_is_opened_while_a_living_shard_takes_devices_in(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            moves = await planned(database, url)
            lead = await leading(database)
            await copy(moves)
            with pytest.raises(NoRound, match=f"shard {B} takes in the devices of move 1"):
                await lead.open(0, 60)
            await silence(url, B, SHARD_LIVE_S)
            assert await lead.open(0, 60) is not None  # the others do not wait for one that is gone
            await beat(database, 2)
            assert await database.open_round(B) is None
            await asked(database, 1)

    asyncio.run(scenario())


def test_who_still_holds_what_it_gave_away_or_has_to_drop_does_not_report(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            moves = await planned(database, url)
            lead = await leading(database)
            await copy(moves)
            await take_in(moves)
            await moves.own(1)
            await lead.open(0, 60)
            assert await database.open_round(A) is None
            await asked(database, 2)
            await moves.end(1)
            await asked(database, 1)
            await lead.abandon(1, "a test")
            await moves.plan(A, B, [7])
            await copy(moves, 2)
            await moves.cancel(A, B, "a test")
            await lead.open(0, 60)
            assert await database.open_round(B) is None
            await asked(database, 1)
            await moves.end(2)
            await asked(database, 2)

    asyncio.run(scenario())

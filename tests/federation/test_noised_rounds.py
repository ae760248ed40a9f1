"""Rounds with noise in the coordinator database: what they cost is entered with them, and a budget is kept."""

import asyncio

import msgspec
import pytest

from constellation.federation.database import CoordinatorDatabase, Member
from constellation.federation.leading import Leadership, Noised, NoRound, Wanted
from constellation.federation.merging import FederationCoordinator
from constellation.federation.privacy import PrivacyBudget, calibrated
from constellation.federation.terms import RoundTerms
from constellation.limits import DAY_S
from constellation.rounds import Partial, Privacy, decode_partial, decode_result, encode
from tests.federation.material import REGIONS, shard_name
from tests.federation.reporting import VERSION, asked, beat, codebook, leading, opened, partial_of
from tests.storage.conftest import execute

NOISE = calibrated(Privacy(1.0, 1e-9))
NOISED = Noised(NOISE, PrivacyBudget(epsilon=2.0, delta=1e-7, window_s=DAY_S))


async def join(database: CoordinatorDatabase, sharing: str) -> None:
    await database.publish_codebook(codebook())
    await database.register(Member(shard_name(1), REGIONS[0], "http://one", sharing))  # type: ignore[arg-type]
    await beat(database, 1, VERSION)


async def publish(
    database: CoordinatorDatabase, lead: Leadership, number: int, budget: PrivacyBudget | None = NOISED.budget
) -> None:
    of = await asked(database, 1)
    given = partial_of(1, of)
    given.sharing = "aggregates"
    await database.report(given)
    assert await lead.close_collecting(number) is not None
    current = await lead.current()
    found = await lead.next_partial(number, "")
    assert current is not None and found is not None
    partial: Partial = decode_partial(found[1])
    result = FederationCoordinator(current.terms).run_federation([partial], lambda _: None)
    await lead.publish(result, encode(result), "", budget)


def test_what_a_round_costs_is_entered_with_it_and_no_round_exceeds_the_budget(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, "aggregates")
            lead = await leading(database)
            spent = []
            for number in (1, 2):
                assert await lead.open(0, 60, Wanted(NOISED)) is not None
                await publish(database, lead, number)
                [row] = await database.last_rounds(1)
                assert row.epsilon == 1.0 and row.spent is not None
                spent.append(row.spent)
                published = await database.published(number - 1, shard_name(1))
                assert published is not None and decode_result(published.result).privacy == NOISE.privacy
            assert spent[0] <= 1.0 < spent[1] <= 2.0
            [[terms]] = await execute(url, "SELECT terms FROM rounds WHERE number = 2")
            assert msgspec.msgpack.decode(terms, type=RoundTerms).noise == NOISE
            while True:  # small ones fit as long as they fit
                try:
                    await lead.open(0, 60, Wanted(NOISED))
                except NoRound as refused:
                    assert "budget" in str(refused) and "fits at" in str(refused)
                    break
                number += 1
                await publish(database, lead, number)
            assert number < 10
            await execute(url, "UPDATE releases SET at = at - $1", DAY_S)
            assert await lead.open(0, 60, Wanted(NOISED)) is not None

    asyncio.run(scenario())


def test_a_round_costs_what_its_terms_say_whoever_publishes_it(url: str) -> None:
    """A worker that was started again with other settings, or without any."""

    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, "aggregates")
            lead = await leading(database)
            await lead.open(0, 60, Wanted(NOISED))
            await publish(database, lead, 1, budget=None)
            [row] = await database.last_rounds(1)
            assert (row.epsilon, row.spent) == (1.0, None)
            [entry] = await execute(url, "SELECT multiplier, names_delta FROM releases")
            assert tuple(entry) == (NOISE.multiplier, NOISE.names_delta)

    asyncio.run(scenario())


def test_noise_is_for_aggregates(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, "patterns")
            lead = await leading(database)
            with pytest.raises(NoRound, match="--sharing aggregates"):
                await lead.open(0, 60, Wanted(NOISED))
            assert await lead.open(0, 60) is not None

    asyncio.run(scenario())


def test_an_abandoned_round_costs_nothing(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, "aggregates")
            lead = await leading(database)
            await lead.open(0, 60, Wanted(NOISED))
            await lead.abandon(1, "a test")
            assert await execute(url, "SELECT FROM releases") == []
            [row] = await database.last_rounds(1)
            assert (row.epsilon, row.spent) == (None, None)

    asyncio.run(scenario())


def test_a_robust_round_has_a_key_of_its_own(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, "patterns")
            lead = await leading(database)
            keys = set()
            for number in (1, 2):
                await lead.open(0, 60, Wanted(robust=True))
                keys.add((await asked(database, 1)).group_key)
                await lead.abandon(number, "a test")
            assert len(keys) == 2 and {len(key) for key in keys} == {16}
            await lead.open(0, 60)
            assert (await asked(database, 1)).group_key == b""

    asyncio.run(scenario())

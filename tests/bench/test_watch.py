"""The watch runs what it times as the loop would run it."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

import pytest

from bench.watch import Watch
from tests.shard.material import new_shard, request

Result = TypeVar("Result")


def test_each_turn_of_a_coroutine_is_counted_and_its_result_given() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return await asyncio.to_thread(lambda: "done")

    watch = Watch()
    assert asyncio.run(_watched(watch, work())) == "done"
    assert watch.turns == {"working": 3}


def test_steps_of_a_generator_are_turns_and_the_busiest_says_where_it_was() -> None:
    shard = new_shard()
    shard.apply(request(1, [(1, 0.9, 10)]), 0)
    while shard.maintain():
        pass
    watch = Watch()
    partial = asyncio.run(_watched(watch, shard.partial(1, 1, shard.codebook_version)))
    assert partial is not None and partial.devices == 1
    assert watch.turns["working"] > 1
    assert watch.busiest["working"].where.startswith("shard.")


def test_failure_of_what_is_awaited_reaches_the_work() -> None:
    def fail() -> None:
        raise FileNotFoundError

    async def work() -> str:
        with pytest.raises(FileNotFoundError):
            await asyncio.to_thread(fail)
        return "went on"

    assert asyncio.run(_watched(Watch(), work())) == "went on"


def test_failure_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        asyncio.run(_watched(Watch(), work()))


async def _watched(watch: Watch, work: Coroutine[Any, Any, Result] | Generator[None, None, Result]) -> Result:
    return await watch.turns_of("working", work)

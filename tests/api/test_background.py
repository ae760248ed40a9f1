"""The background tasks: upkeep goes on between requests, and its failure turns readiness off."""

import asyncio
from collections.abc import Callable

import pytest

from constellation import limits
from constellation.api.background import running
from constellation.api.service import Service
from constellation.errors import NotReady
from tests.api.direct import Direct


def service_with_upkeep(maintain: Callable[[], bool]) -> Service:
    direct = Direct()
    direct.close()
    direct.service.shard.maintain = maintain  # type: ignore[method-assign]
    return direct.service


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


def test_upkeep_goes_on_at_once_while_more_is_waiting() -> None:
    waiting = list(range(100))

    def maintain() -> bool:
        if waiting:
            waiting.pop()
        return bool(waiting)

    async def run() -> float:
        began_at = asyncio.get_running_loop().time()
        async with running(service_with_upkeep(maintain)):
            await until(lambda: not waiting)
        return asyncio.get_running_loop().time() - began_at

    assert asyncio.run(run()) < 100 * limits.MAINTAIN_EVERY_MS / 1e3


def test_failed_upkeep_turns_readiness_off(caplog: pytest.LogCaptureFixture) -> None:
    def maintain() -> bool:
        raise ValueError("broken")

    async def run() -> Service:
        service = service_with_upkeep(maintain)
        async with running(service):
            await until(lambda: bool(service.broken))
        return service

    service = asyncio.run(run())
    assert service.status == "failed" and service.broken == {"upkeep": "ValueError('broken')"}
    with pytest.raises(NotReady, match="upkeep"):
        service.admit()
    assert "background task failed" in caplog.text


def test_loop_lag_is_measured() -> None:
    async def run() -> float:
        service = service_with_upkeep(lambda: False)
        async with running(service):
            await until(lambda: service.loop_lag_s_max > 0)
        return service.loop_lag_s_max

    assert 0 < asyncio.run(run()) < 10

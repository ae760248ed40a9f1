"""The history and the listeners: bounded both, nobody waits for anybody, and a drain ends them."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np
import pytest

from constellation.api.page.history import COLUMNS, History
from constellation.api.page.listeners import Live
from constellation.api.page.stream import Stream
from constellation.errors import Draining, Overloaded
from constellation.limits import EVENTS_QUEUED_MAX, HISTORY_LEN, LISTENERS_MAX
from tests.api.direct import Direct


class Told(msgspec.Struct):
    number: int


def test_history_keeps_the_last_rows_in_order_and_gaps_as_gaps() -> None:
    history = History()
    assert history.columns() == {name: [] for name in COLUMNS}
    for second in range(HISTORY_LEN + 5):
        history.add({"at": second, "rate": None, "unknown": 1})
    columns = history.columns()
    assert columns["at"] == [float(second) for second in range(5, HISTORY_LEN + 5)]
    assert np.isnan(np.array([columns["rate"], columns["lag_ms"]], float)).all()
    assert msgspec.json.decode(msgspec.json.encode(columns))["rate"][0] is None


def test_who_joins_is_told_what_was_kept_and_then_what_comes() -> None:
    async def run() -> list[bytes]:
        live = Live()
        live.tell("now", Told(1))
        live.keep("map", Told(2))
        with live.listening() as listener:
            assert live.watched.is_set() and live.joined
            live.tell("now", Told(3))
            told = [listener.events.get_nowait() for _ in range(2)]
        assert not live.watched.is_set() and len(live) == 0
        return told

    assert asyncio.run(run()) == [b'event: map\ndata: {"number":2}\n\n', b'event: now\ndata: {"number":3}\n\n']


def test_slow_listener_is_dropped_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        live = Live()
        with live.listening() as slow, live.listening() as quick:
            for number in range(EVENTS_QUEUED_MAX + 1):
                live.tell("now", Told(number))
                quick.events.get_nowait()
            assert slow.ended.result() == "slow" and len(live) == 1
            assert not quick.ended.done()

    asyncio.run(run())
    assert "too slow" in caplog.text


def test_listeners_are_so_many_at_most_and_none_while_draining() -> None:
    async def run() -> None:
        live = Live()
        with ExitStack() as stack:
            listeners = [stack.enter_context(live.listening()) for _ in range(LISTENERS_MAX)]
            with pytest.raises(Overloaded), live.listening():
                pass
            live.end()
            assert all(listener.ended.result() == "draining" for listener in listeners)
        with pytest.raises(Draining), live.listening():
            pass

    asyncio.run(run())


async def streamed(
    direct: Direct, send: Callable[[Any], Awaitable[None]], receive: Callable[[], Awaitable[Any]]
) -> None:
    await asyncio.wait_for(Stream(direct.service)({}, receive, send), 10)  # type: ignore[arg-type]


def test_stream_ends_when_its_client_does_not_read_goes_or_the_process_drains() -> None:
    direct = Direct()
    live = direct.service.live

    async def forever() -> Any:
        await asyncio.Event().wait()

    async def blocked(message: Any) -> None:
        if message["type"] == "http.response.body":
            for number in range(EVENTS_QUEUED_MAX + 1):
                live.tell("now", Told(number))
            await forever()

    async def run() -> list[Any]:
        await streamed(direct, blocked, forever)
        assert len(live) == 0

        async def gone() -> Any:
            return {"type": "http.disconnect"}

        async def ignored(message: Any) -> None:
            pass

        await streamed(direct, ignored, gone)
        assert len(live) == 0
        sent: list[Any] = []

        async def drained(message: Any) -> None:
            sent.append(message)
            direct.service.drain()

        await streamed(direct, drained, forever)
        return sent

    sent = asyncio.run(run())
    direct.close()
    assert sent[0]["status"] == 200 and not sent[-1]["more_body"]

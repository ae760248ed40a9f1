"""How long turns of an event loop hold it, by what they do: for the questions about the longest ones.

The loop is a real uvloop, the collector set as the server sets it; an idle loop on the same machine shows how much of
the worst is the machine's own.
"""

import asyncio
import gc
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import uvloop

from bench.plan import Answers, Arguments, Item, Plan
from bench.report import Row, Yardstick, at_most
from constellation import limits
from constellation.api.server import GC_THRESHOLDS

_SERVICE = "constellation."


class Turn(NamedTuple):
    """How long the loop was held, how much of that its thread ran (the rest went to other processes, or to waiting for
    the disk), and between which lines, if that is known."""

    wall_ms: float
    cpu_ms: float
    where: str


class Watch:
    """Times turns by what they do."""

    def __init__(self) -> None:
        self.longest: dict[str, Turn] = {}
        """By the clock on the wall."""
        self.busiest: dict[str, Turn] = {}
        """By its thread's time on the CPU."""
        self.turns: dict[str, int] = {}

    async def turn(
        self, cause: str, work: Callable[Arguments, Item], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Item:
        """Do the work in one turn of the loop, then let the loop go round."""
        wall, cpu = time.perf_counter(), time.thread_time()
        result = work(*arguments, **named)
        self._note(cause, wall, cpu)
        await asyncio.sleep(0)
        return result

    def turns_of(self, cause: str, work: Coroutine[Any, Any, Item] | Generator[None, None, Item]) -> Awaitable[Item]:
        """Run a coroutine to its end, or a generator with a turn for each step; its result.

        What is called back meanwhile, as by a connection's data, is in no turn of its own.
        """
        return self._timed(cause, work)

    @types.coroutine
    def _timed(
        self, cause: str, work: Coroutine[Any, Any, Item] | Generator[None, None, Item]
    ) -> Generator[Any, None, Item]:
        failure: BaseException | None = None
        while True:
            came_from = _line(work)
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                awaited = work.send(None) if failure is None else work.throw(failure)
            except StopIteration as end:
                self._note(cause, wall, cpu, f"{came_from} to its end")
                result: Item = end.value
                return result
            self._note(cause, wall, cpu, f"{came_from} to {_line(work)}")
            try:
                failure = None
                yield awaited
            except BaseException as error:  # of what was awaited: for the work to deal with
                failure = error

    def _note(self, cause: str, wall: float, cpu: float, where: str = "") -> None:
        turn = Turn((time.perf_counter() - wall) * 1e3, (time.thread_time() - cpu) * 1e3, where)
        self.turns[cause] = self.turns.get(cause, 0) + 1
        self.longest[cause] = max(self.longest.get(cause, turn), turn)
        self.busiest[cause] = max(self.busiest.get(cause, turn), turn, key=lambda turn: turn.cpu_ms)

    @contextmanager
    def watching_collector(self) -> Iterator[None]:
        """Also time what the collector does of its own accord, inside whichever turn."""
        started = (0.0, 0.0)

        def on_collection(phase: str, _: dict[str, int]) -> None:
            nonlocal started
            if phase == "start":
                started = (time.perf_counter(), time.thread_time())
            else:
                self._note("collector, inside other turns", *started)

        gc.callbacks.append(on_collection)
        try:
            yield
        finally:
            gc.callbacks.remove(on_collection)


def watched(plan: Plan, live: Callable[[Watch], Coroutine[Any, Any, None]]) -> Answers:
    """A row for each cause of turns in what is lived."""
    watch, idle = Watch(), Watch()
    thresholds = gc.get_threshold()
    try:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        uvloop.run(_idle(idle, plan.seconds / 4))
        with watch.watching_collector():
            uvloop.run(live(watch))
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    noise = Yardstick("idle loop, longest turn", idle.longest["idle"].wall_ms)
    for cause, turn in sorted(watch.longest.items(), key=lambda item: -item[1].wall_ms):
        busiest = watch.busiest[cause]
        where = f", from {busiest.where}" if busiest.where else ""
        yield Row(
            name=f"longest turn: {cause}",
            value=turn.wall_ms,
            unit="ms",
            quality=f"of {watch.turns[cause]:,}; at most {busiest.cpu_ms:.2f} ms on the CPU{where}",
            yardstick=noise,
            target=at_most(limits.LOOP_TURN_MS_MAX),
        )


async def _idle(watch: Watch, seconds: float) -> None:
    """Short turns that do nothing to speak of."""
    some = np.ones((100, 384), np.float32)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        await watch.turn("idle", some.sum)


def _line(work: Any) -> str:
    """Where a coroutine or a generator stands: the innermost line of the service's."""
    line = "its start"
    while work is not None:
        frame = getattr(work, "cr_frame", None) or getattr(work, "gi_frame", None)
        if frame is not None and frame.f_globals["__name__"].startswith(_SERVICE):
            line = f"{frame.f_globals['__name__'].removeprefix(_SERVICE)}:{frame.f_lineno}"
        work = getattr(work, "cr_await", None) or getattr(work, "gi_yieldfrom", None)
    return line

"""How large a run is, what every question answers, and the clock they share."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from bench.report import Row

Item = TypeVar("Item")
Arguments = ParamSpec("Arguments")


class Plan(NamedTuple):
    """The sizes of one run. `tiny` is for tests: every line of the suite, no meaning in the numbers."""

    patterns: int = 100_000
    queries: int = 500
    seconds: float = 20.0
    content_items: int = 100_000
    devices: int = 1_000_000
    seed: int = 1
    peers: bool = True

    @classmethod
    def tiny(cls) -> "Plan":
        return cls(patterns=3_000, queries=20, seconds=0.5, content_items=300, devices=3_000)

    def rng(self, question: str) -> np.random.Generator:
        """The same for a question whichever others are asked."""
        return np.random.default_rng([self.seed, *question.encode()])


class Note(str):
    """A sentence that a question adds below its table."""


Answers = Iterator[Row | Note]
Question = Callable[[Plan], Answers]


def tracked(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a progress bar on a terminal."""
    console = Console(stderr=True)
    yield from track(items, what, total, console=console, transient=True, disable=not sys.stderr.isatty())


class Timings:
    """Durations of one kind of work, in milliseconds of a clock that tells seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.ms: list[float] = []
        self._clock = clock
        self._started = 0.0

    def start(self) -> None:
        self._started = self._clock()

    def stop(self) -> None:
        self.ms.append((self._clock() - self._started) * 1e3)

    def measure(self, work: Callable[Arguments, Item], *arguments: Arguments.args, **named: Arguments.kwargs) -> Item:
        self.start()
        result = work(*arguments, **named)
        self.stop()
        return result

    @property
    def p50(self) -> float:
        return float(np.median(self.ms))

    @property
    def p99(self) -> float:
        return float(np.quantile(self.ms, 0.99))

    @property
    def mean(self) -> float:
        return float(np.mean(self.ms))

    @property
    def longest(self) -> float:
        return max(self.ms)

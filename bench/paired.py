"""Two builds measured by turns, pair by pair, and what follows from the pairs.

A pair is one block of operations by each build, one right after the other and the order swapped each time, in CPU time:
what else the machine does meets both. The estimate is the median ratio of the pairs; a bootstrap says how far to trust
it. A row that looks slower is measured again by new processes, several times, and these alone decide: where a process
happens to lie in memory makes some ten per cent.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bench.plan import tracked
from bench.probing import Ask, Told

LOSS = 1.15
"""A build that takes so many times as long has lost."""
ALARM = 1.10
"""Where the median must be for that, as a loss of 15% is not always measured as one; its interval is above BOUND."""
BOUND = 1.05
CONFIDENCE = 0.99
RESAMPLES = 2_000
PAIRS = 100
AGAIN = 5
"""So many times what looks slower is measured again, each time by new processes, the next time on the next CPU."""
BLOCK_S = 0.002
"""Short: most blocks are over before the machine turns to something else."""
CALIBRATED_OPERATIONS = 3

_ROOT = Path(__file__).resolve().parents[1]
_cpus = itertools.cycle(sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None])

Numbers = npt.NDArray[np.float64]


class Build:
    """A process that measures the service as it lies in a directory (`bench.probing`); kernels are taken from here
    unless the directory has its own. The probes are always those of this checkout."""

    def __init__(self, directory: Path, patterns: int, cpu: int | None) -> None:
        command = [sys.executable, "-m", "bench.probing", str(patterns)]
        environment = {"PYTHONPATH": f"{directory}:{_ROOT}", "PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=directory, env={**os.environ, **environment}
        )
        if cpu is not None:
            os.sched_setaffinity(self._process.pid, {cpu})
        self.probes = msgspec.json.decode(self._line(), type=list[str])

    def run(self, probe: str, operations: int) -> Told:
        """So many operations timed, or, of 0, the work of some counted."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(Ask(probe, operations)) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._line(), type=Told)

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        output: IO[bytes] = self._process.stdout
        line = output.readline()
        if not line:
            raise BuildFailed(f"the measuring process ended with {self._process.wait()}")
        return line


class BuildFailed(Exception):
    """A build does not run at all: what it printed on standard error says why."""


class Side(NamedTuple):
    """What is measured by turns with something else: a probe of a build."""

    build: Build
    probe: str

    def seconds(self, operations: int) -> float:
        """Of one operation. Raises `Unable`."""
        told = self.build.run(self.probe, operations)
        if told.failure:
            raise Unable(f"{self.probe}: {told.failure}")
        return told.cpu_s / operations


class Unable(Exception):
    """A build cannot do what a probe asks; the other one may have changed what it calls."""


class Compared(NamedTuple):
    """Milliseconds of CPU of an operation on one side and on the other, and the other in terms of the one: the median
    ratio of the pairs and its interval."""

    probe: str
    base_ms: float
    ms: float
    ratio: float
    low: float
    high: float
    pairs: int

    @property
    def lost(self) -> bool:
        return self.ratio >= ALARM and self.low >= BOUND


@contextmanager
def built(*directories: Path, patterns: int) -> Iterator[list[Build]]:
    """A process for each, all on one CPU: the other may share its core with a stranger, and only one works at a time.
    The next ones are on the next CPU."""
    cpu = next(_cpus)
    builds: list[Build] = []
    try:
        for directory in directories:
            builds.append(Build(directory, patterns, cpu))
        yield builds
    finally:
        for build in builds:
            build.close()


class Comparison(NamedTuple):
    """What became of every probe: how two builds compare, or why they do not."""

    compared: list[Compared]
    unable: list[str]

    @property
    def lost(self) -> list[str]:
        return [f"{row.probe}: {row.ratio:.2f} x" for row in self.compared if row.lost]


def compare(base: Path, other: Path, probes: Iterable[str], patterns: int, pairs: int = PAIRS) -> Comparison:
    """All of these probes; those that look slower again, by more processes."""
    first, unable = _measure(base, other, list(probes), patterns, pairs)
    compared = {probe: _compared(probe, seconds) for probe, seconds in first.items()}
    if suspects := [probe for probe, found in compared.items() if found.ratio >= BOUND]:
        rounds = [_measure(base, other, suspects, patterns, pairs)[0] for _ in range(AGAIN)]
        for probe in suspects:
            compared[probe] = _compared(probe, np.concatenate([found[probe] for found in rounds]))
    return Comparison(list(compared.values()), unable)


def _measure(
    base: Path, other: Path, probes: Sequence[str], patterns: int, pairs: int
) -> tuple[dict[str, Numbers], list[str]]:
    """Seconds by probe, as of `_by_turns`; which probes a build was unable to run, and why."""
    seconds, unable = dict[str, Numbers](), list[str]()
    with built(base, other, patterns=patterns) as (one, two):
        for probe in tracked(probes, "by turns", len(probes)):
            try:
                seconds[probe] = _by_turns(Side(one, probe), Side(two, probe), pairs)
            except Unable as why:
                unable.append(str(why))
    return seconds, unable


def pair_up(one: Side, other: Side, pairs: int) -> Compared:
    """Two sides that run. Raises `Unable`."""
    return _compared(other.probe, _by_turns(one, other, pairs))


def _by_turns(one: Side, other: Side, pairs: int) -> Numbers:
    """Seconds of CPU of an operation (pairs, 2), in blocks of a few milliseconds. Raises `Unable`."""
    sides = one, other
    operations = [_operations(side) for side in sides]
    seconds = np.empty((pairs, 2))
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            seconds[pair, which] = sides[which].seconds(operations[which])
    return seconds


def _compared(probe: str, seconds: Numbers) -> Compared:
    ratios = seconds[:, 1] / seconds[:, 0]
    base_ms, ms = np.median(seconds, axis=0) * 1e3
    return Compared(probe, float(base_ms), float(ms), float(np.median(ratios)), *interval(ratios), len(ratios))


def _operations(side: Side) -> int:
    """How many fill a block; the first ones, which find nothing warm, do not count."""
    side.seconds(CALIBRATED_OPERATIONS)
    return max(1, round(BLOCK_S / side.seconds(CALIBRATED_OPERATIONS)))


def interval(ratios: Numbers) -> tuple[float, float]:
    """Of the median of ratios (n,), by the bootstrap (Efron and Tibshirani, 1993, chapter 13: percentiles)."""
    drawn = np.random.default_rng(1).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    medians = np.median(ratios[drawn], axis=1)
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)

"""A process that measures probes when it is asked: one build of the service, its kernels warm, its shard made.

It speaks lines of JSON over its standard input and output, so that two of them, each with a build of its own on its
path, can take turns (`bench.paired`). Times are of the CPU. Work is counted, not timed: it is the same on any machine
with this minor version of Python.
"""

import itertools
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any
from unittest.mock import patch

import msgspec

from bench.probes import Operation, Probes
from kernels import lists
from kernels.warm import warm

COUNTED_OPERATIONS = 3
UNCOUNTED_OPERATIONS = 2
"""Before: what is made on first use is no work of the operation."""


class Ask(msgspec.Struct, frozen=True):
    """Run so many operations of a probe, or, of 0, count the work of some."""

    probe: str
    operations: int


class Told(msgspec.Struct, frozen=True):
    """Seconds of CPU of all the operations, or work by what was counted; or why neither."""

    cpu_s: float = 0.0
    work: dict[str, int] = {}
    failure: str = ""


def main() -> None:
    patterns = int(sys.argv[1])
    warm()
    probes = Probes(patterns)
    numbers = {name: itertools.count() for name in probes.operations}
    try:
        _say(sorted(probes.operations))
        for line in sys.stdin.buffer:
            ask = msgspec.json.decode(line, type=Ask)
            _say(answer(probes.operations[ask.probe], numbers[ask.probe], ask.operations))
    finally:
        probes.close()


def answer(operation: Operation, numbers: Iterator[int], operations: int) -> Told:
    """An operation that this build cannot do is told, not raised: the other build may have changed what it calls."""
    try:
        return Told(cpu_s=_timed(operation, numbers, operations)) if operations else Told(work=_counted(operation))
    except Exception as error:
        return Told(failure=f"{type(error).__name__}: {error}")


def _timed(operation: Operation, numbers: Iterator[int], operations: int) -> float:
    some = list(itertools.islice(numbers, operations))
    began_at = time.thread_time()
    for number in some:
        operation(number)
    return time.thread_time() - began_at


def _counted(operation: Operation) -> dict[str, int]:
    """The work of some operations: bytecodes, bytes made, bytes of memory at the peak, rows looked at and scored."""
    for number in range(UNCOUNTED_OPERATIONS):
        operation(number)
    numbers = range(UNCOUNTED_OPERATIONS, UNCOUNTED_OPERATIONS + COUNTED_OPERATIONS)
    work = Counter[str]()
    with _counting_rows(work):
        work["bytes made"] = sum(map(operation, numbers))
    with _counting_bytecodes(work):
        _repeat(operation, numbers)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        _repeat(operation, numbers)
        work["bytes of memory, peak"] = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return {what: count for what, count in work.items() if count}


def _repeat(operation: Operation, numbers: range) -> None:
    for number in numbers:
        operation(number)


@contextmanager
def _counting_bytecodes(work: Counter[str]) -> Iterator[None]:
    """What the interpreter executes, kernels and C excepted."""
    counted = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        nonlocal counted
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        counted += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)
        work["bytecodes"] = counted


@contextmanager
def _counting_rows(work: Counter[str]) -> Iterator[None]:
    """What searches are allowed to look at: rows by sketch, and rows by all their dimensions."""
    search = lists.search

    def counting(*arguments: Any) -> Any:
        *_, rows, scored = arguments
        work["rows looked at"] += rows
        work["rows scored"] += scored
        return search(*arguments)

    with patch.object(lists, "search", counting):
        yield


def _say(what: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

"""A piece of work and how long it took, as a trace tells it.

Whoever works beside syncs (a flush, a snapshot, a round) says here what was done; `api` decides what becomes of it.
Nobody below `api` knows how traces are sent.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

Value = str | int | float | bool
Attributes = Mapping[str, Value]
NO_ATTRIBUTES: Attributes = MappingProxyType({})


class Span(NamedTuple):
    """Times in nanoseconds of the unix clock; `failed` says why it did not succeed, '' if it did."""

    name: str
    began_ns: int
    ended_ns: int
    attributes: Attributes = NO_ATTRIBUTES
    failed: str = ""


Report = Callable[[Span], None]


def unreported(span: Span) -> None:
    """For those whom nobody listens to."""


@contextmanager
def reporting(report: Report, name: str) -> Iterator[dict[str, Value]]:
    """The block as a span; what it puts into the dict are its attributes. An exception is told and goes on."""
    attributes: dict[str, Value] = {}
    began_ns, began_at = time.time_ns(), time.perf_counter_ns()
    failed = ""
    try:
        yield attributes
    except BaseException as error:
        failed = type(error).__name__
        raise
    finally:
        report(Span(name, began_ns, began_ns + time.perf_counter_ns() - began_at, attributes, failed))

"""Which requests are traced, and what their traces say: the steps of a request under one server span.

A caller's W3C `traceparent` decides; without one, chance does (`--trace-sample`). A request that is not traced costs
one draw. Steps follow one another without gaps: `did` ends one and begins the next. No device id is in a trace: only
the hash that is in the log, too.
"""

import asyncio
import random
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from constellation import __version__
from constellation.api.hiding import Hiding
from constellation.api.otlp import Exporter, Recorded
from constellation.config import NONE
from constellation.spans import Attributes, Span

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class Parent(NamedTuple):
    """Of a trace that somebody else began."""

    trace_id: bytes
    span_id: bytes
    sampled: bool


class Untraced:
    """Most requests."""

    __slots__ = ()
    trace_id = ""

    def did(self, step: str) -> None:
        pass


UNTRACED = Untraced()


class Traced(Untraced):
    """One request from its headers to its reply."""

    __slots__ = ("_began_at", "began_ns", "parent_id", "span_id", "steps", "trace_id")

    def __init__(self, trace_id: bytes, span_id: bytes, parent_id: bytes) -> None:
        self.trace_id, self.span_id, self.parent_id = trace_id.hex(), span_id, parent_id
        self.steps: list[tuple[str, int]] = []
        """Name and end; each began when the one before ended."""
        self.began_ns = time.time_ns()
        self._began_at = time.perf_counter_ns()

    def did(self, step: str) -> None:
        """What was done since the request or the last step began."""
        self.steps.append((step, self.now_ns()))

    def now_ns(self) -> int:
        return self.began_ns + time.perf_counter_ns() - self._began_at


class Tracer:
    """Without an exporter tracing is off."""

    def __init__(self, exporter: Exporter | None = None, sample: float = 0.0, hiding: Hiding | None = None) -> None:
        self.exporter = exporter
        self._sample = sample
        self._hiding = hiding or Hiding()
        # Not for secrets. A generator of its own, so that nobody's seed makes trace ids repeat.
        self._rng = random.Random()

    def begin(self, traceparent: bytes | None) -> Untraced:
        """At a request's headers."""
        if self.exporter is None:
            return UNTRACED
        parent = read_traceparent(traceparent) if traceparent is not None else None
        if parent is not None:
            return Traced(parent.trace_id, self._id(8), parent.span_id) if parent.sampled else UNTRACED
        return Traced(self._id(16), self._id(8), b"") if self._rng.random() < self._sample else UNTRACED

    def end(self, trace: Untraced, name: str, attributes: Attributes, device_id: bytes = b"", failed: str = "") -> None:
        """The request was answered."""
        if not isinstance(trace, Traced) or self.exporter is None:
            return
        told = dict(attributes)
        if device_id:
            told["constellation.device"] = self._hiding.device(device_id)
        trace_id = bytes.fromhex(trace.trace_id)
        whole = Span(name, trace.began_ns, trace.now_ns(), told, failed)
        spans = [Recorded(trace_id, trace.span_id, trace.parent_id, whole, server=True)]
        began_ns = trace.began_ns
        for step, ended_ns in trace.steps:
            spans.append(Recorded(trace_id, self._id(8), trace.span_id, Span(step, began_ns, ended_ns)))
            began_ns = ended_ns
        self.exporter.put(spans)

    def report(self, span: Span) -> None:
        """Work beside requests: each is a trace of its own, and all of it is told, because there is little."""
        if self.exporter is not None:
            self.exporter.put([Recorded(self._id(16), self._id(8), b"", span)])

    def _id(self, size: int) -> bytes:
        return (self._rng.getrandbits(8 * size) or 1).to_bytes(size, "big")


def read_traceparent(value: bytes) -> Parent | None:
    """None if it is not one (W3C Trace Context, section 3.2): then it is as if there were none."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    wrong = version == b"ff" or (version == b"00" and more) or not int(trace_id, 16) or not int(span_id, 16)
    if wrong:
        return None
    return Parent(bytes.fromhex(trace_id.decode()), bytes.fromhex(span_id.decode()), bool(int(flags, 16) & _SAMPLED))


@asynccontextmanager
async def tracing(endpoint: str, sample: float, hiding: Hiding, service: str, instance: str) -> AsyncIterator[Tracer]:
    """A tracer for as long as the block lasts; what is queued at its end is sent, within a bound."""
    if endpoint == NONE:
        yield Tracer()
        return
    exporter = Exporter(
        endpoint,
        {
            "service.name": service,
            "service.version": __version__,
            "service.instance.id": instance,
            "host.name": socket.gethostname(),
        },
    )
    exporter.start()
    try:
        yield Tracer(exporter, sample, hiding)
    finally:
        await asyncio.to_thread(exporter.stop)

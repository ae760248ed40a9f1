"""Who watches, and what they are told: each event is made once, whoever listens, and waits for nobody.

A listener has a queue of bounded length, and is dropped when it does not take what is in it. All end when the process
drains. Owned by `Service`; written by `watching`, read by `stream`.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec

from constellation.api.page.history import History
from constellation.errors import Draining, Overloaded
from constellation.federation.database import RoundRow
from constellation.limits import EVENTS_QUEUED_MAX, LISTENERS_MAX, RETRY_AFTER_S

End = Literal["draining", "slow"]

_log = logging.getLogger(__name__)


class Listener:
    """Events that one client was not sent yet, and why there will be no more, once that is known."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[bytes] = asyncio.Queue(EVENTS_QUEUED_MAX)
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    def end(self, why: End) -> None:
        if not self.ended.done():
            self.ended.set_result(why)


class Live:
    """The listeners, the history, and the last event of each kind that does not come every second."""

    def __init__(self) -> None:
        self.history = History()
        self.lag_s_max = 0.0
        """The largest lag of the loop since it was last read."""
        self.rounds: list[RoundRow] = []
        """The last ones, newest first; kept up to date while somebody watches."""
        self.watched = asyncio.Event()
        """Set while anybody listens."""
        self.joined = False
        """Somebody came since this was last looked at."""
        self._listeners: set[Listener] = set()
        self._kept: dict[str, bytes] = {}
        self._ended = False

    def __len__(self) -> int:
        return len(self._listeners)

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """One more, who is told first what was kept. Raises `Draining` and `Overloaded`."""
        if self._ended:
            raise Draining("this process is stopping", retry_after_s=RETRY_AFTER_S)
        if len(self._listeners) >= LISTENERS_MAX:
            raise Overloaded(f"{LISTENERS_MAX} listen already", retry_after_s=RETRY_AFTER_S)
        listener = Listener()
        for event in self._kept.values():
            listener.events.put_nowait(event)
        self._listeners.add(listener)
        self.watched.set()
        self.joined = True
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self.watched.clear()

    def tell(self, kind: str, what: msgspec.Struct) -> bytes:
        """Send an event to everybody who listens now."""
        event = encode(kind, what)
        for listener in tuple(self._listeners):
            if listener.events.full():
                _log.warning("a listener is too slow and is dropped", extra={"events": EVENTS_QUEUED_MAX})
                self._listeners.discard(listener)
                listener.end("slow")
            else:
                listener.events.put_nowait(event)
        return event

    def keep(self, kind: str, what: msgspec.Struct) -> None:
        """As `tell`, and to everybody who joins before the next one of this kind."""
        self._kept[kind] = self.tell(kind, what)

    def end(self) -> None:
        """Nobody listens from now on."""
        self._ended = True
        for listener in self._listeners:
            listener.end("draining")


def encode(kind: str, what: msgspec.Struct) -> bytes:
    """A server-sent event; JSON has no line breaks of its own."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(what))

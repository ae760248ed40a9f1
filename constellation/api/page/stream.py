"""`GET /api/v1/live`: what happens on the shard as server-sent events (WHATWG HTML, section 9.2).

The reply has no length and no end of its own, so it is written here and not by `replies`. Two tasks of one listener,
one that sends and one that notices when the client has gone.
"""

import asyncio
from contextlib import suppress

from litestar import get
from litestar.di import NamedDependency
from litestar.types import Receive, Scope, Send

from constellation.api.operations import described
from constellation.api.page.events import history
from constellation.api.page.listeners import Listener, encode
from constellation.api.service import Service
from constellation.errors import Draining, Overloaded

EVENTS = """Server-sent events, for ever; the data of each is a JSON object. First `history`, the last ten minutes by
columns. Then `now` every second. Every 5 seconds `trends`, `taste` (patterns, devices and success by bucket of the
codebook; where aggregates are shared, of those with 20 devices or more) and `rounds`. `map`, where the buckets lie and
which titles are near them, once and when it has changed."""


class Stream:
    """The reply to one listener, as an ASGI application."""

    __slots__ = ("_service",)

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._service.live.listening() as listener:
            sending = asyncio.ensure_future(self._send_all(listener, send))
            going = asyncio.ensure_future(_gone(receive))
            try:
                await asyncio.wait((sending, going, listener.ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, going):
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
        if listener.ended.done() and listener.ended.result() == "draining":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        # Else nobody takes an end: the server closes the connection.

    async def _send_all(self, listener: Listener, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        event = encode("history", history(self._service))
        while True:
            await send({"type": "http.response.body", "body": event, "more_body": True})
            event = await listener.events.get()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@get(
    "/api/v1/live",
    opt=described(
        tag="shard",
        summary="What happens, live",
        reply="text/event-stream",
        reply_text=" ".join(EVENTS.split()),
        headers=("Cache-Control",),
        problems=(Draining, Overloaded),
    ),
)
async def live(service: NamedDependency[Service]) -> Stream:
    return Stream(service)

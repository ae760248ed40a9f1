"""Streams that are open to whoever can reach the port: so many at once that those of TVs have room, whatever comes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from constellation import limits


class Places:
    """Shared by the services that ask for no token."""

    def __init__(self) -> None:
        self._taken = 0

    @asynccontextmanager
    async def taken(self, context: Any) -> AsyncIterator[None]:
        """One of them, for as long as the block lasts; ends the call if there is none."""
        if self._taken >= limits.STRANGERS_STREAMS_MAX:
            most = f"{limits.STRANGERS_STREAMS_MAX} streams of health and reflection are open"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, most)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """The library's, within its places."""

    def __init__(self, services: tuple[str, ...], places: Places) -> None:
        super().__init__(services)
        self._places = places

    async def ServerReflectionInfo(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async with self._places.taken(context):
            async for reply in super().ServerReflectionInfo(requests, context):
                yield reply

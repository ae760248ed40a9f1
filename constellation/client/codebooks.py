"""The codebooks that compact replies are decoded by: fetched once, kept, and shared by any number of TVs.

A TV without the shard's current one asks for int8 instead; so nothing here may fail a sync.
"""

import asyncio
import random

import aiohttp
import msgspec

from constellation import codebook
from constellation.client.failures import SyncFailed
from constellation.client.transport import Token, Transport
from constellation.codebook import WrongCodebook
from constellation.wire.compact import Held


class _Info(msgspec.Struct):
    """What is read of `GET /api/v1/info`."""

    codebook_version: int


class Codebooks:
    """By version; of one that cannot be used it is known that it cannot. Not to be shared between event loops."""

    def __init__(self) -> None:
        self._held: dict[int, Held | None] = {}
        self._used: dict[str, int] = {}
        """Shard by url -> the version that it said last."""
        self._fetching = asyncio.Lock()

    async def current(
        self, url: str, session: aiohttp.ClientSession, token: Token = None, anew: bool = False
    ) -> Held | None:
        """The one that the shard at `url` says it uses; None if it cannot be had, or has no quantiser.

        Unless `anew`, what it said to another TV is good enough.
        """
        try:
            async with self._fetching:
                if anew or url not in self._used:
                    info = await _get(f"{url}/api/v1/info", session, token)
                    self._used[url] = msgspec.json.decode(info, type=_Info).codebook_version
                version = self._used[url]
                if version not in self._held:
                    self._held[version] = _decoded(
                        await _get(f"{url}/api/v1/codebook/{version}", session, token), version
                    )
            return self._held[version]
        except (SyncFailed, msgspec.MsgspecError, WrongCodebook):
            return None

    def forget(self, version: int) -> None:
        """Replies do not fit to what was fetched as this version."""
        self._held.pop(version, None)


async def _get(url: str, session: aiohttp.ClientSession, token: Token) -> bytes:
    return (await Transport(url, session, random.Random(), token=token).get()).body


def _decoded(content: bytes, version: int) -> Held | None:
    """Raises `WrongCodebook`."""
    found = codebook.decode(content)
    return Held(found, found.quantiser) if found.quantiser and found.version == version else None

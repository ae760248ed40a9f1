"""Feeding the catalogue to a shard, so that trends can name films: `POST /api/v1/content`, once a run."""

import asyncio
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import aiohttp
import msgspec

from constellation.catalogue import Catalogue
from constellation.client import SyncFailed, Token, Transport

POSTS_AT_ONCE = 16

_HEADERS = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}


async def post_catalogue(
    url: str,
    session: aiohttp.ClientSession,
    catalogue: Catalogue,
    rng: Random,
    posted: Callable[[], None],
    token: Token = None,
) -> None:
    """Post every film, calling `posted` after each; posting one again replaces it. Raises `SyncFailed`."""
    transport = Transport(f"{url}/api/v1/content", session, rng, token=token)
    items = _items(catalogue)

    async def work() -> None:
        for item in items:
            await transport.post(msgspec.msgpack.encode(item), _HEADERS)
            posted()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(POSTS_AT_ONCE):
                group.create_task(work())
    except* SyncFailed as failures:
        raise failures.exceptions[0] from None


def _items(catalogue: Catalogue) -> Iterator[dict[str, Any]]:
    for row in range(len(catalogue)):
        metadata = {
            "genre": catalogue.genres[row].replace("|", "/"),
            "year": int(catalogue.years[row]),
            "duration_min": int(catalogue.durations_min[row]),
        }
        yield {
            "content_id": catalogue.content_ids[row],
            "title": catalogue.titles[row],
            "embedding": catalogue.codes[row].tobytes(),
            "metadata": {name: value for name, value in metadata.items() if value},
        }

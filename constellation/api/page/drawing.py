"""The map of taste: where the buckets of the codebook lie on it, and which titles are near. A task of `background`.

Made while somebody watches, once for each codebook, in a thread, with a pause after each step; the titles again when
there are many more of them, a few buckets a turn of the loop.
"""

import asyncio
from collections import Counter
from collections.abc import Generator
from typing import NamedTuple

import msgspec

from constellation.api.page.events import genres, titled
from constellation.api.service import Service
from constellation.codebook import Codebook
from constellation.model import ContentItem
from constellation.projection import Projection, project

TITLES_SHOWN = 3
TITLES_ASKED = 6
"""Of which the most frequent genre is the bucket's."""
BUCKETS_PER_TURN = 8
NEW_TITLES_SHARE = 0.1
"""So many more, and the names of the buckets are looked up again."""
EVERY_S = 2.0
PAUSE_S = 0.02


class Map(msgspec.Struct):
    """K buckets: places 0..1, x to the right and y upwards; the number of the nearest other one in all dimensions;
    titles that are nearest, best first; and their genre, if they have one."""

    codebook_version: int
    x: list[float]
    y: list[float]
    nearest: list[int]
    titles: list[list[str]]
    genres: list[str]


class Drawn(NamedTuple):
    """What the last map was made of."""

    codebook: Codebook
    projection: Projection
    titles: int


async def draw(service: Service) -> None:
    drawn: Drawn | None = None
    shown: Map | None = None
    while True:
        await service.live.watched.wait()
        await service.opened.wait()
        found = service.shard.taste()
        if found is not None:
            codebook, titles = found.codebook, service.stats().content_items
            if drawn is None or drawn.codebook.version != codebook.version:
                drawn, shown = Drawn(codebook, await _projected(codebook), -1), None
            if shown is None or abs(titles - drawn.titles) > NEW_TITLES_SHARE * drawn.titles:
                shown = await _named(service, drawn)
                drawn = drawn._replace(titles=titles)
                service.live.keep("map", shown)
        await asyncio.sleep(EVERY_S)


async def _projected(codebook: Codebook) -> Projection:
    """In another thread, most operations of which let go of the interpreter; with pauses for those that do not."""
    steps: Generator[None, None, Projection] = project(codebook.codes, codebook.inverse)
    while True:
        done = await asyncio.to_thread(_step, steps)
        if done is not None:
            return done
        await asyncio.sleep(PAUSE_S)


def _step(steps: Generator[None, None, Projection]) -> Projection | None:
    """A coroutine cannot be thrown `StopIteration`."""
    try:
        return next(steps)
    except StopIteration as end:
        projection: Projection = end.value
        return projection


async def _named(service: Service, drawn: Drawn) -> Map:
    codes = drawn.codebook.codes
    near: list[list[ContentItem]] = []
    for start in range(0, len(codes), BUCKETS_PER_TURN):
        near += service.shard.titles_near(codes[start : start + BUCKETS_PER_TURN], TITLES_ASKED)
        await asyncio.sleep(0)
    x, y = drawn.projection.places.T.round(4).tolist()
    return Map(
        codebook_version=drawn.codebook.version,
        x=x,
        y=y,
        nearest=drawn.projection.nearest.tolist(),
        titles=[[titled(item) for item in items[:TITLES_SHOWN]] for items in near],
        genres=[_genre(items) for items in near],
    )


def _genre(items: list[ContentItem]) -> str:
    """The most frequent one; of equal ones that of the nearest title."""
    counted = Counter(genres(items)).most_common(1)
    return counted[0][0] if counted else ""

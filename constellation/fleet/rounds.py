"""What a person sees of the federation behind a fleet: rounds as shards take them over, and what came of them."""

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from constellation.codebook import Codebook, decode
from constellation.fleet.films import Films
from constellation.fleet.tv import Tv

LOOK_EVERY_S = 1.0
TRENDS_SHOWN = 5
PROTOTYPES_SHOWN = 5
GLOBAL = "global"

Codes = npt.NDArray[np.int8]


async def watch(console: Console, url: str, session: aiohttp.ClientSession, token: str | None) -> None:
    """A line for every round that the shard takes over, until cancelled."""
    known = 0
    while True:
        stats = await _json(session, token, f"{url}/api/v1/stats")
        if stats["federation_round"] > known:
            known = stats["federation_round"]
            console.print(
                f"{stats['shard_id']} serves round {known}: {stats['prototypes']:,} prototypes",
                highlight=False,
                soft_wrap=True,
            )
        await asyncio.sleep(LOOK_EVERY_S)


async def show(
    console: Console,
    urls: Sequence[str],
    session: aiohttp.ClientSession,
    tvs: Sequence[Tv],
    films: Films,
    token: str | None,
) -> None:
    """The shards, what a TV of the first has from the others, and the trends of every region."""
    get = functools.partial(_json, session, token)
    shards = sorted((await get(f"{urls[0]}/api/v1/shards"))["shards"], key=lambda shard: str(shard["id"]))
    first = shards[0]["url"]
    stats = [await get(f"{shard['url']}/api/v1/stats") for shard in shards]
    console.print(_shards(shards, stats))
    info = await get(f"{first}/api/v1/info")
    codebook = decode(await _get(session, token, f"{first}/api/v1/codebook/{info['codebook_version']}"))
    _show_foreign(console, shards[0], tvs, films, codebook)
    regions = [*dict.fromkeys(shard["region"] for shard in shards), GLOBAL]
    trends = [
        (await get(f"{first}/api/v1/trending?region={region}&limit={TRENDS_SHOWN}"))["trending"] for region in regions
    ]
    console.print(_trends(regions, trends, films))


async def _json(session: aiohttp.ClientSession, token: str | None, url: str) -> Any:
    return msgspec.json.decode(await _get(session, token, url))


async def _get(session: aiohttp.ClientSession, token: str | None, url: str) -> bytes:
    async with session.get(url, headers={"Authorization": f"Bearer {token}"} if token else {}) as response:
        return await response.read()


def _shards(shards: list[Any], stats: list[Any]) -> Table:
    table = Table(title="shards", title_justify="left")
    for name in ("shard", "region", "slots", "devices", "patterns", "round", "prototypes"):
        table.add_column(name, justify="left" if name in ("shard", "region") else "right")
    for shard, held in zip(shards, stats, strict=True):
        ends = shard["slots"]
        slots = sum(last + 1 - first for first, last in zip(ends[::2], ends[1::2], strict=True))
        counts = (slots, held["total_devices"], held["patterns_stored"], held["federation_round"], held["prototypes"])
        table.add_row(shard["id"], shard["region"], *(f"{count:,}" for count in counts))
    return table


def _show_foreign(console: Console, shard: Any, tvs: Sequence[Tv], films: Films, codebook: Codebook) -> None:
    """The TV of the shard with the most prototypes of buckets in which no household of the shard has a pattern."""
    here = [tv for tv in tvs if tv.client.shard_url == shard["url"]]
    own = [pattern.code for tv in here for pattern in tv.client.learned.patterns.values()]
    buckets = np.unique(codebook.buckets(np.array(own, np.int8).reshape(-1, films.vectors.shape[1])))
    best = max(((_foreign(tv, codebook, buckets), tv) for tv in here), key=lambda found: len(found[0]), default=None)
    if best is None:
        return
    foreign, tv = best
    prototypes = int(tv.client.received.is_prototype.sum())
    console.print(
        f"A TV on {shard['id']} received {prototypes} prototypes, {len(foreign)} of them born on other shards alone "
        f"(no household of {shard['id']} has a pattern in their buckets):",
        highlight=False,
        soft_wrap=True,
    )
    table = Table()
    table.add_column("cosine to its taste", justify="right", style="cyan")
    table.add_column("like the film")
    vectors = foreign.astype(np.float32) / np.linalg.norm(foreign.astype(np.float32), axis=1, keepdims=True)
    cosines = (vectors @ films.vectors[tv.interests].T).max(axis=1)
    nearest = (vectors @ films.vectors.T).argmax(axis=1)
    for place in np.argsort(-cosines)[:PROTOTYPES_SHOWN].tolist():
        table.add_row(f"{cosines[place]:.2f}", films.title(films.catalogue.content_ids[nearest[place]]))
    console.print(table)


def _foreign(tv: Tv, codebook: Codebook, buckets: npt.NDArray[np.int32]) -> Codes:
    """Prototypes (n, 384) that the TV received, of other buckets than these."""
    codes = tv.client.neighbours.codes[tv.client.received.is_prototype]
    return codes[~np.isin(codebook.buckets(codes), buckets)]


def _trends(regions: list[str], trends: list[list[Any]], films: Films) -> Table:
    table = Table(title="trending", title_justify="left")
    for region in regions:
        table.add_column(region)
    for place in range(TRENDS_SHOWN):
        row = [listed[place : place + 1] for listed in trends]
        table.add_row(*(f"{t[0]['trending_score']:.2f}  {films.title(t[0]['content_id'])}" if t else "" for t in row))
    return table

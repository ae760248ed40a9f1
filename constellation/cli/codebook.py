"""`constellation codebook show | train | publish`: what is in one, another trained on what shards serve, for all."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from constellation.cli.backup import INTERRUPTED, bar
from constellation.cli.fleet import whole
from constellation.config import WrongSetting

SAMPLES_PER_CENTROID = 64
"""More than `codebook.SAMPLES_PER_CENTROID_MIN`; beyond this centroids hardly get better, and training takes longer."""
TOKEN_VARIABLE = "CONSTELLATION_TOKEN"
SHOWN_ON = 10_000
"""Patterns whose buckets `show` counts."""


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="show | train | publish")
    show = actions.add_parser("show", help="what is in a codebook", allow_abbrev=False)
    show.add_argument("file", type=Path, nargs="?", metavar="FILE", help="default: the one that ships")
    _add_urls(show, "count the buckets of patterns that these shards serve", required=False)
    show.set_defaults(act=_show)
    train = actions.add_parser("train", help="a new version, trained on what shards serve", allow_abbrev=False)
    _add_urls(train, "the shards to sample", required=True)
    train.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write it")
    train.add_argument("--size", type=whole(1, 1 << 16), default=1_024, metavar="K", help="centroids (%(default)s)")
    train.add_argument("--seed", type=whole(0, 1 << 32), default=1, metavar="N", help="default %(default)s")
    train.set_defaults(act=_train)
    publish = actions.add_parser("publish", help="have every shard of a federation change over", allow_abbrev=False)
    publish.add_argument("file", type=Path, metavar="FILE", help="as train wrote it")
    publish.add_argument("--coordinator-url", required=True, metavar="URL", help="the federation's PostgreSQL")
    publish.set_defaults(act=_publish)


def run(arguments: argparse.Namespace) -> int:
    from constellation.client import SyncFailed
    from constellation.codebook import WrongCodebook
    from constellation.federation.database import Refused
    from constellation.storage.connections import DatabaseUnavailable, WrongDatabase

    try:
        arguments.act(arguments)
    except (WrongCodebook, SyncFailed, Refused, DatabaseUnavailable, WrongDatabase, OSError) as error:
        print(f"constellation codebook {arguments.action}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _add_urls(parser: argparse.ArgumentParser, text: str, required: bool) -> None:
    parser.add_argument(
        "--from", dest="urls", nargs="+", type=_url, default=[], required=required, metavar="URL", help=text
    )
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE),
        help=f"with the scope admin, where shards ask for one; better in {TOKEN_VARIABLE}, which nobody else sees",
    )


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a URL that begins with http:// or https://")
    return text.rstrip("/")


def _show(arguments: argparse.Namespace) -> None:
    from constellation.client.sampling import sample_shards
    from constellation.codebook import checksum, default_codebook, encode, load

    book = load(arguments.file) if arguments.file else default_codebook()
    rows = {
        "version": f"{book.version}",
        "centroids": f"{len(book):,}",
        "bytes": f"{len(encode(book)):,}",
        "checksum": checksum(book),
        "sections": ", ".join(f"{name} ({len(section):,} bytes)" for name, section in book.sections.items()),
    }
    if arguments.urls:
        with bar() as part:
            sampled = asyncio.run(sample_shards(arguments.urls, SHOWN_ON, part("sampling", SHOWN_ON), arguments.token))
        counts = np.bincount(book.buckets(sampled.codes), minlength=len(book))
        half, most, all_ = np.quantile(counts, [0.5, 0.99, 1])
        rows |= {
            "patterns sampled": f"{len(sampled.codes):,}",
            "buckets in use": f"{np.count_nonzero(counts):,}",
            "patterns a bucket": f"{half:.0f} in half of them, {most:.0f} in 99 of 100, {all_:.0f} at most",
        }
    table = Table(show_header=False, title=str(arguments.file or "the codebook that ships"), title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)


def _publish(arguments: argparse.Namespace) -> None:
    from constellation.codebook import load
    from constellation.federation.database import connected

    codebook = load(arguments.file)

    async def publish() -> None:
        async with connected(arguments.coordinator_url) as database:
            await database.check()
            await database.publish_codebook(codebook)

    asyncio.run(publish())
    print(f"codebook {codebook.version} is published; shards group their patterns by it in the background")


def _train(arguments: argparse.Namespace) -> None:
    from constellation import codebook
    from constellation.client.sampling import sample_shards

    if arguments.size > codebook.SIZE_MAX:
        raise WrongSetting(f"--size: got {arguments.size}; allowed: a whole number from 1 to {codebook.SIZE_MAX}")
    if arguments.out.exists():
        raise WrongSetting(f"--out: {arguments.out} exists; a codebook never changes: choose another name")
    wanted = arguments.size * SAMPLES_PER_CENTROID
    with bar() as part:
        sampled = asyncio.run(sample_shards(arguments.urls, wanted, part("sampling", wanted), arguments.token))
        made = codebook.train(
            sampled.codes, arguments.size, sampled.codebook_version + 1, arguments.seed, part("training", 1)
        )
    with arguments.out.open("xb") as file:
        file.write(codebook.encode(made))
    print(f"{arguments.out}: version {made.version}, {len(made):,} centroids of {len(sampled.codes):,} patterns")

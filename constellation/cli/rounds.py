"""`constellation rounds`: the last rounds of a federation as a table, newest first."""

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from constellation import config
from constellation.cli.fleet import whole
from constellation.cli.options import add_options, given
from constellation.config import WorkerSettings

if TYPE_CHECKING:
    from constellation.federation.database import RoundRow

PIPED_CHARS = 200
"""Of a line where there is no terminal: nothing is cut off."""
COUNTS = ("codebook", "shards", "devices", "patterns", "prototypes", "trends", "epsilon", "seconds")


def configure(parser: argparse.ArgumentParser) -> None:
    add_options(parser, _options())
    parser.add_argument("--last", type=whole(1, 200), default=20, metavar="N", help="rounds at most (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    from constellation.storage.connections import DatabaseUnavailable, WrongDatabase

    settings = config.load_worker(given(arguments, _options()), config_file=arguments.config)
    try:
        rows = asyncio.run(_last_rounds(settings.coordinator_url, arguments.last))
    except (DatabaseUnavailable, WrongDatabase) as error:
        print(f"constellation rounds: {error}", file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else PIPED_CHARS)
    console.print(_table(rows) if rows else "no round has been opened yet")
    for row in rows:
        if row.why:
            console.print(f"round {row.number}: {row.why}", highlight=False, markup=False)
    return 0


def _options() -> tuple[config.Option, ...]:
    return tuple(option for option in config.options(WorkerSettings) if option.field == "coordinator_url")


async def _last_rounds(url: str, limit: int) -> "list[RoundRow]":
    from constellation.federation.database import connected

    async with connected(url) as database:
        await database.check()
        return await database.last_rounds(limit)


def _table(rows: "list[RoundRow]") -> Table:
    """`shards`: those in the result, of those that were asked."""
    table = Table("round", "state", "age", box=None, padding=(0, 1, 0, 0))
    for name in COUNTS:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            *(f"{row.number}", row.state, _age(row.age_s), f"{row.codebook_version}"),
            *(f"{row.reported}/{row.expected}", f"{row.devices:,}", f"{row.patterns:,}", f"{row.prototypes:,}"),
            *(f"{row.trends:,}", _privacy(row), f"{row.took_s:.1f}"),
        )
    return table


def _privacy(row: "RoundRow") -> str:
    """Of the round, and of all rounds of the window that ends with it."""
    if row.epsilon is None:
        return ""
    return f"{row.epsilon:g}" if row.spent is None else f"{row.epsilon:g}, in all {row.spent:.3g}"


def _age(seconds: float) -> str:
    """In the largest unit of which there are two."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"

"""What a person sees of a running fleet: a live table on a terminal, a line every few seconds elsewhere, a summary."""

import asyncio
import time
from collections.abc import Sequence
from statistics import median

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from constellation.fleet.films import Films
from constellation.fleet.relevance import PATTERNS_WANTED, Relevance
from constellation.fleet.traffic import Tally

REFRESH_S = 0.5
LINE_S = 5.0
TRENDS_SHOWN = 10


def progress(console: Console) -> Progress:
    """The bar of one long step; silent where nobody watches."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


async def watch(console: Console, tally: Tally, films: Films) -> None:
    """Show the run until cancelled."""
    await (_watch_live(console, tally, films) if console.is_terminal else _watch_lines(console, tally))


async def _watch_live(console: Console, tally: Tally, films: Films) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Group(_table(tally), _trends(tally, films)), refresh=True)
            await asyncio.sleep(REFRESH_S)


async def _watch_lines(console: Console, tally: Tally) -> None:
    while True:
        await asyncio.sleep(LINE_S)
        console.print(_line(tally), soft_wrap=True, highlight=False)


def announce(console: Console, devices: int, interval_s: float, urls: Sequence[str], minutes: float, seed: int) -> None:
    console.print(
        f"{devices:,} TVs sync every {interval_s:,.0f} s on average with {', '.join(urls)} "
        f"for {minutes:g} minutes (seed {seed}).",
        highlight=False,
        soft_wrap=True,
    )


def summary(console: Console, tally: Tally, films: Films, devices: int, relevance: Relevance) -> None:
    """The whole run, with the quality of what the TVs received, not only its speed."""
    console.print(_table(tally), _trends(tally, films))
    wanted = f"{relevance.well_served:,} of {devices:,} TVs received {PATTERNS_WANTED} or more patterns"
    console.print(f"{wanted}; {relevance.tvs:,} received any.", highlight=False, soft_wrap=True)
    console.print(
        f"Best cosine to a TV's own interests: {relevance.received_cosine:.3f} for what it received, "
        f"{relevance.random_cosine:.3f} for patterns drawn at random.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"The fleet itself took {tally.cpu_s / max(1, tally.syncs) * 1e6:,.0f} us of CPU a sync.", highlight=False
    )
    for text, count in tally.errors.most_common():
        console.print(f"[red]{count:,} x[/red] ", text, markup=True, highlight=False, soft_wrap=True)
    verdict = "[green]No errors.[/green]" if not tally.failed else f"[red]{tally.failed:,} errors.[/red]"
    console.print(verdict)


def _table(tally: Tally) -> RenderableType:
    table = Table(show_header=False, title="fleet", title_justify="left")
    table.add_column(style="cyan")
    table.add_column(justify="right")
    syncs = max(1, tally.syncs)
    for name, value in (
        ("syncs", f"{tally.syncs:,}"),
        ("syncs/s", f"{_rate(tally):,.1f}"),
        ("latency p50", _milliseconds(tally.latencies.quantile_s(0.5))),
        ("latency p99", _milliseconds(tally.latencies.quantile_s(0.99))),
        ("latency p99.9", _milliseconds(tally.latencies.quantile_s(0.999))),
        ("latency p99.99", _milliseconds(tally.latencies.quantile_s(0.9999))),
        ("latency, longest", _milliseconds(tally.latencies.longest_s)),
        ("sent late by the fleet, p99", _milliseconds(tally.lateness.quantile_s(0.99))),
        ("bytes up / sync", f"{tally.bytes_up / syncs:,.0f}"),
        ("bytes down / sync", f"{(sum(tally.cold) + sum(tally.warm)) / syncs:,.0f}"),
        ("  whole list, median", _median(tally.cold)),
        ("  what changed, median", _median(tally.warm)),
        ("patterns added", f"{tally.accepted['added']:,}"),
        ("patterns updated", f"{tally.accepted['updated']:,}"),
        ("patterns removed", f"{tally.accepted['removed']:,}"),
        ("repeated requests", f"{tally.repeated:,}"),
        ("errors", f"{tally.failed:,}"),
    ):
        table.add_row(name, value)
    return table


def _trends(tally: Tally, films: Films) -> RenderableType:
    table = Table(title="trending", title_justify="left")
    table.add_column("score", justify="right", style="cyan")
    table.add_column("title")
    for trend in tally.trending[:TRENDS_SHOWN]:
        table.add_row(f"{trend.trending_score:.2f}", films.title(trend.content_id))
    return table


def _line(tally: Tally) -> str:
    return (
        f"{time.monotonic() - tally.started:5.0f} s  {tally.syncs:,} syncs  {_rate(tally):.1f}/s  "
        f"p50 {_milliseconds(tally.latencies.quantile_s(0.5))}  p99 {_milliseconds(tally.latencies.quantile_s(0.99))}  "
        f"{tally.failed:,} errors"
    )


def _median(of: Sequence[int]) -> str:
    return f"{median(of):,.0f}" if of else "-"


def _rate(tally: Tally) -> float:
    elapsed_s = (tally.ended or time.monotonic()) - tally.started
    return tally.syncs / max(elapsed_s, 1e-9)


def _milliseconds(duration_s: float) -> str:
    return f"{duration_s * 1e3:,.1f} ms"

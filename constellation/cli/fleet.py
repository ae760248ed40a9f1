"""`constellation fleet`: simulated TVs against a shard that runs, with a live table and a summary.

Exits 1 if a sync failed or none was made.
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from constellation.config import WrongSetting

if TYPE_CHECKING:
    from constellation.fleet.run import Plan
    from constellation.identity import Issuer

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended before there was anything to sum up, as shells have it."""
PROCESSES_MAX = 64
DEVICES_MAX = 100_000
"""A TV takes about 0.1 MB with all that it received."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", action="append", help="a shard (default http://127.0.0.1:8080); once for each of several"
    )
    add_size_options(parser, devices=1_000)
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--rate",
        type=number(0.01, 100_000),
        metavar="N",
        help="syncs a second of all TVs together (default: at most 150)",
    )
    pace.add_argument(
        "--interval", type=number(0.1, 86_400), metavar="SECONDS", help="mean time between two syncs of a TV"
    )
    parser.add_argument(
        "--processes", type=whole(1, PROCESSES_MAX), default=1, metavar="N", help="share the TVs out (default 1)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of all households (default %(default)s)")
    parser.add_argument(
        "--token-key", type=Path, metavar="FILE", help="private key to issue the TVs' tokens with, where shards ask"
    )
    parser.add_argument("--audience", default="constellation", metavar="TEXT", help="of those (default %(default)s)")


def add_size_options(parser: argparse.ArgumentParser, *, devices: int) -> None:
    """The options that `demo` has too."""
    parser.add_argument(
        "--devices", type=whole(1, DEVICES_MAX), default=devices, metavar="N", help="TVs (default %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=number(0.01, 100_000), default=2.0, metavar="M", help="how long to sync (default %(default)g)"
    )


def run(arguments: argparse.Namespace) -> int:
    from constellation.fleet.run import Plan

    interval_s = arguments.devices / arguments.rate if arguments.rate else arguments.interval
    plan = Plan(
        urls=tuple(url.rstrip("/") for url in arguments.url or ["http://127.0.0.1:8080"]),
        devices=arguments.devices,
        minutes=arguments.minutes,
        interval_s=interval_s,
        seed=arguments.seed,
        issuer=open_issuer("--token-key", arguments.token_key, arguments.audience) if arguments.token_key else None,
    )
    return run_plan("fleet", plan, Console(), min(arguments.processes, arguments.devices))


def run_plan(command: str, plan: "Plan", console: Console, processes: int = 1) -> int:
    """Run a fleet; the exit code. A shard that does not answer ends it with one line."""
    from constellation.client import SyncFailed
    from constellation.fleet.processes import run_shared
    from constellation.fleet.run import run as run_fleet

    try:
        return (run_fleet(plan, console) if processes == 1 else run_shared(plan, processes, console)).exit_code
    except SyncFailed as failure:
        print(f"constellation {command}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def open_issuer(flag: str, key: Path, audience: str) -> "Issuer":
    """Raises `WrongSetting`."""
    from constellation.identity import WrongFile, read_issuer

    try:
        return read_issuer(key, audience)
    except WrongFile as error:
        raise WrongSetting(f"{flag}: {error}") from error


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number within bounds."""

    def convert(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a whole number from {low} to {high}")
        return int(text)

    return convert


def number(low: float, high: float) -> Callable[[str], float]:
    """An argparse type: a number within bounds."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a number from {low:g} to {high:g}")
        return value

    return convert

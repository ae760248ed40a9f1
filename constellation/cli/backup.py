"""`constellation backup FILE`: what the database of a shard holds, as one file; the shard may go on serving.

It only reads. The embedded database is reached through the socket of the shard that serves it; where none does, the
data directory is owned and the server started for the time of the backup.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from constellation import config
from constellation.cli.options import add_options, given
from constellation.config import Settings, WrongSetting

if TYPE_CHECKING:
    from constellation.storage.backup import Summary
    from constellation.storage.database import Database

INTERRUPTED = 130


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write it")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    add_storage_options(parser, "data_dir", "database_url")


def run(arguments: argparse.Namespace) -> int:
    return run_with_storage("backup", _back_up(load_settings(arguments), arguments.file, arguments.force))


def add_storage_options(parser: argparse.ArgumentParser, *fields: str) -> None:
    """Options that are those of `serve`."""
    add_options(parser, (option for option in config.options() if option.field in fields))


def load_settings(arguments: argparse.Namespace) -> Settings:
    """Raises `WrongSetting`."""
    settings = config.load(given(arguments, config.options()), config_file=arguments.config)
    if settings.storage == "memory":
        raise WrongSetting("storage: got 'memory'; allowed: postgres, because memory keeps nothing")
    return settings


def run_with_storage(command: str, work: Coroutine[Any, Any, None]) -> int:
    """The exit code; whatever an operator can do something about is one line."""
    from constellation.storage import keeper
    from constellation.storage.backup import Refused
    from constellation.storage.frames import WrongFile

    # A signal to end is as Ctrl-C: what was begun is taken back.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        asyncio.run(work)
    except (Refused, WrongFile, *keeper.REFUSALS, OSError) as error:
        print(f"constellation {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


@contextlib.contextmanager
def bar() -> Any:
    """Shows a progress bar on a terminal; gives `advance` for a described part of the work."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:

        def part(description: str, total: int | None) -> Callable[[int], None]:
            task = progress.add_task(description, total=total)
            return lambda done: progress.update(task, completed=done)

        yield part


def at(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%F %T} UTC"


def counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())


async def _back_up(settings: Settings, file: Path, force: bool) -> None:
    from constellation.storage.backup import estimated_rows, write_backup

    async with _database(settings) as database:
        rows = await estimated_rows(database)
        with bar() as part:
            summary = await write_backup(
                database, file, force=force, now=time.time(), advance=part("backing up", rows or None)
            )
    print(f"{file}: shard {summary.shard_id}, {counted(summary.counts)}, {file.stat().st_size:,} bytes")
    print(_moment(summary))


def _moment(summary: "Summary") -> str:
    if not summary.newest_sync:
        return f"it shows the database at {at(summary.taken_at)}; no device is in it"
    age_s = max(0, summary.taken_at - summary.newest_sync)
    return (
        f"it shows the database at {at(summary.taken_at)}; the newest sync in it was {age_s} s before. What a shard "
        "acknowledged in the last second or so, or while its database was away, may be in its journal only"
    )


@contextlib.asynccontextmanager
async def _database(settings: Settings) -> "AsyncIterator[Database]":
    """The database to read. Raises what `keeper.REFUSALS` names, and `backup.Refused`."""
    from constellation.storage import database as databases
    from constellation.storage import embedded
    from constellation.storage.backup import Refused, socket_url
    from constellation.storage.connections import DatabaseUnavailable
    from constellation.storage.lock import AlreadyOwned, OwnerLock

    data_dir = Path(settings.data_dir)
    async with contextlib.AsyncExitStack() as stack:
        if settings.database_url != config.EMBEDDED:
            database = await databases.connect(settings.database_url)
        elif not (data_dir / "postgres").is_dir():
            raise Refused(f"{data_dir} holds no database: give the --data-dir or the --database-url of a shard")
        else:
            try:
                database = await databases.connect(socket_url(data_dir))
            except DatabaseUnavailable as error:
                try:
                    stack.enter_context(OwnerLock(data_dir))
                except AlreadyOwned:
                    raise Refused(
                        f"a shard that owns {data_dir} is starting or stopping; try again: {error}"
                    ) from error
                server = await embedded.start(data_dir)
                stack.push_async_callback(server.stop)
                database = await databases.connect(server.url)
        stack.push_async_callback(database.close)
        await database.check()
        yield database

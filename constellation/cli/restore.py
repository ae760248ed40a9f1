"""`constellation restore FILE`: a backup into the database of a shard that is not served meanwhile.

All of the file is checked before a database is opened, let alone changed.
"""

import argparse
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from constellation.cli.backup import add_storage_options, at, bar, counted, load_settings, run_with_storage
from constellation.config import EMBEDDED, Settings

if TYPE_CHECKING:
    from constellation.storage.database import Database


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a file that `backup` wrote")
    parser.add_argument("--force", action="store_true", help="replace what the database holds")
    add_storage_options(parser, "shard_id", "data_dir", "database_url")


def run(arguments: argparse.Namespace) -> int:
    return run_with_storage("restore", _restore(load_settings(arguments), arguments.file, arguments.force))


async def _restore(settings: Settings, file: Path, force: bool) -> None:
    from constellation.storage.keeper import JOURNAL_FILE
    from constellation.storage.restore import restore, verify

    with bar() as part:
        size = file.stat().st_size
        backup = verify(file, part("checking", size))
        async with _database(settings) as database:
            restored = await restore(
                database,
                backup,
                settings.shard_id,
                Path(settings.data_dir) / JOURNAL_FILE,
                force=force,
                now=time.time(),
                advance=part("restoring", size),
            )
    summary = backup.summary
    print(f"shard {summary.shard_id} is as it was at {at(summary.taken_at)}: {counted(summary.counts)}")
    if restored.kept_out:
        print(f"{restored.kept_out:,} devices of the backup were left out: they were forgotten after it was taken")
    if restored.tombstones_lost:
        print(
            f"{restored.tombstones_lost:,} tombstones of forgotten devices were made under another key and are gone: "
            "none of these devices is in the backup, but a delta one of them sent before would be taken"
        )
    if restored.journal_aside:
        print(f"the journal from before is now {restored.journal_aside}")


@contextlib.asynccontextmanager
async def _database(settings: Settings) -> "AsyncIterator[Database]":
    """The database to write, and the data directory, both owned by this process."""
    from constellation.storage import database as databases
    from constellation.storage import embedded
    from constellation.storage.lock import OwnerLock

    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(OwnerLock(Path(settings.data_dir)))
        url = settings.database_url
        if url == EMBEDDED:
            server = await embedded.start(Path(settings.data_dir))
            stack.push_async_callback(server.stop)
            url = server.url
        database = await databases.connect(url)
        stack.push_async_callback(database.close)
        await database.migrate()
        yield database

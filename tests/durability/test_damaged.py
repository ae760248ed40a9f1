"""A journal that cannot be read, or is not there: the shard does not start, and says what an operator can do."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from tests.durability.ledger import Ledger
from tests.durability.life import keeping, kill, living, postgres, refused
from tests.storage.proxy import CutProxy


def test_shard_does_not_start_from_a_journal_that_lacks_what_the_database_lacks(
    folder: Path, rng: np.random.Generator
) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        journal = folder / "shard" / "journal.sqlite"
        async with postgres(folder / "database") as database, CutProxy(database.url) as proxy:
            url = ("--database-url", proxy.url)
            async with living(folder / "shard", *url) as server:
                proxy.cut()
                async with ledger.syncing(server.url):
                    await ledger.more(50)
                await kill(server)
            proxy.restore()
            with closing(sqlite3.connect(journal)) as opened:
                (good,) = opened.execute("SELECT checksum FROM records WHERE position = 20").fetchone()
                opened.execute("UPDATE records SET checksum = x'00' WHERE position = 20")
                opened.commit()
            said = await refused(*keeping(folder / "shard", *url))
            assert "is damaged at position 20" in said and "restore the file" in said
            with closing(sqlite3.connect(journal)) as opened:
                opened.execute("UPDATE records SET checksum = ? WHERE position = 20", (good,))
                opened.commit()
            async with living(folder / "shard", *url) as server:
                await ledger.check_served(server.url)

    asyncio.run(scenario())

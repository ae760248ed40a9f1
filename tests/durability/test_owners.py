"""One process for a data directory, one for a database, one journal for a database; the others are told who it is."""

import asyncio
from pathlib import Path

import numpy as np

from tests.durability.ledger import Ledger
from tests.durability.life import keeping, living, postgres, refused, stop, stored


def test_second_process_is_refused_and_told_who_owns_the_place(folder: Path, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        ledger = Ledger(rng)
        async with postgres(folder / "database") as database:
            url = ("--database-url", database.url)
            async with living(folder / "first", *url) as server:
                async with ledger.syncing(server.url):
                    await ledger.more(50)
                    owner = f"process {server.child.pid} on "
                    of_folder, of_database = await asyncio.gather(
                        refused(*keeping(folder / "first", *url)), refused(*keeping(folder / "second", *url))
                    )
                    assert str(folder / "first") in of_folder and owner in of_folder
                    assert "has claimed it and is still connected" in of_database and owner in of_database
                    await ledger.more(50)
                assert ledger.refusals == []
                await stop(server)
            said = await refused(*keeping(folder / "second", *url))
            assert "--accept-loss" in said and "journal" in said
            async with living(folder / "second", *url, "--accept-loss") as server:
                await ledger.check_served(server.url)
                async with ledger.syncing(server.url):
                    await ledger.more(50)
                await stop(server)
            said = await refused(*keeping(folder / "first", *url))
            assert "--accept-loss" in said
            ledger.check_stored(await stored(database.url))

    asyncio.run(scenario())

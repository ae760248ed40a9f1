"""`constellation shards` where there is nothing to move, or no way to; moves themselves are in tests/durability."""

import argparse
import asyncio

import pytest

from constellation.cli.main import main
from constellation.cli.shards import slot_ranges
from tests.federation.reporting import join, opened
from tests.storage.conftest import server as server
from tests.storage.conftest import url as url


def test_slots_are_given_as_ranges() -> None:
    assert slot_ranges("3,0-1,1-2,16383") == [0, 1, 2, 3, 16383]
    for wrong in ("", "-", "1-", "-1", "5-4", "a", "0-16384", "1,,2", "1-2-3"):
        with pytest.raises(argparse.ArgumentTypeError, match="allowed: "):
            slot_ranges(wrong)


def test_what_cannot_be_moved_is_refused_with_a_sentence(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def prepare() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)

    command = ["shards", "move", "--coordinator-url", url, "--from"]
    assert main([*command, "a", "--to", "b"]) == 1
    assert "holds no federation" in capsys.readouterr().err
    asyncio.run(prepare())
    assert main([*command, "shard-2", "--to", "shard-1", "--slots", "0"]) == 1
    assert "shard shard-2 does not have slots 0" in capsys.readouterr().err
    assert main(["shards", "drain", "shard-3", "--coordinator-url", url]) == 1
    assert "constellation shards drain: there is no shard shard-3" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "a", "--to", "b", "--slots", "1", "--share", "0.5"])


def test_every_shard_is_listed_with_its_slots(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prepare() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)

    monkeypatch.setenv("COLUMNS", "200")
    asyncio.run(prepare())
    assert main(["shards", "list", "--coordinator-url", url]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "shard-" in line]
    for row, slots in zip(rows, ("0-2047", "2048-4095"), strict=True):
        assert "2,048" in row and slots in row and "ready" in row

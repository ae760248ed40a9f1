"""The last round on disk: there again, or nothing that could be taken for it."""

import asyncio
import logging
from pathlib import Path

import pytest

from constellation.storage import last_round

PARTS = [b"result" * 1_000, b"", b"partial"]


def test_what_was_kept_last_is_found(tmp_path: Path) -> None:
    assert asyncio.run(last_round.find(tmp_path)) == []
    for parts in (PARTS, PARTS[:1]):
        asyncio.run(last_round.keep(tmp_path, parts))
        assert asyncio.run(last_round.find(tmp_path)) == parts


@pytest.mark.parametrize("place", range(0, 150, 7))
def test_a_flipped_bit_is_noticed(tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(last_round.keep(tmp_path, PARTS))
    path = tmp_path / last_round.FILE
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 4
    path.write_bytes(content)
    assert asyncio.run(last_round.find(tmp_path)) == []
    assert "cannot be read" in caplog.text


def test_a_disk_that_does_not_take_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        asyncio.run(last_round.keep(tmp_path / "gone", PARTS))
    assert "not on disk" in caplog.text

"""A folder for data directories, with nothing left running in it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.durability.life import end_leftovers


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own, which the user as whom root starts PostgreSQL may not enter."""
    with tempfile.TemporaryDirectory(prefix="constellation-test-") as name:
        try:
            yield Path(name)
        finally:
            end_leftovers(Path(name))

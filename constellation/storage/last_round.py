"""The last round as a file in the data directory: a shard serves it again at once, also while the coordinator is away.

Losing it costs nothing but that: the next look at the coordinator database brings it back. What is in it is encoded by
who puts it there.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from constellation.storage import frames
from constellation.storage.frames import Form, WrongFile

FILE = "round"
FORM = Form("round", b"constellation round", 1)

_PART, _ZSTD_LEVEL = 1, -1
_log = logging.getLogger(__name__)


async def keep(folder: Path, parts: Sequence[bytes]) -> None:
    """Replace the one that is there. A disk that does not take it is logged."""
    try:
        await asyncio.to_thread(_write, folder / FILE, parts)
    except OSError as error:
        _log.warning("the round is not on disk", extra={"why": str(error)})


async def find(folder: Path) -> list[bytes]:
    """The parts that were kept last; none if there are none, or none that can be read."""
    try:
        return await asyncio.to_thread(_read, folder / FILE)
    except FileNotFoundError:
        return []
    except (WrongFile, OSError) as error:
        _log.warning("the last round cannot be read", extra={"why": str(error)})
        return []


def _write(path: Path, parts: Sequence[bytes]) -> None:
    with frames.writing(path, FORM, _ZSTD_LEVEL) as file:
        for part in parts:
            file.frame(_PART, part)
        file.end(b"")


def _read(path: Path) -> list[bytes]:
    return [frame.content for frame in frames.read(path, FORM) if frame.kind == _PART]

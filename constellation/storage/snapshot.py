"""A snapshot: all that a shard holds as one file beside the journal, so that a restart need not read the database.

It is written while the shard serves, a piece at a time. `position` is where the journal stood before the first piece:
the pieces and then every record behind it give the state (`records.Piece`). It belongs to one journal, whose id it
tells. Nothing depends on it: without one that fits, the database is read.
One is taken when the journal behind the last got long, now and then, and when a shard stops.

Constraints, what must hold:
- Under its name there is a whole snapshot or none; every byte is under a checksum, and all are compared before the
  first piece is given.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from constellation import __version__, limits
from constellation.records import Piece, decode, encode
from constellation.spans import Report, reporting, unreported
from constellation.storage import frames
from constellation.storage.frames import Form, Writer, WrongFile
from constellation.storage.journal import Journal

FILE = "snapshot"
FORM = Form("snapshot", b"constellation snapshot", 2)
LEVEL = -1
"""Of zstd: embeddings and ids, which are nearly all of it, hardly get smaller, so nothing is spent on them."""

_HEADER, _CHANGE, _PLACES = 1, 2, 3
_LOOK_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot is of. The layout is that of the similarity index when the first piece was taken.

    Only the release that wrote a snapshot reads it: how rows lie in the index is nobody else's affair.
    """

    release: str
    journal_id: bytes
    position: int
    layout: bytes


class Snapshot:
    """A file that was found whole."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path, self.header = path, header

    def pieces(self) -> Iterator[Piece]:
        """Raises `WrongFile`, OSError; not after `find`, if nobody changes the file."""
        change = None
        for kind, content, _ in frames.read(self._path, FORM):
            if kind == _CHANGE:
                change = decode(content)
            elif kind == _PLACES:
                assert change is not None
                yield Piece(change, content)


class Told(Protocol):
    """A shard that tells what it holds."""

    def layout(self) -> bytes: ...

    def pieces(self, patterns_at_once: int) -> Iterator[Piece]: ...


class Snapshots:
    """The snapshots of one journal in one folder. `commit` makes durable all that a shard would tell now."""

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        every_s: float,
        commit: Callable[[], None],
        report: Report = unreported,
    ) -> None:
        self._folder, self._journal, self._every_s, self._commit = folder, journal, every_s, commit
        self._report = report
        self.position: int | None = None
        """The journal is needed from behind this one on; None where there is no snapshot."""

    async def find(self) -> Snapshot | None:
        """The one that the journal goes on from, if there is one."""
        path = self._folder / FILE
        try:
            await asyncio.to_thread(frames.check, path, FORM)
            header = msgspec.msgpack.decode(next(frames.read(path, FORM)).content, type=Header)
        except FileNotFoundError:
            return None
        except (WrongFile, msgspec.MsgspecError, OSError) as error:
            _log.warning("the snapshot cannot be used, the database is read instead", extra={"why": str(error)})
            return None
        journal = self._journal
        goes_on = journal.first - 1 <= header.position <= journal.tail
        if (header.release, header.journal_id) != (__version__, bytes.fromhex(journal.id)) or not goes_on:
            _log.info("the snapshot is not of this release or journal, the database is read instead")
            return None
        self.position = header.position
        return Snapshot(path, header)

    async def run(self, shard: Told) -> None:
        """Take one when the last is `every_s` old, or when much came since, for ever. Raises what `commit` raises."""
        taken_at = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            records, age_s = self._records(), time.monotonic() - taken_at
            enough = records >= limits.SNAPSHOT_RECORDS_MAX and age_s >= limits.SNAPSHOT_GAP_S_MIN
            if enough or (records and age_s >= self._every_s):
                await self.take(shard, limits.SNAPSHOT_PAUSE)
                taken_at = time.monotonic()

    async def take(self, shard: Told, pause: float = 0.0) -> None:
        """Write all that the shard holds, unless that is there already.

        After each piece it waits `pause` times as long as that took. Where the disk does not take it there is none
        afterwards. Raises what `commit` raises.
        """
        self._commit()
        if not self._records():
            return
        began_at = time.monotonic()
        header = Header(__version__, bytes.fromhex(self._journal.id), self._journal.tail, shard.layout())
        pieces = shard.pieces(limits.SNAPSHOT_PATTERNS_PER_TURN)
        try:
            with reporting(self._report, "snapshot"), frames.writing(self._folder / FILE, FORM, LEVEL) as file:
                await _in_thread(file.frame, _HEADER, msgspec.msgpack.encode(header))
                while True:
                    piece_at = time.perf_counter()
                    self._commit()  # nothing that a crash could undo is in a piece
                    if (piece := next(pieces, None)) is None:
                        break
                    await _in_thread(_put, file, encode(piece.change), piece.places)
                    await asyncio.sleep(pause * (time.perf_counter() - piece_at))
                await _in_thread(file.end, b"")
        except OSError as error:
            _log.warning("no snapshot was taken", extra={"why": str(error)})
            self.position = None
            return
        self.position = header.position
        _log.info("snapshot", extra={"seconds": round(time.monotonic() - began_at, 2), "position": header.position})

    def _records(self) -> int:
        """How many came since the snapshot; without one at least one."""
        return self._journal.tail - (-1 if self.position is None else self.position)


def drop(folder: Path) -> None:
    """Delete the snapshot that may be in the folder, and what there is of an unfinished one. Raises OSError."""
    for path in (folder / FILE, frames.part_of(folder / FILE)):
        path.unlink(missing_ok=True)


async def _in_thread(work: Callable[..., None], *arguments: object) -> None:
    """Waits for its end also when it is cancelled: the file must not be closed under the thread."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


def _put(file: Writer, change: bytes, places: bytes) -> None:
    file.frame(_CHANGE, change)
    file.frame(_PLACES, places)

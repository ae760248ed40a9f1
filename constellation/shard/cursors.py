"""What recently active devices hold: the list that each acknowledged, and the pending one, that it was sent last.

So a reply tells what changed, no more. A device acknowledges a reply by sending its version; if it sends that of the
acknowledged one again, the reply was lost, and the next is made against the acknowledged one once more. Nothing is
written down: a device that is not remembered gets the whole list. Who was not answered for longest makes room.
Part of `shard.shard`.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from constellation.config import Settings
from constellation.limits import SIMILAR_MAX
from constellation.model import ID_BYTES, Ids, Rows
from constellation.shard import memory
from constellation.shard.patterns import Patterns
from constellation.shard.prototypes import PrototypeTable
from constellation.shard.recent import BYTES_PER_PLACE, Recent
from kernels import cursors as kernel
from kernels.cursors import SLOTS

BYTES_PER_CURSOR = (4 + 2) * SLOTS + 6 * 8 + 4 + BYTES_PER_PLACE
"""1,260: the rows of both lists and how they were, their versions and trends, the parameters, a digest, the device."""
BYTES_PER_DEVICE = 4

_NO_VERSION = -1
_NOBODYS = 0

assert SLOTS == 2 * SIMILAR_MAX and kernel.SAME == 0


class Listed(NamedTuple):
    """What a device is to have: rows (n,) int32, trends, by the parameters that it asked with; both of these as hashes
    of 64 bits. by_handle: it is told by handle what to drop, not by id."""

    rows: Rows
    trends: int
    parameters: int
    by_handle: bool = False


class _Head(NamedTuple):
    """Of the two lists of a device: their versions and trends, and the parameters of both."""

    acknowledged: int
    pending: int
    acknowledged_trends: int
    pending_trends: int
    parameters: int


_PENDING = _Head._fields.index("pending")


class News(NamedTuple):
    """What of it the device lacks: places (m,) among the rows and `model.Answer`'s columns of these. `trends`: also the
    trends? listed (n,) are the handles of all rows. `digest` is that of the rows, if it is known already: then listed
    is empty."""

    listed: npt.NDArray[np.uint8]
    places: npt.NDArray[np.int64]
    handles: npt.NDArray[np.uint8]
    whole: npt.NDArray[np.bool_]
    gone: npt.NDArray[np.uint8]
    removed: Ids
    reset: bool
    trends: bool
    digest: str = ""

    def __bool__(self) -> bool:
        return self.reset or self.trends or bool(len(self.places) or len(self.gone))


_NOTHING = News(
    listed=np.empty(0, np.uint8),
    places=np.empty(0, np.int64),
    handles=np.empty(0, np.uint8),
    whole=np.empty(0, np.bool_),
    gone=np.empty(0, np.uint8),
    removed=np.empty((0, ID_BYTES), np.uint8),
    reset=False,
    trends=False,
)


class Cursors:
    """Cursors of up to `max_cursors` devices."""

    def __init__(self, settings: Settings, patterns: Patterns, prototypes: PrototypeTable) -> None:
        self._revisions = patterns.revisions.counts, prototypes.revisions.counts
        self._ids = patterns.ids.view(np.uint64), prototypes.ids.view(np.uint64)
        count = min(settings.max_cursors, settings.max_devices)
        self._recent = Recent(count)
        self._cursor_of = memory.column(1 + settings.max_devices, np.int32)  # of device - 1; 0 for none
        self._owner_of = memory.column(1 + count, np.int32)  # the device + 1; 0 for nobody
        self._words = memory.column(1 + count, np.uint32, SLOTS)
        self._sent = memory.column(1 + count, np.uint16, SLOTS)
        self._heads = memory.column(1 + count, np.int64, len(_Head._fields))
        self._digests = memory.column(1 + count, np.uint64)  # of the pending lists

    @property
    def high(self) -> int:
        """Places up to this one were in use at some time."""
        return self._recent.high

    def place(self, device: int) -> int:
        """Where a device, a row, has its cursor, the newest from now on; nobody's, 0, of -1, one that is not known."""
        return self._use(device + 1) if device >= 0 else _NOBODYS

    def tell(self, cursor: int, listed: Listed, local_version: int | None) -> News:
        """What the device with its cursor at this place lacks if it holds the reply of `local_version`.

        The list is pending from now on, under the version that `sent` gives it.
        """
        if cursor == _NOBODYS:
            return _whole(np.arange(len(listed.rows), dtype=np.uint8))
        before = _Head(*self._heads[cursor].tolist())
        known, version, trends = _acknowledged(before, listed.parameters, local_version)
        if known == kernel.PENDING and kernel.unchanged(*self._of(cursor), listed.rows, *self._revisions):
            self._heads[cursor] = version, _NO_VERSION, trends, listed.trends, listed.parameters
            return _NOTHING._replace(trends=trends != listed.trends, digest=f"{int(self._digests[cursor]):016x}")
        handles, kinds, gone, removed, nameless = self._compare(cursor, known, listed.rows)
        if nameless and not listed.by_handle:  # another pattern is in the row, nobody knows the id any more
            known, version = kernel.NOTHING, _NO_VERSION
            handles = self._compare(cursor, known, listed.rows)[0]
        self._heads[cursor] = version, _NO_VERSION, trends, listed.trends, listed.parameters
        if known == kernel.NOTHING:
            return _whole(handles)
        (places,) = kinds.nonzero()
        return News(
            listed=handles,
            places=places,
            handles=handles[places],
            whole=kinds[places] == kernel.WHOLE,
            gone=gone,
            removed=removed.view(np.uint8),
            reset=False,
            trends=trends != listed.trends,
        )

    def sent(self, cursor: int, version: int, digest: str) -> None:
        """What `tell` told the device last goes out under this version, and this is the digest of the whole list."""
        if cursor != _NOBODYS:
            self._heads[cursor, _PENDING] = version
            self._digests[cursor] = int(digest, 16)

    def forget(self, device: int) -> None:
        """Nothing is known of the device any more."""
        cursor = int(self._cursor_of[device + 1])
        if cursor:
            self._release(cursor)
            self._recent.give_back(cursor)

    def _use(self, owner: int) -> int:
        """The cursor of a device, as the newest; if it has none, an empty one, perhaps another's."""
        cursor = int(self._cursor_of[owner])
        if cursor:
            self._recent.use(cursor)
            return cursor
        cursor = self._recent.take()
        self._release(cursor)
        self._cursor_of[owner], self._owner_of[cursor] = cursor, owner
        return cursor

    def _release(self, cursor: int) -> None:
        self._cursor_of[self._owner_of[cursor]] = 0
        self._owner_of[cursor] = 0
        self._heads[cursor] = _NO_VERSION

    def _compare(self, cursor: int, known: int, rows: Rows) -> tuple[Any, Any, Any, Any, int]:
        answer: tuple[Any, Any, Any, Any, int] = kernel.tell(
            *self._of(cursor), known, rows, *self._revisions, *self._ids
        )
        return answer

    def _of(self, cursor: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16]]:
        """The slots of a device."""
        return self._words[cursor], self._sent[cursor]


def _acknowledged(head: _Head, parameters: int, local_version: int | None) -> tuple[int, int, int]:
    """Which list the device says that it holds, as the kernel has it, the version of that list, and its trends."""
    if head.parameters == parameters and local_version == head.pending:
        return kernel.PENDING, head.pending, head.pending_trends
    if head.parameters == parameters and local_version == head.acknowledged:
        return kernel.ACKNOWLEDGED, head.acknowledged, head.acknowledged_trends
    return kernel.NOTHING, _NO_VERSION, 0


def _whole(handles: npt.NDArray[np.uint8]) -> News:
    n = len(handles)
    return News(
        listed=handles,
        places=np.arange(n),
        handles=handles,
        whole=np.ones(n, np.bool_),
        gone=np.empty(0, np.uint8),
        removed=np.empty((0, ID_BYTES), np.uint8),
        reset=True,
        trends=True,
    )

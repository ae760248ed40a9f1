"""Contexts in a compact block (docs/compact.md): every string once; every occasion (time of day, day of week, content
type) and every list of hints once, by its strings; of each pattern which occasion and which hints. Called by
`wire.compact`.
"""

from itertools import accumulate, pairwise
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from constellation import limits
from constellation.model import Context, Rows
from constellation.wire.pieces import Pieces, varint
from kernels.blocks import CONTEXT_COLUMNS, number_contexts

_CONTEXTS_MAX = 16_384
_STRINGS_MAX = limits.SIMILAR_MAX * (3 + limits.GENRE_HINTS_MAX)
_OCCASION = attrgetter("time_of_day", "day_of_week", "content_type")

assert CONTEXT_COLUMNS == 2 + 3 + 1 + limits.GENRE_HINTS_MAX
assert limits.SIMILAR_MAX <= _CONTEXTS_MAX


def write_contexts(contexts: list[Context], order: npt.NDArray[np.int64]) -> bytes:
    """Of n patterns, which the block has in this order (n,)."""
    strings, told = number_contexts(_met.columns, _met.rows(contexts)[order])
    encoded = [_met.strings[number] for number in strings.tolist()]
    return b"".join((varint(len(encoded)), bytes(map(len, encoded)), *encoded, told.tobytes()))


def read_contexts(pieces: Pieces, n: int) -> list[Context]:
    """Of n patterns."""
    (s,) = pieces.varints(1, _STRINGS_MAX, "strings")
    texts = pieces.texts(pieces.column(s, 0, limits.CONTEXT_STRING_BYTES_MAX, "length of a string"), "string")
    o, h = (pieces.byte(min(n, 1), n, part) for part in ("occasions", "lists of hints"))
    words = [texts[i] for i in pieces.varints(3 * o, s - 1, "string of an occasion")]
    occasions = list(zip(words[::3], words[1::3], words[2::3], strict=True))
    ends = list(accumulate(pieces.column(h, 0, limits.GENRE_HINTS_MAX, "hints"), initial=0))
    listed = [texts[i] for i in pieces.varints(ends[-1], s - 1, "string of a hint")]
    hints = [tuple(listed[start:end]) for start, end in pairwise(ends)]
    occasion_of = pieces.column(n, 0, o - 1, "occasion of a pattern")
    hints_of = pieces.column(n, 0, h - 1, "hints of a pattern")
    return [Context(*occasions[i], hints[j]) for i, j in zip(occasion_of, hints_of, strict=True)]


class _Met:
    """Contexts that were written before, by number, with what they are made of: a fleet's are the same few thousand.
    When there is no room for more all are forgotten."""

    def __init__(self) -> None:
        self.columns = np.zeros((_CONTEXTS_MAX, CONTEXT_COLUMNS), np.int32)
        self._forget()

    def rows(self, contexts: list[Context]) -> Rows:
        """Where they are in `columns` (n,) int32."""
        try:
            return np.array([self._numbers[context] for context in contexts], np.int32)
        except KeyError:
            return self._meet(contexts)

    def _meet(self, contexts: list[Context]) -> Rows:
        if len(self._numbers) + len(contexts) > _CONTEXTS_MAX:
            self._forget()
        for context in contexts:
            if context not in self._numbers:
                occasion, hints = _OCCASION(context), context.genre_hints
                strings = [self._string(text) for text in (*occasion, *hints)]
                row = self.columns[len(self._numbers)]
                row[:2] = (
                    self._occasions.setdefault(occasion, len(self._occasions)),
                    self._hints.setdefault(hints, len(self._hints)),
                )
                row[2:5], row[5], row[6 : 6 + len(hints)] = strings[:3], len(hints), strings[3:]
                self._numbers[context] = len(self._numbers)
        return self.rows(contexts)

    def _string(self, text: str) -> int:
        number = self._number_of.setdefault(text, len(self.strings))
        if number == len(self.strings):
            self.strings.append(text.encode())
        return number

    def _forget(self) -> None:
        self.strings: list[bytes] = []
        self._numbers: dict[Context, int] = {}
        self._number_of: dict[str, int] = {}
        self._occasions: dict[tuple[str, str, str], int] = {}
        self._hints: dict[tuple[str, ...], int] = {}


_met = _Met()

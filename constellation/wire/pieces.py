"""The pieces that compact blocks are made of: numbers, texts, columns of bytes (docs/compact.md).

What is read is not believed: it is within the bounds that the caller names, or what its `Refusal` makes is raised.
Plain Python, as pieces are short: one NumPy call takes longer than a loop over 20 bytes. Called by `wire.compact` and
`wire.contexts`; columns of numbers are read by `kernels.blocks`.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from constellation.errors import Problem
from constellation.wire.reading import Refusal, check_text
from kernels.blocks import VARINT_BYTES_MAX


class Pieces:
    """Takes a block apart from its beginning to its end; `path` is where it was."""

    def __init__(self, block: bytes, path: str, refuse: Refusal) -> None:
        self.at = 0
        self._block, self._path, self._refuse = block, path, refuse

    def take(self, count: int) -> bytes:
        start = self.at
        self.at += count
        if self.at > len(self._block):
            raise self.wrong("block", f"{count} bytes more at {start}", f"{len(self._block) - start}")
        return self._block[start : self.at]

    def byte(self, low: int, high: int, part: str) -> int:
        return self._checked(self.take(1)[0], low, high, part)

    def column(self, count: int, low: int, high: int, part: str) -> bytes:
        """Numbers, a byte each."""
        column = self.take(count)
        if column:
            self._checked(max(column), low, high, part)
            if low:
                self._checked(min(column), low, high, part)
        return column

    def varints(self, count: int, high: int, part: str) -> Sequence[int]:
        """LEB128, unsigned, of at most 3 bytes each."""
        ahead = self._block[self.at : self.at + count]
        if len(ahead) == count and ahead.isascii():  # as nearly always: a byte each
            return self.column(count, 0, high, part)
        return [self._varint(high, part) for _ in range(count)]

    def texts(self, lens: bytes, part: str) -> list[str]:
        ends = list(accumulate(lens, initial=0))
        whole = self.take(ends[-1])
        try:
            if whole.isascii() and 0 not in whole:
                text = whole.decode("ascii")
                return [text[start:end] for start, end in pairwise(ends)]
            texts = [whole[start:end].decode() for start, end in pairwise(ends)]
        except UnicodeDecodeError as error:
            raise self.wrong(part, "UTF-8", str(error)) from None
        for text in texts:
            check_text(text, 0, 255, f"{self._path}: {part}", self._refuse)
        return texts

    def end(self) -> None:
        if self.at != len(self._block):
            raise self.wrong("block", f"{self.at} bytes", f"{len(self._block)}")

    def wrong(self, part: str, expected: str, got: str) -> Problem:
        """What to raise."""
        return self._refuse(f"{self._path}: {part}", expected, got)

    def _varint(self, high: int, part: str) -> int:
        value = 0
        for place in range(VARINT_BYTES_MAX):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return self._checked(value, 0, high, part)
        raise self.wrong(part, f"numbers of at most {VARINT_BYTES_MAX} bytes", "a longer one")

    def _checked(self, value: int, low: int, high: int, part: str) -> int:
        if not low <= value <= high:
            raise self.wrong(part, f"{low}..{high}", str(value))
        return value


def varint(value: int) -> bytes:
    """LEB128."""
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def differences(values: Iterable[int]) -> bytes:
    """Of bytes: each less the one before, the first less 0, modulo 256."""
    return bytes([(value - before) & 0xFF for before, value in pairwise((0, *values))])


def sums(column: bytes) -> Iterable[int]:
    """Back from differences."""
    return (value & 0xFF for value in accumulate(column))

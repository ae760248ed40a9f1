"""Contexts as eleven small integers: every string is interned once, in a table that cannot grow without bound.

A string lives as long as a pattern uses it. When CONTEXT_STRINGS_MAX different ones are in use, a delta that brings
another is refused before anything of it is applied. Owned by the shard.
"""

import numpy as np
import numpy.typing as npt

from constellation.errors import ShardFull
from constellation.limits import CONTEXT_STRINGS_MAX, GENRE_HINTS_MAX, RETRY_AFTER_S
from constellation.model import Context

WORDS = 3 + GENRE_HINTS_MAX
"""time_of_day, day_of_week, content_type and the genre hints; 0 = no such hint."""
_REMEMBERED_MAX = 100_000

Words = npt.NDArray[np.uint16]


class ContextTable:
    """Strings by number and back, counted by use. Number 0 stands for no string."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._strings: list[str | None] = [None]
        self._uses: list[int] = [0]
        self._free: list[int] = []
        self._remembered: dict[bytes, Context] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def intern(self, context: Context) -> Words:
        """Words (11,) uint16 of the context, each counted once more. Raises ShardFull with nothing counted."""
        strings = (context.time_of_day, context.day_of_week, context.content_type, *context.genre_hints)
        words = np.zeros(WORDS, np.uint16)
        for place, string in enumerate(strings):
            number = self._numbers.get(string)
            if number is None:
                number = self._enter(string)
                if number is None:
                    self.release(words)
                    raise ShardFull(
                        f"{CONTEXT_STRINGS_MAX - 1} different context strings are in use, no other can be taken",
                        retry_after_s=RETRY_AFTER_S,
                    )
            self._uses[number] += 1
            words[place] = number
        return words

    def intern_many(self, contexts: list[Context]) -> Words:
        """Words (n, 11) uint16 of n contexts, most of them the same objects. Raises ShardFull with nothing counted."""
        numbers: dict[int, int] = {}
        number_of = np.array([numbers.setdefault(id(context), len(numbers)) for context in contexts], np.int64)
        distinct = list({id(context): context for context in contexts}.values())
        words = np.zeros((len(distinct), WORDS), np.uint16)
        try:
            for number, context in enumerate(distinct):
                words[number] = self.intern(context)
        except ShardFull:
            for taken in words:
                self.release(taken)
            raise
        for line, times in zip(words.tolist(), np.bincount(number_of).tolist(), strict=True):
            for number in line:
                self._uses[number] += times - 1
        every: Words = words[number_of]
        return every

    def release(self, words: Words) -> None:
        """Count each word once less; a string that nobody uses any more leaves the table."""
        for number in words.tolist():
            if number:
                self._uses[number] -= 1
                if not self._uses[number]:
                    self._leave(number)

    def string(self, number: int) -> str:
        """What is in use under a number."""
        return self._strings[number] or ""

    def context(self, words: Words) -> Context:
        """The context that was interned as these words."""
        return self.contexts(words.reshape(1, WORDS))[0]

    def contexts(self, words: Words) -> list[Context]:
        """The contexts that were interned as these words (n, 11)."""
        remembered = self._remembered
        keys = words.view(f"V{2 * WORDS}").ravel().tolist()
        return [remembered.get(key) or self._build(key) for key in keys]

    def _build(self, key: bytes) -> Context:
        numbers = np.frombuffer(key, np.uint16).tolist()
        time_of_day, day_of_week, content_type, *hints = (self._strings[number] or "" for number in numbers)
        context = Context(time_of_day, day_of_week, content_type, tuple(hints[: np.count_nonzero(numbers[3:])]))
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[key] = context
        return context

    def _enter(self, string: str) -> int | None:
        if self._free:
            number = self._free.pop()
            self._strings[number] = string
        elif len(self._strings) < CONTEXT_STRINGS_MAX:
            number = len(self._strings)
            self._strings.append(string)
            self._uses.append(0)
        else:
            return None
        self._numbers[string] = number
        return number

    def _leave(self, number: int) -> None:
        string = self._strings[number]
        assert string is not None
        del self._numbers[string]
        self._strings[number] = None
        self._free.append(number)
        self._remembered.clear()

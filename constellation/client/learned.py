"""What one TV learned itself, and what of it the shard does not know yet. No I/O.

A pattern goes up once it is good enough, then only as changes; one that falls below the threshold, or is forgotten, is
taken back. The shard counts as knowing a delta only after `settle`: a delta that was lost is prepared again.
Received patterns never enter here, so that they can never be uploaded.
"""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from constellation.limits import ADDED_PER_DELTA_MAX, CHANGED_PER_DELTA_MAX, SAMPLE_COUNT_MAX
from constellation.model import DIM, ID_BYTES, Context, Delta, PatternBatch, RateUpdates
from kernels import codes

QUALITY_MIN = np.float32(0.7)
"""A pattern with a lower success rate stays on the TV; the shard would not store it."""
SAMPLES_MIN = 10
"""A pattern seen less often is not yet worth telling."""


class Pattern(msgspec.Struct):
    """One pattern of this TV. `edition` is `Learned`'s: a replaced embedding or context is another edition."""

    code: npt.NDArray[np.int8]
    rate: float
    count: int
    context: Context
    created_at: int
    updated_at: int
    edition: int = 0
    refused: bool = False

    def good_enough(self) -> bool:
        return bool(np.float32(self.rate) >= QUALITY_MIN) and self.count >= SAMPLES_MIN and not self.refused

    def told(self) -> "Told":
        return Told(self.rate, self.count, self.edition)


class Told(NamedTuple):
    """What the shard knows of a pattern."""

    rate: float
    samples: int
    edition: int


class Changes(NamedTuple):
    """The ids of one delta, in its order, with what the shard knows once it has applied it."""

    added: dict[bytes, Told]
    updated: dict[bytes, Told]
    removed: list[bytes]

    def __bool__(self) -> bool:
        return bool(self.added or self.updated or self.removed)


class Learned:
    """The patterns of one TV by id."""

    def __init__(self) -> None:
        self.patterns: dict[bytes, Pattern] = {}
        self._told: dict[bytes, Told] = {}
        self._editions = 0

    def put(self, pattern_id: bytes, pattern: Pattern) -> None:
        """A new pattern, or an own one whose embedding or context changed: it goes up whole."""
        assert len(pattern_id) == ID_BYTES and pattern.code.shape == (DIM,)
        self._editions += 1
        pattern.edition = self._editions
        self.patterns[pattern_id] = pattern

    def observe(self, pattern_id: bytes, success_rate: float, samples: int, now: int) -> None:
        """Fold in `samples` more uses of a pattern, of which a share `success_rate` was liked."""
        pattern = self.patterns[pattern_id]
        pattern.rate = (pattern.rate * pattern.count + success_rate * samples) / (pattern.count + samples)
        pattern.count = min(pattern.count + samples, SAMPLE_COUNT_MAX)
        pattern.updated_at = now
        pattern.refused = False

    def forget(self, pattern_id: bytes) -> None:
        del self.patterns[pattern_id]

    def changes(self, added_max: int = ADDED_PER_DELTA_MAX, changed_max: int = CHANGED_PER_DELTA_MAX) -> Changes:
        """What the shard should hear next, heaviest patterns first; what is over the limits waits."""
        good = {key: pattern for key, pattern in self.patterns.items() if pattern.good_enough()}
        added: list[bytes] = []
        updated: list[bytes] = []
        for key in sorted(good, key=lambda key: good[key].rate * good[key].count, reverse=True):
            told, pattern = self._told.get(key), good[key]
            if told is None or told.edition != pattern.edition:
                added.append(key)
            elif pattern.count > told.samples:
                updated.append(key)
            elif pattern.rate != told.rate:  # the count is at its end: no update says this, the whole pattern does
                added.append(key)
        removed = [key for key in self._told if key not in good][:changed_max]
        updated = updated[: changed_max - len(removed)]
        return Changes(
            {key: good[key].told() for key in added[:added_max]}, {key: good[key].told() for key in updated}, removed
        )

    def delta(self, changes: Changes, local_version: int | None, sequence: int) -> Delta:
        """The wire's form of `changes`."""
        updates = [(key, self._told[key], told) for key, told in changes.updated.items()]
        return Delta(
            added=self._batch(list(changes.added)),
            updated=RateUpdates(
                ids=_ids([key for key, _, _ in updates]),
                rates=np.array([_rate_between(before, after) for _, before, after in updates], np.float32),
                samples=np.array([after.samples - before.samples for _, before, after in updates], np.uint32),
            ),
            removed=_ids(changes.removed),
            local_version=local_version,
            sequence=sequence,
            fingerprint=0,
        )

    def settle(self, changes: Changes, *, rejected: int) -> None:
        """The shard has applied `changes`. If it rejected some, it lost patterns it had (evicted, or restored from an
        older copy) and does not say which: the updated ones go up whole next time."""
        for key in changes.removed:
            self._told.pop(key, None)
        self._told.update(changes.added)
        if not rejected:
            self._told.update(changes.updated)
        else:
            for key in changes.updated:
                del self._told[key]

    def refuse(self, pattern_id: bytes) -> None:
        """The shard will not have this pattern: it stays here until it changes."""
        if pattern_id in self.patterns:  # it may have been forgotten while its delta was under way
            self.patterns[pattern_id].refused = True

    def _batch(self, keys: list[bytes]) -> PatternBatch:
        patterns = [self.patterns[key] for key in keys]
        return PatternBatch(
            ids=_ids(keys),
            codes=np.array([pattern.code for pattern in patterns], np.int8).reshape(-1, DIM),
            rates=np.array([pattern.rate for pattern in patterns], np.float32),
            counts=np.array([pattern.count for pattern in patterns], np.uint32),
            created_at=np.array([pattern.created_at for pattern in patterns], np.int64),
            updated_at=np.array([pattern.updated_at for pattern in patterns], np.int64),
            contexts=[pattern.context for pattern in patterns],
        )


def quantise(embedding: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """The (384,) int8 code of one embedding. ValueError unless it has 384 finite numbers, not all zero."""
    vector = np.array(embedding, np.float32).reshape(1, -1)
    if vector.shape[1] != DIM or codes.check_vectors(vector) >= 0:
        raise ValueError(f"embedding: expected {DIM} finite numbers, not all zero, got {vector.shape[1]}")
    code: npt.NDArray[np.int8] = codes.quantise(vector)[0]
    return code


def _rate_between(before: Told, after: Told) -> float:
    """The success rate of the samples that came since `before`: what turns the shard's rate into `after.rate`."""
    samples = after.samples - before.samples
    return min(max((after.rate * after.samples - before.rate * before.samples) / samples, 0.0), 1.0)


def _ids(keys: list[bytes]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, ID_BYTES)

"""How many devices of a bucket have which strings in their contexts, over all shards, and which of them are told."""

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from constellation.federation.noise import Noising, expected_sources
from constellation.federation.terms import RoundTerms
from constellation.limits import GENRE_HINTS_MAX
from constellation.model import Context
from constellation.rounds import CONTENT_TYPE, DAY_OF_WEEK, GENRE_HINT, TIME_OF_DAY, ContextCounts

_PLACES = GENRE_HINT + 1
_STRINGS_MAX = 1 << 29


class ContextTally:
    """Grows with the distinct (bucket, place, string), not with the shards."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._keys = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)
        self._sources = np.empty(0, np.int64)

    def add(self, given: ContextCounts) -> None:
        """Those of one more shard, checked."""
        numbers = [self._numbers.setdefault(string, len(self._numbers)) for string in given.strings]
        keys = packed(given.buckets, given.places, np.array(numbers, np.int64)[given.string_of])
        self._keys, place_of = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        self._counts = _summed(place_of, self._counts, given.counts)
        self._sources = _summed(place_of, self._sources, np.ones(len(given), np.int64))

    def add_noise(self, noising: Noising, shards: int) -> None:
        self._counts = noising.strings(self._counts)
        self._sources = expected_sources(self._counts, shards)

    def contexts(self, buckets: list[int], terms: RoundTerms) -> list[Context]:
        """For each bucket the strings that most devices have, the first by name of equals; '' where none is backed."""
        backed = terms.backed(self._sources, self._counts, len(terms.shards))
        strings = list(self._numbers)
        ranked: defaultdict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
        where, string_of = np.divmod(self._keys[backed], _STRINGS_MAX)
        for at, string, count in zip(where.tolist(), string_of.tolist(), self._counts[backed].tolist(), strict=True):
            ranked[divmod(at, _PLACES)].append((-count, strings[string]))

        def best(bucket: int, place: int, limit: int) -> tuple[str, ...]:
            return tuple(string for _, string in sorted(ranked[bucket, place])[:limit])

        def first(bucket: int, place: int) -> str:
            return "".join(best(bucket, place, 1))

        return [
            Context(
                time_of_day=first(bucket, TIME_OF_DAY),
                day_of_week=first(bucket, DAY_OF_WEEK),
                content_type=first(bucket, CONTENT_TYPE),
                genre_hints=best(bucket, GENRE_HINT, GENRE_HINTS_MAX),
            )
            for bucket in buckets
        ]


def packed(
    buckets: npt.NDArray[np.int32], places: npt.NDArray[np.uint8], strings: npt.NDArray[np.generic]
) -> npt.NDArray[np.int64]:
    """(n,) one number for each bucket, place and number of a string."""
    return (buckets.astype(np.int64) * _PLACES + places) * _STRINGS_MAX + strings.astype(np.int64)


def _summed(
    place_of: npt.NDArray[np.intp], mine: npt.NDArray[np.int64], theirs: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """(n,) sums of both at the places they go to."""
    sums = np.zeros(int(place_of.max(initial=-1)) + 1, np.int64)
    np.add.at(sums, place_of, np.concatenate([mine, theirs]))
    return sums

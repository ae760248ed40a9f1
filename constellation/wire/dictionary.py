"""The zstd dictionaries of deltas and replies: field names, common words and the statistics of int8, known beforehand.

A frame names the dictionary it was made with (RFC 8878, section 5), so its id is its version. Files are
`constellation/dictionaries/<id>.zdict`; one that has shipped never changes and stays, for TVs that have no newer one.
Used by `wire.body`, the client and the API.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import xxhash
import zstandard

from constellation.limits import DICTIONARY_BYTES_MAX

NO_DICTIONARY = 0
"""What a frame without one names."""
FIRST_ID = 32_769
"""Smaller ids are reserved for public dictionaries (RFC 8878, section 3.1.1.1.3)."""
LAST_ID = 65_535
"""Up to here an id takes two bytes of a frame."""

_FOLDER = Path(__file__).parents[1] / "dictionaries"


@functools.cache
def packaged() -> Mapping[int, bytes]:
    """Of every dictionary that this release knows its file by its id, the oldest first."""
    files = {int(path.stem): path.read_bytes() for path in _FOLDER.glob("*.zdict")}
    return {number: files[number] for number in sorted(files)}


def newest() -> int:
    """The id of the one that a new client uses."""
    return max(packaged())


def checksum(content: bytes) -> str:
    """What tells a dictionary's bytes from those of any other: 16 hex digits of xxh64."""
    return xxhash.xxh64_hexdigest(content)


def train(samples: Sequence[bytes], dictionary_id: int) -> bytes:
    """A dictionary for bodies like these, the same for the same samples and release of zstd: COVER (Liao, Petri, Moffat
    and Wirth, WWW 2016) with the parameters that compress them best."""
    assert FIRST_ID <= dictionary_id <= LAST_ID
    return zstandard.train_dictionary(DICTIONARY_BYTES_MAX, list(samples), dict_id=dictionary_id, level=1).as_bytes()

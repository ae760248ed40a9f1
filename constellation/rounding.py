"""What a compact reply rounds: success rate and sample count to a byte, times to a day (docs/compact.md, Numbers).

Rounding what was rounded changes nothing, and it depends on nothing else in the reply: so a pattern that did not change
is the same in every compact list, and shard and TV agree on its digest. Pure functions of columns.
"""

import numpy as np
import numpy.typing as npt

from constellation.digest import answer_digest
from constellation.limits import DAY_S
from constellation.model import ID_BYTES, Ids

Bytes = npt.NDArray[np.uint8]

RATE_MAX = 255
DAY_MAX = 0xFFFF
COUNT_CODE_MAX = 143
"""That of 983,040."""
_EXACT = 8
"""Counts below this one are their own code; from here on four significant bits are kept."""


def _count_of(code: int) -> int:
    exponent, rest = divmod(code, _EXACT)
    return code if exponent == 0 else (_EXACT + rest) << (exponent - 1)


_COUNTS = np.array([_count_of(code) for code in range(COUNT_CODE_MAX + 1)], np.uint32)
_MIDDLES = (_COUNTS[:-1] + _COUNTS[1:]) / 2


def rate_bytes(rates: npt.NDArray[np.float32]) -> Bytes:
    """Success rates (n,) 0..1 in 255ths."""
    rounded: Bytes = np.rint(rates * np.float32(RATE_MAX)).astype(np.uint8)
    return rounded


def rates_of(rounded: Bytes) -> npt.NDArray[np.float32]:
    """Back to (n,) float32."""
    return rounded.astype(np.float32) / np.float32(RATE_MAX)


def count_bytes(counts: npt.NDArray[np.uint32]) -> Bytes:
    """Sample counts (n,) 1..1,000,000: up to 6% off."""
    return np.searchsorted(_MIDDLES, counts, side="right").astype(np.uint8)


def counts_of(rounded: Bytes) -> npt.NDArray[np.uint32]:
    """Back to (n,) uint32; codes are 1..COUNT_CODE_MAX."""
    return _COUNTS[rounded]


def days(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Unix seconds (n,) as days since 1970, the last of which has no end."""
    return np.minimum(times // DAY_S, DAY_MAX)


def ids_of(handles: Bytes) -> Ids:
    """What patterns go by that have only a handle (n,): 15 bytes of 0, and the handle."""
    ids = np.zeros((len(handles), ID_BYTES), np.uint8)
    ids[:, -1] = handles
    return ids


def compact_digest(
    handles: Bytes,
    rates: npt.NDArray[np.float32],
    counts: npt.NDArray[np.uint32],
    updated_at: npt.NDArray[np.int64],
) -> str:
    """The digest of a list as a compact reply tells it."""
    rounded = rates_of(rate_bytes(rates)), counts_of(count_bytes(counts)), days(updated_at) * DAY_S
    return answer_digest(ids_of(handles), *rounded)

"""What a compact reply rounds: success rate and sample count to a byte, times to a day (docs/compact.md, Numbers).

Rounding what was rounded changes nothing, and it depends on nothing else in the reply: so a pattern that did not change
is the same in every compact list, and shard and TV agree on its digest. Pure functions of columns.
"""

import numpy as np
import numpy.typing as npt

from constellation.digest import answer_digest
from constellation.limits import DAY_S
from constellation.model import ID_BYTES, Ids
from kernels.blocks import COUNTS, DAY_MAX, RATE_MAX, round_counts, round_rates

Bytes = npt.NDArray[np.uint8]


def rate_bytes(rates: npt.NDArray[np.float32]) -> Bytes:
    """Success rates (n,) 0..1 in 255ths."""
    return round_rates(rates)


def rates_of(rounded: Bytes) -> npt.NDArray[np.float32]:
    """Back to (n,) float32."""
    return rounded.astype(np.float32) / np.float32(RATE_MAX)


def count_bytes(counts: npt.NDArray[np.uint32]) -> Bytes:
    """Sample counts (n,) 1..1,000,000: up to 6% off."""
    return round_counts(counts)


def counts_of(rounded: Bytes) -> npt.NDArray[np.uint32]:
    """Back to (n,) uint32; codes are 1..COUNT_CODE_MAX."""
    return COUNTS[rounded]


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

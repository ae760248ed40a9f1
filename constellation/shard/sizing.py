"""How much memory a shard needs when it is as full as its settings allow. Checked by `cli` before anything starts."""

from constellation.codebook import SIZE_MAX
from constellation.config import Settings
from constellation.limits import CONTENT_ITEMS_MAX, GENRE_TRENDS_MAX
from constellation.model import DIM
from constellation.shard import best_known, buckets, cursors, devices, patterns, quantising, rankings, similarity
from kernels.trends import HOURS

_CODEBOOKS = 2
"""In use at once, at most."""
BYTES_PER_PATTERN = (
    patterns.BYTES_PER_PATTERN
    + similarity.BYTES_PER_PATTERN
    + best_known.BYTES_PER_PATTERN
    + _CODEBOOKS * (buckets.BYTES_PER_PATTERN + quantising.BYTES_PER_PATTERN)
)
BYTES_PER_CURSOR = cursors.BYTES_PER_CURSOR + rankings.BYTES_PER_CURSOR
BYTES_PER_DEVICE = devices.BYTES_PER_DEVICE + cursors.BYTES_PER_DEVICE
_BYTES_PER_CONTENT_ITEM = 2 * DIM + 600
"""Code, graph node and the Python objects of one title."""
_BYTES_PER_TREND = 4 * HOURS + 8 + 1
_BYTES_PROCESS = 300 << 20
"""Interpreter, libraries, compiled kernels."""


def memory_bytes(settings: Settings) -> int:
    """Bytes of a full shard, everything in."""
    return (
        settings.max_patterns * BYTES_PER_PATTERN
        + settings.max_devices * BYTES_PER_DEVICE
        + min(settings.max_cursors, settings.max_devices) * BYTES_PER_CURSOR
        + CONTENT_ITEMS_MAX * (_BYTES_PER_CONTENT_ITEM + _BYTES_PER_TREND)
        + GENRE_TRENDS_MAX * _BYTES_PER_TREND
        + similarity.BYTES_OF_ARRIVALS
        + _CODEBOOKS * buckets.sums_bytes(SIZE_MAX)
        + _BYTES_PROCESS
    )

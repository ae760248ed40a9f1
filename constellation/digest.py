"""The digest of a list of patterns: how a TV proves that its list is the one the shard meant.

A pure function of the set of patterns, whatever their order. The shard computes it over an answer, the client over
what it decoded; neither embeddings nor contexts enter it (an id with its rate, count and time is a revision).
"""

import numpy as np
import numpy.typing as npt
import xxhash

from constellation.model import ID_BYTES, Ids
from kernels.records import RECORD_BYTES, sort_records

# One record, little-endian and packed: the id comes first, so that sorting the bytes sorts by id, then by revision.
_RECORD = np.dtype([("id", "u1", ID_BYTES), ("rate", "<f4"), ("count", "<u4"), ("updated_at", "<u8")])

assert _RECORD.itemsize == RECORD_BYTES


def answer_digest(
    ids: Ids,
    rates: npt.NDArray[np.float32],
    counts: npt.NDArray[np.uint32],
    updated_at: npt.NDArray[np.int64],
) -> str:
    """xxh64, as 16 hex digits, of the sorted 32-byte records of n patterns; columns as in `model.PatternBatch`.

    A record is id (16 bytes) || success_rate f32 || sample_count u32 || updated_at u64, all little-endian, and
    records are sorted as unsigned bytes. Costs 8 us for 100 patterns.
    """
    records = np.empty(len(ids), _RECORD)
    records["id"] = ids
    records["rate"] = rates
    records["count"] = counts
    records["updated_at"] = updated_at
    ordered = sort_records(records.view(np.uint8).reshape(-1, RECORD_BYTES))
    return xxhash.xxh64_hexdigest(ordered.data if len(ordered) else b"")

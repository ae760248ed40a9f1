"""The words of the system as types: what a TV sends, what a shard answers.

Arrays, not objects per pattern: a delta or a reply is a handful of NumPy columns, decoded once at the edge and
never converted again. Everything in here is already validated: `wire` refuses what is not, inner code trusts.
Used by every package; imports nothing of ours.
"""

from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

DIM = 384
"""Dimensions of an embedding (all-MiniLM-L6-v2)."""
ID_BYTES = 16
"""Bytes of a UUID, in RFC 9562 order."""
GENRE_PREFIX = "genre:"
"""How the content id of a genre's trend begins; no title may have such an id."""
VERSION_MAX = 2**53 - 1
"""Largest global version and sequence: exact in every JSON reader."""

Codes = npt.NDArray[np.int8]
"""(n, 384) int8 codes: rint of the raw vector x 127 / max|v|. Only the direction counts."""
Ids = npt.NDArray[np.uint8]
"""(n, 16) uint8: UUIDs as bytes."""
Rows = npt.NDArray[np.int32]
"""(n,) int32: rows of the pattern columns."""

Residuals = npt.NDArray[np.uint8]
"""(n, 30) uint8: what of an embedding its centroid in the codebook leaves (`constellation.residuals`)."""

EmbeddingFormat = Literal["f32", "f16", "i8"]
ReplyFormat = EmbeddingFormat | Literal["compact"]


class Context(msgspec.Struct, frozen=True, gc=False):
    """When and what was watched. Strings of at most 32 bytes, at most 8 genre hints."""

    time_of_day: str
    day_of_week: str
    content_type: str
    genre_hints: tuple[str, ...]


class PatternBatch(msgspec.Struct):
    """n patterns as columns: the added ones of a delta, or the similar ones of a reply.

    Shapes: ids (n, 16) uint8, codes (n, 384) int8, rates (n,) float32 in 0..1, counts (n,) uint32 in 1..1,000,000,
    created_at and updated_at (n,) int64 unix seconds, contexts a list of n.
    """

    ids: Ids
    codes: Codes
    rates: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint32]
    created_at: npt.NDArray[np.int64]
    updated_at: npt.NDArray[np.int64]
    contexts: list[Context]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: npt.NDArray[np.int64]) -> "PatternBatch":
        """The patterns at places (m,), in their order."""
        return PatternBatch(
            ids=self.ids[places],
            codes=self.codes[places],
            rates=self.rates[places],
            counts=self.counts[places],
            created_at=self.created_at[places],
            updated_at=self.updated_at[places],
            contexts=[self.contexts[place] for place in places.tolist()],
        )


class RateUpdates(msgspec.Struct):
    """m changes of rates: ids (m, 16) uint8, rates (m,) float32 in 0..1, samples (m,) uint32 in 1..1,000,000."""

    ids: Ids
    rates: npt.NDArray[np.float32]
    samples: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.ids)


class Delta(msgspec.Struct):
    """What one device learned since its last sync. `fingerprint` is a 64-bit hash of the decoded content: two
    deltas with one sequence are the same delta only if it agrees."""

    added: PatternBatch
    updated: RateUpdates
    removed: Ids
    local_version: int | None
    sequence: int | None
    fingerprint: int

    def __len__(self) -> int:
        """How many patterns it names."""
        return len(self.added) + len(self.updated) + len(self.removed)


class SyncRequest(msgspec.Struct):
    """A decoded sync. One that does not register leaves a device that is not known unknown; its delta is empty."""

    device_id: bytes
    delta: Delta
    registers: bool = True


class SyncOptions(msgspec.Struct, frozen=True):
    """What of the answer the device wants: counts, how embeddings are encoded, and its codebook's version or 0."""

    similar: int
    trending: int
    embedding: ReplyFormat
    codebook: int = 0


class Accepted(msgspec.Struct):
    """What became of a delta, pattern by pattern."""

    added: int = 0
    filtered: int = 0
    evicted: int = 0
    updated: int = 0
    removed: int = 0
    rejected: int = 0
    duplicate: bool = False


class Applied(msgspec.Struct):
    """The outcome of `Shard.apply`."""

    accepted: Accepted
    last_sequence: int | None
    global_version: int


class Trend(msgspec.Struct, frozen=True, gc=False):
    """One trending item of a region; the score is its share of the region's highest, 0..1."""

    content_id: str
    trending_score: float
    region: str


class Backing(NamedTuple):
    """What stands behind a prototype: quality 0..1 (`rounds.Prototypes`), distinct shards, distinct devices."""

    quality: float
    source_count: int
    device_count: int


class Quantised(NamedTuple):
    """n embeddings by a codebook, which 4 bytes tell from others: numbers of centroids (n,), residuals (n, 30)."""

    stamp: bytes
    numbers: Rows
    residuals: Residuals

    def take(self, places: npt.NDArray[np.int64]) -> "Quantised":
        """Those at places (m,), in their order."""
        return Quantised(self.stamp, self.numbers[places], self.residuals[places])


class Answer(msgspec.Struct):
    """What a device learns from the others: `Shard.answer`.

    `reset`: the n patterns of `similar` are the whole list; else what is new or changed in the one that the device has.
    handles (n,) uint8: the number of each in the device's list, the same until it is gone or the list is reset.
    whole (n,) bool: new, or written anew, to be told with its embedding; else only rate, count and time changed.
    gone (m,) uint8: handles of what the device shall drop. removed (k, 16) uint8: their ids, without those that
    `similar` has whole: such a pattern takes the place of all that the device has of its id.
    trending: None if it is the list that the device has. digest: of the whole list of patterns (docs/architecture.md).
    prototypes: which places of `similar` hold a prototype, and what backs it; the others hold a device's pattern.
    quantised: the embeddings of `similar`, if the reply is to be compact; the digest is that of a compact list then.
    """

    similar: PatternBatch
    trending: list[Trend] | None
    global_version: int
    digest: str
    reset: bool
    handles: npt.NDArray[np.uint8]
    whole: npt.NDArray[np.bool_]
    gone: npt.NDArray[np.uint8]
    removed: Ids
    prototypes: dict[int, Backing] = {}
    quantised: Quantised | None = None


class NextSync(msgspec.Struct, frozen=True, gc=False):
    """The device draws its next sync uniformly from [after_s, after_s + within_s]."""

    after_s: int
    within_s: int


class ContentItem(msgspec.Struct):
    """One title that trends may name: code (384,) int8, metadata as posted (genre, year, duration_min or None)."""

    content_id: str
    title: str
    code: npt.NDArray[np.int8]
    metadata: dict[str, Any] | None


class ShardStats(msgspec.Struct):
    """Counts of one shard's state, all measured at the time of the call."""

    total_devices: int
    active_devices: int
    patterns_stored: int
    patterns_served: int
    content_items: int
    global_version: int
    index_lists: int
    prototypes: int
    """Of the last round, that devices may get."""
    bytes_resident: int

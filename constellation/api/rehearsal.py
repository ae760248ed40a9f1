"""Every path of a sync, walked once on a small shard that is thrown away, before a port opens.

`kernels.warm` knows the kernels; this makes sure that nothing between socket and reply is left to load or compile
in somebody's request, whatever combination of types a caller brings. About 0.1 s with filled caches.
"""

import msgspec
import numpy as np

from constellation.api.admission import next_sync_at
from constellation.config import Settings
from constellation.model import (
    DIM,
    ID_BYTES,
    Accepted,
    Applied,
    Codes,
    ContentItem,
    Context,
    Delta,
    EmbeddingFormat,
    PatternBatch,
    RateUpdates,
    SyncOptions,
)
from constellation.shard import Shard
from constellation.wire.body import compress, decompress
from constellation.wire.content import decode_content, encode_content
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta
from constellation.wire.sync import decode_sync, encode_sync, noise_bytes

DEVICES = 8
PATTERNS_PER_DEVICE = 32

_FORMS: tuple[EmbeddingFormat, ...] = ("f32", "f16", "i8")
_NOW = 1_760_000_000.0


def rehearse(settings: Settings) -> None:
    """Content, syncs of a few devices, upkeep, forgetting."""
    shard = Shard(
        msgspec.structs.replace(
            settings,
            max_devices=2 * DEVICES,
            max_patterns=2 * DEVICES * PATTERNS_PER_DEVICE,
            max_patterns_per_device=PATTERNS_PER_DEVICE,
        )
    )
    rng = np.random.default_rng(0)
    for media in Media:
        _post_content(shard, media, _codes(rng, 1))
    for device in range(DEVICES):
        _sync(shard, device.to_bytes(ID_BYTES), rng, list(Media)[device % len(Media)])
    while shard.maintain():
        pass
    for media in Media:
        _answer_compact(shard, media)
    shard.trending(1, _NOW)
    shard.stats(_NOW)
    shard.forget(bytes(ID_BYTES), _NOW)


def _post_content(shard: Shard, media: Media, codes: Codes) -> None:
    for form in _FORMS:
        item = ContentItem("rehearsal", "Rehearsal", codes[0], None)
        shard.put_content(decode_content(encode_content(item, media, form), media), _NOW)


def _sync(shard: Shard, device_id: bytes, rng: np.random.Generator, media: Media) -> None:
    for form in _FORMS:
        body = compress(encode_delta(device_id, _delta(rng), media, form))
        request = decode_sync(decompress(body, "zstd", 1 << 24), media)
        applied = shard.apply(request, _NOW)
        answer = shard.answer(device_id, SyncOptions(similar=100, trending=50, embedding=form))
        compress(encode_sync(answer, applied, next_sync_at(0.0), media, form))


def _answer_compact(shard: Shard, media: Media) -> None:
    options = SyncOptions(similar=100, trending=50, embedding="compact", codebook=shard.codebook_version)
    answer = shard.answer(bytes(ID_BYTES), options)
    applied = Applied(Accepted(), None, answer.global_version)
    compress(encode_sync(answer, applied, next_sync_at(0.0), media, "compact"), noise_bytes=noise_bytes(answer, media))


def _delta(rng: np.random.Generator) -> Delta:
    n = PATTERNS_PER_DEVICE
    ids = rng.integers(0, 256, (n, ID_BYTES), np.uint8)
    added = PatternBatch(
        ids=ids,
        codes=_codes(rng, n),
        rates=np.full(n, 0.9, np.float32),
        counts=np.full(n, 10, np.uint32),
        created_at=np.zeros(n, np.int64),
        updated_at=np.zeros(n, np.int64),
        contexts=[Context("evening", "weekend", "movie", ("rehearsal",))] * n,
    )
    updated = RateUpdates(ids[:2], np.full(2, 0.8, np.float32), np.full(2, 5, np.uint32))
    return Delta(added, updated, ids[2:4], local_version=0, sequence=None, fingerprint=0)


def _codes(rng: np.random.Generator, n: int) -> Codes:
    codes = rng.integers(-127, 128, (n, DIM)).astype(np.int8)
    codes[:, 0] = 127
    return codes

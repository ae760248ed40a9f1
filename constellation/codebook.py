"""The codebook: K unit centroids over the embedding space, the same on every shard. A pattern's nearest is its bucket.

A file, little-endian: magic, format, version and number of sections; then of each section its name, its length and its
bytes; then xxh64 of all before. Sections that a reader does not know are kept as they are, so that more can be said of
the same centroids later. Immutable: other centroids are another version. Used by the shard, the federation, the API and
the commands; `constellation/codebooks/` has the one that ships.
"""

import functools
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from constellation.model import DIM, VERSION_MAX, Codes, Rows
from kernels.centroids import Coarse, coarsen, nearest_centroid, place
from kernels.codes import CODE_MAX, check_codes, inverse_norms
from kernels.kmeans import lloyd, plus_plus

FORMAT = 1
BYTES_MAX = 2_500_000
SIZE_MAX = 4_096
"""Centroids at most: putting the 100 patterns of a delta into buckets takes 30 us each, all in one turn of the loop."""
CENTROIDS = "centroids"
"""The section that every codebook has: codes (K, 384) int8."""
SAMPLES_PER_CENTROID_MIN = 16
ROUNDS_MAX = 20

_PACKAGED = Path(__file__).with_name("codebooks") / "1.bin"
_MAGIC = b"constellation codebook"
_HEAD = struct.Struct("<IQH")
_NAME_BYTES = 16
_SECTION = struct.Struct(f"<{_NAME_BYTES}sI")
_SUM_BYTES = 8

assert SIZE_MAX * DIM < BYTES_MAX


class WrongCodebook(Exception):
    """Bytes that are no codebook of this release, or samples that make none; says what is wrong and what to do."""


class Codebook(msgspec.Struct, frozen=True, eq=False):
    """K centroids, read-only: codes (K, 384) int8, inverse (K,) float32 = 1/|code|; version 1..2^53-1.

    `coarse` is what finds the nearest of them. All its sections by name, the centroids among them: `encode` gives the
    bytes that were decoded.
    """

    version: int
    sections: Mapping[str, bytes]
    codes: Codes
    inverse: npt.NDArray[np.float32]
    coarse: Coarse

    def __len__(self) -> int:
        return len(self.codes)

    def buckets(self, codes: Codes) -> Rows:
        """Bucket (n,) int32, 0..K-1, of each of codes (n, 384). About 7 us each where K is 1,024."""
        return nearest_centroid(codes, self.codes, self.inverse, *self.coarse)

    def place(self, at: Rows, rows: Rows, codes: Codes) -> None:
        """at[row] = 1 + the bucket of codes[row] for those of rows (m,) where at (N,) is 0; codes (N, 384)."""
        place(at, rows, codes, self.codes, self.inverse, *self.coarse)


@functools.cache
def default_codebook() -> Codebook:
    """The one that ships with the package."""
    return load(_PACKAGED)


def load(path: Path) -> Codebook:
    """Raises `WrongCodebook`, also for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        return decode(content)
    except OSError as error:
        raise WrongCodebook(f"cannot read {path}: {error.strerror}") from error
    except WrongCodebook as error:
        raise WrongCodebook(f"{path}: {error}") from error


def encode(codebook: Codebook) -> bytes:
    """At most `BYTES_MAX`."""
    parts = [_MAGIC, _HEAD.pack(FORMAT, codebook.version, len(codebook.sections))]
    for name, section in codebook.sections.items():
        named = name.encode("latin-1")
        assert len(named) <= _NAME_BYTES
        parts += [_SECTION.pack(named, len(section)), section]
    body = b"".join(parts)
    assert len(body) + _SUM_BYTES <= BYTES_MAX
    return body + xxhash.xxh64_digest(body)


def decode(content: bytes) -> Codebook:
    """Raises `WrongCodebook`."""
    if not content.startswith(_MAGIC) or not len(_MAGIC) + _HEAD.size + _SUM_BYTES <= len(content) <= BYTES_MAX:
        raise _damaged(f"{len(content)} bytes from {content[: len(_MAGIC)]!r} on are no codebook")
    body = content[:-_SUM_BYTES]
    if xxhash.xxh64_digest(body) != content[-_SUM_BYTES:]:
        raise _damaged("the codebook is damaged: its checksum is wrong")
    form, version, count = _HEAD.unpack_from(body, len(_MAGIC))
    if form != FORMAT:
        raise _damaged(f"the codebook has format {form}, this release reads {FORMAT}")
    return build(version, _sections(body, count))


def checksum(codebook: Codebook) -> str:
    """What tells its bytes from those of any other: 16 hex digits."""
    return xxhash.xxh64_hexdigest(encode(codebook))


def build(version: int, sections: Mapping[str, bytes]) -> Codebook:
    """A codebook of its parts. Raises `WrongCodebook`."""
    if not 1 <= version <= VERSION_MAX:
        raise _damaged(f"the codebook has version {version}, not one from 1 to {VERSION_MAX}")
    centroids = sections.get(CENTROIDS, b"")
    size, rest = divmod(len(centroids), DIM)
    if rest or not 1 <= size <= SIZE_MAX:
        raise _damaged(f"its centroids are {len(centroids)} bytes, not {DIM} each for 1 to {SIZE_MAX}")
    codes = np.frombuffer(centroids, np.int8).reshape(size, DIM)
    if (zero := check_codes(codes.copy())) >= 0:
        raise _damaged(f"its centroid {zero} is zero")
    if codes.min() < -CODE_MAX:
        raise _damaged(f"its centroid {codes.min(axis=1).argmin()} has a component of {codes.min()}")
    inverse = inverse_norms(codes.copy())
    inverse.setflags(write=False)
    return Codebook(version, dict(sections), codes, inverse, coarsen(codes, inverse))


def train(
    samples: Codes, size: int, version: int, seed: int, advance: Callable[[float], None] = lambda _: None
) -> Codebook:
    """Fit `size` centroids to samples (n, 384) int8, none zero, by spherical k-means; the same for the same seed.

    `advance` is told which share of the work is done. At most `ROUNDS_MAX` rounds of about 10 ns x n x size. Raises
    `WrongCodebook` for too few samples or a size that is not allowed.
    """
    if not 1 <= size <= SIZE_MAX:
        raise WrongCodebook(f"{size:,} centroids; choose 1 to {SIZE_MAX:,}")
    if len(samples) < size * SAMPLES_PER_CENTROID_MIN:
        raise WrongCodebook(
            f"{len(samples):,} samples are too few for {size:,} centroids, which take {SAMPLES_PER_CENTROID_MIN} each: "
            "choose fewer centroids, or sample more shards"
        )
    inverse = inverse_norms(samples)
    rows: list[int] = []
    for row in plus_plus(samples, inverse, size, np.random.default_rng(seed)):
        rows.append(row)
        advance(len(rows) / size / (1 + ROUNDS_MAX))
    codes, nearest = samples[rows], np.empty(0, np.int32)
    for number in range(1, 1 + ROUNDS_MAX):
        made = lloyd(samples, inverse, codes)
        if np.array_equal(made.nearest, nearest):
            break
        codes, nearest = made.centroids, made.nearest
        advance((1 + number) / (1 + ROUNDS_MAX))
    return build(version, {CENTROIDS: codes.tobytes()})


def _sections(body: bytes, count: int) -> dict[str, bytes]:
    """The sections that follow the head. Raises `WrongCodebook` unless they are `count` and fill the body."""
    found: dict[str, bytes] = {}
    at = len(_MAGIC) + _HEAD.size
    while at + _SECTION.size <= len(body):
        padded, size = _SECTION.unpack_from(body, at)
        at += _SECTION.size
        found[padded.rstrip(b"\0").decode("latin-1")] = body[at : at + size]
        at += size
    if at != len(body) or len(found) != count:
        raise _damaged(f"the codebook says {count} sections, and its bytes are not those of so many")
    return found


def _damaged(what: str) -> WrongCodebook:
    return WrongCodebook(f"{what}: copy it again, or train another (`constellation codebook train`)")

"""Bodies that were good, changed: bits, pieces, lengths, depth, and the zstd frame around them; by a seed.

What is inside of a frame is changed as often as the frame is: else nothing would come past the decompression.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import zstandard

from constellation.wire.body import compress
from constellation.wire.dictionary import NO_DICTIONARY, newest

LONG_SHARE = 0.01
LONG_BYTES_MAX, SHORT_BYTES_MAX = 3 << 19, 16 << 10
"""Of a body with repeated pieces: few are over what a shard reads, which takes it long."""
BOMB_BYTES = 64 << 20
HOSTILE = (
    # Arrays, maps, bytes, texts and extensions of msgpack that say they have 4 Gi of it.
    *(head + b"\xff\xff\xff\xff" for head in (b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9")),
    # Its greatest and least numbers, NaN, infinity, and the byte that is nothing.
    *(b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\xcb\x7f\xf8" + bytes(6), b"\xcb\xff\xf0" + bytes(6), b"\xc1"),
    # Numbers of protobuf: lengths of 4 GiB and more, one that does not end, a group, a field 0.
    *(b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x80" * 11, b"\x0b", b"\x02\x00"),
    # Texts of JSON.
    *(b"1e999", b"-0.0", b"NaN", b"9" * 400, b"0." + b"1" * 4_000, b"\\ud800", b"null", b'"', b"]", b"}"),
    *(b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
)
NESTING = (b"[", b"\x91", b'{"a":', b"\x81\xa1a", b"\x0b", b"\x0a\x7f")


class Body(NamedTuple):
    """What is sent: in which form it claims to be, and how compressed ("" by gRPC)."""

    form: str
    encoding: str
    content: bytes


class Mutations:
    """An endless iterator of them."""

    def __init__(self, corpus: Path, forms: Sequence[str], seed: int) -> None:
        read = ((file.name.split(".")[1], file.read_bytes()) for file in sorted(corpus.iterdir()))
        self._good = [(form, content) for form, content in read if form in forms]
        assert {form for form, _ in self._good} == set(forms)
        self._rng = random.Random(seed)
        self._bombs = list(_bombs())
        self._changes: list[Callable[[bytes], bytes]] = [
            *(
                self._flip,
                self._overwrite,
                self._cut,
                self._drop,
                self._repeat,
                self._splice,
                self._hostile,
                self._nest,
            ),
        ]

    def __iter__(self) -> Iterator[Body]:
        while True:
            form, content = self._rng.choice(self._good)
            content = self._changed(content)
            if form in ("json", "msgpack"):
                yield Body(form, *self._encoded(content))
            else:
                yield Body(form, "", content)

    def _changed(self, content: bytes) -> bytes:
        for _ in range(1 + int(self._rng.expovariate(2.0))):
            content = self._rng.choice(self._changes)(content)
        return content

    def _encoded(self, content: bytes) -> tuple[str, bytes]:
        match self._rng.random():
            case draw if draw < 0.4:
                return "identity", content
            case draw if draw < 0.7:
                return "zstd", compress(content, self._rng.choice((NO_DICTIONARY, newest())))
            case draw if draw < 0.95:
                return "zstd", self._changed(self._frame(content))
            case draw if draw < 0.97:
                return "zstd", self._rng.choice(self._bombs)
            case draw if draw < 0.99:
                return "gzip", self._changed(b"\x1f\x8b\x08" + bytes(7) + content[:100])
        return self._rng.choice(("zstd", "br", "zstd, zstd", "")), content

    def _frame(self, content: bytes) -> bytes:
        """As somebody else's library may make it: another level, no size, a checksum, another one behind it."""
        rng = self._rng
        compressor = zstandard.ZstdCompressor(
            level=rng.choice((-5, 1, 9)), write_content_size=rng.random() < 0.5, write_checksum=rng.random() < 0.5
        )
        frame = compressor.compress(content)
        return rng.choice((frame, frame + frame, b"\x50\x2a\x4d\x18\xff\xff\xff\x7f" + frame, frame[:5] + b"\xff" * 8))

    def _place(self, content: bytes) -> int:
        return self._rng.randrange(len(content) + 1)

    def _piece(self, content: bytes) -> bytes:
        start = self._place(content)
        return content[start : start + 1 + int(self._rng.expovariate(1 / 32))]

    def _flip(self, content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(self._rng.randrange(1, 9)):
            if changed:
                changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)

    def _overwrite(self, content: bytes) -> bytes:
        start, piece = self._place(content), self._rng.randbytes(self._rng.randrange(1, 9))
        return content[:start] + piece + content[start + len(piece) :]

    def _cut(self, content: bytes) -> bytes:
        return content[: self._place(content)]

    def _drop(self, content: bytes) -> bytes:
        start, piece = self._place(content), self._piece(content)
        return content[:start] + content[start + len(piece) :]

    def _repeat(self, content: bytes) -> bytes:
        start, piece = self._place(content), self._piece(content)
        bytes_max = LONG_BYTES_MAX if self._rng.random() < LONG_SHARE else SHORT_BYTES_MAX
        times = self._rng.randrange(1 + bytes_max // max(1, len(piece)))
        return content[:start] + piece * times + content[start:]

    def _splice(self, content: bytes) -> bytes:
        other = self._rng.choice(self._good)[1]
        return content[: self._place(content)] + other[self._place(other) :]

    def _hostile(self, content: bytes) -> bytes:
        start, piece = self._place(content), self._rng.choice(HOSTILE)
        return content[:start] + piece + content[start + self._rng.choice((0, 1, len(piece))) :]

    def _nest(self, content: bytes) -> bytes:
        start = self._place(content)
        return content[:start] + self._rng.choice(NESTING) * self._rng.choice((2, 100, 10_000)) + content[start:]


def _bombs() -> Iterator[bytes]:
    """Frames of a few KiB that hold far more than is read: declared, not declared, and with a window as large."""
    content = bytes(BOMB_BYTES)
    yield zstandard.ZstdCompressor().compress(content)
    yield zstandard.ZstdCompressor(write_content_size=False).compress(content)
    windowed = zstandard.ZstdCompressionParameters.from_level(1, window_log=27, write_content_size=False)
    yield zstandard.ZstdCompressor(compression_params=windowed).compress(content)

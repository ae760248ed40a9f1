"""A file of checksummed frames: the form of a backup and of a snapshot.

Magic, the number of the format, frames, and xxh3 (128 bits) of all of that. A frame is its kind, the lengths of its
payload packed and unpacked, xxh64 of these and the payload, and the payload, one zstd frame. The last frame is of kind
`LAST`. Integers are little-endian.

What must fail, as `WrongFile`: a file that is damaged, cut off, longer than written, or of another kind or format.
"""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import xxhash
import zstandard

LAST = 0
"""The kind of the last frame of every file; other kinds are the caller's, 1 to 255."""
PAYLOAD_BYTES_MAX = 1 << 30

_HEAD = struct.Struct("<BII")
_FORMAT = struct.Struct("<I")
_SUM_BYTES, _DIGEST_BYTES = 8, 16

Advance = Callable[[int], None]
"""Told how far it is, in bytes."""


class WrongFile(Exception):
    """The file is not one that was written whole in this form; says what is wrong."""


class Form(NamedTuple):
    """What tells one kind of file from another: how it is called for people, its first bytes, its format number."""

    name: str
    magic: bytes
    format: int

    @property
    def start(self) -> bytes:
        return self.magic + _FORMAT.pack(self.format)


class Frame(NamedTuple):
    kind: int
    content: bytes
    at: int
    """Where it begins in the file, for messages."""


class Writer:
    """Writes one file. `level` is zstd's: negative ones cost next to nothing and leave alone what does not compress."""

    def __init__(self, file: BinaryIO, form: Form, level: int) -> None:
        self._file, self._digest = file, xxhash.xxh3_128()
        self._compressor = zstandard.ZstdCompressor(level=level)
        self._put(form.start)

    def frame(self, kind: int, content: bytes) -> None:
        """Raises OSError."""
        payload = self._compressor.compress(content)
        assert max(len(content), len(payload)) <= PAYLOAD_BYTES_MAX
        head = _HEAD.pack(kind, len(payload), len(content))
        self._put(head + _sum(head, payload))
        self._put(payload)

    def end(self, content: bytes) -> None:
        """The last frame, and the digest. Raises OSError."""
        self.frame(LAST, content)
        self._put(self._digest.digest())

    def _put(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._file.write(piece)


def check(path: Path, form: Form) -> None:
    """Compare every checksum without unpacking anything. Raises `WrongFile`, OSError."""
    for _ in _payloads(path, form):
        pass


def read(path: Path, form: Form, advance: Advance = lambda _: None) -> Iterator[Frame]:
    """The frames; the last one only after the digest of the whole file was compared. Raises `WrongFile`, OSError."""
    decompressor = zstandard.ZstdDecompressor()
    for kind, payload, content_bytes, at, end in _payloads(path, form):
        yield Frame(kind, _unpacked(decompressor, path, payload, content_bytes, at), at)
        advance(end)


class _Payload(NamedTuple):
    kind: int
    payload: bytes
    content_bytes: int
    at: int
    end: int


def _payloads(path: Path, form: Form) -> Iterator[_Payload]:
    with path.open("rb") as file:
        digest, size = xxhash.xxh3_128(), os.fstat(file.fileno()).st_size

        def take(n: int) -> bytes:
            piece = file.read(n) if n <= size - file.tell() else b""
            if len(piece) < n:
                raise WrongFile(f"{path} ends too early: {n} bytes are missing at byte {file.tell()}, it has {size}")
            digest.update(piece)
            return piece

        _check_start(path, form, file.read(len(form.start)))
        digest.update(form.start)
        while (payload := _next_payload(path, file.tell(), take)).kind != LAST:
            yield payload
        found = digest.digest()
        if take(_DIGEST_BYTES) != found:
            raise WrongFile(f"{path} is damaged: the checksum of the whole file does not match")
        if file.tell() != size:
            raise WrongFile(f"{path} is damaged: {size - file.tell()} bytes follow its end")
        yield payload


def _check_start(path: Path, form: Form, start: bytes) -> None:
    if not start.startswith(form.magic):
        raise WrongFile(f"{path} is no {form.name}: it starts with {start[: len(form.magic)]!r}, not {form.magic!r}")
    if start != form.start:
        raise WrongFile(
            f"{path} has format {start[len(form.magic) :].hex()}; this release reads {form.start[-4:].hex()}"
        )


def _next_payload(path: Path, at: int, take: Callable[[int], bytes]) -> _Payload:
    head = take(_HEAD.size)
    kind, packed_bytes, content_bytes = _HEAD.unpack(head)
    expected = take(_SUM_BYTES)
    if max(packed_bytes, content_bytes) > PAYLOAD_BYTES_MAX:
        raise WrongFile(f"{path} is damaged at byte {at}: no frame starts there")
    payload = take(packed_bytes)
    if _sum(head, payload) != expected:
        raise WrongFile(f"{path} is damaged at byte {at}: the checksum of the frame does not match")
    return _Payload(kind, payload, content_bytes, at, at + len(head) + _SUM_BYTES + packed_bytes)


def _unpacked(
    decompressor: zstandard.ZstdDecompressor, path: Path, payload: bytes, content_bytes: int, at: int
) -> bytes:
    try:
        # A frame may declare any size: this much is made at most, whatever it says.
        if zstandard.get_frame_parameters(payload).content_size != content_bytes:
            raise WrongFile(f"{path} is damaged at byte {at}: the frame is not of the size that its head tells")
        return decompressor.decompress(payload, max_output_size=content_bytes)
    except zstandard.ZstdError as error:
        raise WrongFile(f"{path} is damaged at byte {at}: {error}") from error


def _sum(head: bytes, payload: bytes) -> bytes:
    digest = xxhash.xxh64(head)
    digest.update(payload)
    return digest.digest()

"""A file of checksummed frames, the form of a backup and of a snapshot: written whole or not at all, read or refused.

Magic, the number of the format, frames, and xxh3 (128 bits) of all of that. A frame is its head (kind, lengths of the
payload packed and unpacked), xxh64 of the head, the payload (one zstd frame), and xxh64 of both. The last frame is of
kind `LAST`. Integers are little-endian.

Constraints, what must hold:
- Under its name there is a whole file, or the one before; its bytes were on disk before it got the name.
- A size is believed, and memory taken for it, only when its checksum was right and the file is long enough.
What must fail, as `WrongFile`: a file that is damaged, cut off, longer than written, or of another kind or format.
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import xxhash
import zstandard

LAST = 0
"""The kind of the last frame of every file; other kinds are the caller's, 1 to 255."""
PAYLOAD_BYTES_MAX = 1 << 30
SYNCED_BYTES = 16 << 20
"""After so many the file is synced, so that the disk never has much of it to write while a journal's commit waits."""

_HEAD = struct.Struct("<BII")
_FORMAT = struct.Struct("<I")
_SUM_BYTES, _DIGEST_BYTES = 8, 16

Advance = Callable[[int], None]
"""Told how far it is."""


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
    """Writes one file; by `writing`. Any method may be called in another thread, one at a time."""

    def __init__(self, path: Path, descriptor: int, form: Form, level: int) -> None:
        self._path, self._descriptor = path, descriptor
        self._compressor = zstandard.ZstdCompressor(level=level)
        self._digest = xxhash.xxh3_128()
        self._unsynced_bytes = 0
        self._put(form.start)

    def frame(self, kind: int, content: bytes) -> None:
        """Raises OSError."""
        payload = self._compressor.compress(content)
        assert max(len(content), len(payload)) <= PAYLOAD_BYTES_MAX
        head = _HEAD.pack(kind, len(payload), len(content))
        self._put(head + _sum(head))
        self._put(payload)
        self._put(_sum(head, payload))

    def end(self, content: bytes) -> None:
        """The last frame and the digest; once all is on disk the file gets its name. Raises OSError."""
        self.frame(LAST, content)
        self._put(self._digest.digest())
        os.fsync(self._descriptor)
        part_of(self._path).replace(self._path)
        sync_folder(self._path.parent)

    def _put(self, piece: bytes) -> None:
        self._digest.update(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._unsynced_bytes += len(piece)
        if self._unsynced_bytes > SYNCED_BYTES:
            os.fsync(self._descriptor)
            self._unsynced_bytes = 0


@contextmanager
def writing(path: Path, form: Form, level: int) -> Iterator[Writer]:
    """A file that replaces what is at path with `Writer.end`; a block that is left before that leaves nothing of it.

    Its owner alone may read it. `level` is zstd's: negative ones cost next to nothing and leave alone what does not
    compress. Raises OSError.
    """
    descriptor = os.open(part_of(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # also of one that somebody else has left there
        yield Writer(path, descriptor, form, level)
    finally:
        os.close(descriptor)
        part_of(path).unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where the file is while it is written; a process that is killed leaves it there."""
    return path.with_name(f"{path.name}.part")


def sync_folder(folder: Path) -> None:
    """So that the names of the files in it survive a crash of the system. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check(path: Path, form: Form) -> None:
    """Compare every checksum without unpacking anything. Raises `WrongFile`, OSError."""
    for _ in _payloads(path, form):
        pass


def read(path: Path, form: Form, advance: Advance = lambda _: None) -> Iterator[Frame]:
    """The frames; the last one only after the digest of the whole file was compared. Raises `WrongFile`, OSError.

    `advance` is told how many bytes were read.
    """
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
        if file.read(1):
            raise WrongFile(f"{path} is damaged: something follows its end at byte {file.tell() - 1}")
        yield payload


def _check_start(path: Path, form: Form, start: bytes) -> None:
    if not start.startswith(form.magic):
        raise WrongFile(f"{path} is no {form.name}: it starts with {start[: len(form.magic)]!r}, not {form.magic!r}")
    if start != form.start:
        raise WrongFile(
            f"{path} has format {start[len(form.magic) :].hex()}; this release reads {_FORMAT.pack(form.format).hex()}"
        )


def _next_payload(path: Path, at: int, take: Callable[[int], bytes]) -> _Payload:
    head = take(_HEAD.size)
    if take(_SUM_BYTES) != _sum(head):
        raise WrongFile(f"{path} is damaged at byte {at}: the checksum of the frame's head does not match")
    kind, packed_bytes, content_bytes = _HEAD.unpack(head)
    if max(packed_bytes, content_bytes) > PAYLOAD_BYTES_MAX:
        raise WrongFile(f"{path} is damaged at byte {at}: a frame is of {PAYLOAD_BYTES_MAX} bytes at most")
    payload = take(packed_bytes)
    if take(_SUM_BYTES) != _sum(head, payload):
        raise WrongFile(f"{path} is damaged at byte {at}: the checksum of the frame does not match")
    return _Payload(kind, payload, content_bytes, at, at + _HEAD.size + 2 * _SUM_BYTES + packed_bytes)


def _unpacked(
    decompressor: zstandard.ZstdDecompressor, path: Path, payload: bytes, content_bytes: int, at: int
) -> bytes:
    try:
        # A frame may declare any size: this much is made at most, whatever it says.
        if zstandard.get_frame_parameters(payload).content_size != content_bytes:
            raise WrongFile(f"{path} is damaged at byte {at}: the frame is not of the size that its head tells")
        return decompressor.decompress(payload, max_output_size=content_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WrongFile(f"{path} is damaged at byte {at}: {error}") from error


def _sum(*pieces: bytes) -> bytes:
    digest = xxhash.xxh64()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()

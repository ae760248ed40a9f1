"""Compression of bodies: what a hostile one can cost is bounded before the first byte is decompressed.

A body is one zstd frame or one gzip member, whole and with nothing behind it. The output never exceeds the limit by
more than a byte, a zstd window never exceeds `ZSTD_WINDOW_BYTES_MAX`. Called by `api` and by the client.
"""

import threading
import zlib

import zstandard

from constellation.errors import Malformed, Problem, TooLarge, UnknownDictionary, UnsupportedMediaType
from constellation.limits import ZSTD_WINDOW_BYTES_MAX

ZSTD_LEVEL = 1
"""PLACEHOLDER"""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_WBITS = 16 + zlib.MAX_WBITS


class _Contexts(threading.local):
    """zstandard's objects must not be shared by threads, and cost 20 us to make: one pair a thread."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)


_contexts = _Contexts()


def compress(body: bytes) -> bytes:
    """One zstd frame that declares its size."""
    return _contexts.compressor.compress(body)


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body that `Content-Encoding: encoding` holds.

    Raises `TooLarge` over `limit_bytes` of output, `Malformed` for what is not one whole frame, `UnknownDictionary`,
    and `UnsupportedMediaType` for any other encoding, a list of several among them.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body
    if name == "zstd":
        return _decompress_zstd(body, limit_bytes)
    if name in ("gzip", "x-gzip"):
        return _decompress_gzip(body, limit_bytes)
    raise UnsupportedMediaType(f"Content-Encoding: expected identity, zstd or gzip, got {encoding[:80]!r}")


def _decompress_zstd(body: bytes, limit_bytes: int) -> bytes:
    declared_bytes = _check_frame(body, limit_bytes)
    try:
        # A declared size is trusted by zstandard for its buffer, so it was checked; only an undeclared one is
        # bounded by `max_output_size`. A frame that holds another size than it declares fails here.
        return _contexts.decompressor.decompress(body, max_output_size=limit_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        if declared_bytes is None and _streams_over(body, limit_bytes):
            raise _too_large(limit_bytes) from None
        raise Malformed(f"body: expected one whole zstd frame: {error}") from None


def _check_frame(body: bytes, limit_bytes: int) -> int | None:
    """The size that the frame's header declares, None if it does not; refuses what is not worth starting on."""
    if not body.startswith(_ZSTD_MAGIC):  # skippable frames have another magic number
        raise Malformed("body: expected a zstd frame, got other bytes")
    try:
        frame = zstandard.get_frame_parameters(body)
    except zstandard.ZstdError as error:
        raise Malformed(f"body: expected a zstd frame: {error}") from None
    if frame.dict_id:
        raise UnknownDictionary(f"body: zstd dictionary {frame.dict_id} is not known here; send without a dictionary")
    declared_bytes = None if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN else frame.content_size
    if declared_bytes is not None and declared_bytes > limit_bytes:
        raise _too_large(limit_bytes)
    if frame.window_size > ZSTD_WINDOW_BYTES_MAX:
        raise TooLarge(f"body: zstd window of {frame.window_size} bytes, at most {ZSTD_WINDOW_BYTES_MAX} are allowed")
    return declared_bytes


def _streams_over(body: bytes, limit_bytes: int) -> bool:
    """Whether the frame holds more than the limit, or breaks first; zstandard's one error says either."""
    try:
        with _contexts.decompressor.stream_reader(body) as reader:
            return len(reader.read(limit_bytes + 1)) > limit_bytes
    except zstandard.ZstdError:
        return False


def _decompress_gzip(body: bytes, limit_bytes: int) -> bytes:
    member = zlib.decompressobj(_GZIP_WBITS)
    try:
        content = member.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise Malformed(f"body: expected one whole gzip member: {error}") from None
    if len(content) > limit_bytes:
        raise _too_large(limit_bytes)
    if not member.eof:
        raise Malformed("body: expected one whole gzip member, got a truncated one")
    if member.unused_data:
        raise Malformed(f"body: expected one gzip member, got {len(member.unused_data)} more bytes behind it")
    return content


def _too_large(limit_bytes: int) -> Problem:
    return TooLarge(f"body: more than {limit_bytes} bytes after decompression")

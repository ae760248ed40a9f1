"""Compression of bodies: what a hostile one can cost is bounded before the first byte is decompressed.

A body is one zstd frame or one gzip member, whole and with nothing behind it. Decompression stops at the limit (zstd
may run 2 MiB over it first), a window never exceeds `ZSTD_WINDOW_BYTES_MAX`. A zstd frame may name a dictionary that
ships (`wire.dictionary`). Called by `api` and by the client.
"""

import threading
import zlib
from typing import NamedTuple

import zstandard

from constellation.errors import Malformed, Problem, TooLarge, UnknownDictionary, UnsupportedMediaType
from constellation.limits import ZSTD_WINDOW_BYTES_MAX
from constellation.wire.dictionary import NO_DICTIONARY, packaged

ZSTD_LEVEL = 1
"""Measured on film embeddings: 100 int8 patterns (59.5 KB of msgpack) become 38.1 KB in 0.12 ms; levels 2 to 6 save
nothing more, level 3 takes 0.2 ms. Level -1 takes 0.07 ms and 7% more bytes, -3 takes 0.05 ms and 8%: 400 million TVs
pay for those. As JSON f32 (396 KB) they become 103 KB in 1.5 ms; at level -1, 122 KB in 1.4 ms."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 64  # a block of 128 KiB takes at least 4 bytes: a piece becomes 2 MiB at most
_GZIP_WBITS = 16 + zlib.MAX_WBITS


class Body(NamedTuple):
    """What was in a body, and the id of the dictionary it was compressed with."""

    content: bytes
    dictionary: int = NO_DICTIONARY


class _Contexts(threading.local):
    """zstandard's objects must not be shared by threads, and cost some microseconds to make: a pair for each dictionary
    in each thread, the dictionary digested once for all that they do."""

    def __init__(self) -> None:
        self.compressors = {NO_DICTIONARY: zstandard.ZstdCompressor(level=ZSTD_LEVEL)}
        self.decompressors = {NO_DICTIONARY: zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)}
        for number, content in packaged().items():
            digested = zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_FULLDICT)
            digested.precompute_compress(level=ZSTD_LEVEL)
            self.compressors[number] = zstandard.ZstdCompressor(level=ZSTD_LEVEL, dict_data=digested)
            self.decompressors[number] = zstandard.ZstdDecompressor(
                dict_data=digested, max_window_size=ZSTD_WINDOW_BYTES_MAX
            )


_contexts = _Contexts()


def compress(body: bytes, dictionary: int = NO_DICTIONARY, noise_bytes: int = 0) -> bytes:
    """One zstd frame that declares its size, with a dictionary that ships or none.

    What looks random at the end gets a block of its own: literals of a block share one Huffman table (RFC 8878, section
    3.1.1.3.1), and with it the others would not compress either. A compact reply gets 4% smaller, in 8 us more.
    """
    compressor = _contexts.compressors[dictionary]
    if not noise_bytes:
        return compressor.compress(body)
    frame = compressor.compressobj(size=len(body))
    told = frame.compress(body[:-noise_bytes]) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return told + frame.compress(body[-noise_bytes:]) + frame.flush()


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """What `unpack` finds in it."""
    return unpack(body, encoding, limit_bytes).content


def unpack(body: bytes, encoding: str, limit_bytes: int) -> Body:
    """The body that `Content-Encoding: encoding` holds.

    Raises `TooLarge` over `limit_bytes` of output, `Malformed` for what is not one whole frame, `UnknownDictionary`,
    and `UnsupportedMediaType` for any other encoding, a list of several among them.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return Body(body)
    if name == "zstd":
        return _decompress_zstd(body, limit_bytes)
    if name in ("gzip", "x-gzip"):
        return Body(_decompress_gzip(body, limit_bytes))
    raise UnsupportedMediaType(f"Content-Encoding: expected identity, zstd or gzip, got {encoding[:80]!r}")


def _decompress_zstd(body: bytes, limit_bytes: int) -> Body:
    declared_bytes, dictionary = _check_frame(body, limit_bytes)
    decompressor = _contexts.decompressors[dictionary]
    try:
        if declared_bytes:
            # The buffer gets the declared size, which was checked: a frame that holds another one fails here.
            content = decompressor.decompress(body, max_output_size=limit_bytes, allow_extra_data=False)
        else:
            content = _stream_zstd(decompressor, body, limit_bytes)
        return Body(content, dictionary)
    except zstandard.ZstdError as error:
        raise Malformed(f"body: expected one whole zstd frame: {error}") from None


def _check_frame(body: bytes, limit_bytes: int) -> tuple[int | None, int]:
    """The size that the frame's header declares, None if it does not, and the dictionary that it names; refuses what is
    not worth starting on."""
    if not body.startswith(_ZSTD_MAGIC):  # skippable frames have another magic number
        raise Malformed("body: expected a zstd frame, got other bytes")
    try:
        frame = zstandard.get_frame_parameters(body)
    except zstandard.ZstdError as error:
        raise Malformed(f"body: expected a zstd frame: {error}") from None
    if frame.dict_id not in _contexts.decompressors:
        known = ", ".join(map(str, packaged()))
        raise UnknownDictionary(
            f"body: zstd dictionary {frame.dict_id} is not known here, only {known}; send without a dictionary"
        )
    declared_bytes = None if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN else frame.content_size
    if declared_bytes is not None and declared_bytes > limit_bytes:
        raise _too_large(limit_bytes)
    if frame.window_size > ZSTD_WINDOW_BYTES_MAX:
        raise TooLarge(f"body: zstd window of {frame.window_size} bytes, at most {ZSTD_WINDOW_BYTES_MAX} are allowed")
    return declared_bytes, frame.dict_id


def _stream_zstd(decompressor: zstandard.ZstdDecompressor, body: bytes, limit_bytes: int) -> bytes:
    """Without a declared size (or with 0) zstandard's one call accepts bytes behind the frame: piece by piece it is."""
    frame = decompressor.decompressobj()
    content = bytearray()
    for start in range(0, len(body), _PIECE_BYTES):
        if frame.eof:
            raise Malformed("body: expected one zstd frame, got more bytes behind it")
        content += frame.decompress(body[start : start + _PIECE_BYTES])
        if len(content) > limit_bytes:
            raise _too_large(limit_bytes)
    if not frame.eof or frame.unused_data:
        state = "more bytes behind it" if frame.eof else "a truncated one"
        raise Malformed(f"body: expected one whole zstd frame, got {state}")
    return bytes(content)


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

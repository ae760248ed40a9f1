"""Decompression: every way to lie about a body, and what each may cost."""

import contextlib
import gzip
import resource
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from constellation.errors import Malformed, Problem, TooLarge, UnknownDictionary, UnsupportedMediaType
from constellation.limits import ZSTD_WINDOW_BYTES_MAX
from constellation.wire.body import compress, decompress, unpack
from constellation.wire.dictionary import newest, packaged

LIMIT_BYTES = 1 << 20
CONTENT = bytes(range(256)) * 16
FRAME = zstandard.ZstdCompressor(level=3).compress(CONTENT)
UNDECLARED = zstandard.ZstdCompressor(write_content_size=False).compress(CONTENT)
EMPTY = zstandard.ZstdCompressor().compress(b"")
MAGIC = FRAME[:4]
DICTIONARY = zstandard.ZstdCompressionDict(packaged()[newest()])
NAMING = zstandard.ZstdCompressor(dict_data=DICTIONARY).compress(CONTENT)
NEWEST_BYTES = newest().to_bytes(2, "little")
WORDS = b"success_rate sample_count context time_of_day day_of_week content_type genre_hints created_at updated_at"
NAMING_UNDECLARED = zstandard.ZstdCompressor(dict_data=DICTIONARY, write_content_size=False).compress(CONTENT)
SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"skip"


def block(content: bytes, *, rle_len: int | None = None, last: bool = False) -> bytes:
    """One zstd block (RFC 8878, section 3.1.1.2): raw, or one byte repeated `rle_len` times."""
    size, kind = (len(content), 0) if rle_len is None else (rle_len, 1)
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + content


def bomb(declared_bytes: int | None, blocks_len: int, dictionary: bytes = b"") -> bytes:
    """Zeros by run length: 128 KiB in 4 bytes. The header declares a size, or only a window of 128 KiB; `dictionary` is
    the two bytes of an id, or none."""
    named = 2 if dictionary else 0
    if declared_bytes is None:
        head = bytes([named]) + b"\x38" + dictionary
    else:
        head = bytes([0xE0 | named]) + dictionary + declared_bytes.to_bytes(8, "little")
    return MAGIC + head + block(b"\0", rle_len=1 << 17) * (blocks_len - 1) + block(b"\0", rle_len=1 << 17, last=True)


def refuse(body: bytes, encoding: str = "zstd", limit_bytes: int = LIMIT_BYTES) -> Problem:
    with pytest.raises(Problem) as refused:
        decompress(body, encoding, limit_bytes)
    return refused.value


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_identity_is_bounded_too(encoding: str) -> None:
    assert decompress(b"x" * 10, encoding, 10) == b"x" * 10
    assert isinstance(refuse(b"x" * 11, encoding, 10), TooLarge)


@given(st.binary(max_size=5_000))
def test_compress_and_decompress_are_inverse(content: bytes) -> None:
    assert decompress(compress(content), "zstd", 5_000) == content
    assert unpack(compress(content, newest()), "zstd", 5_000) == (content, newest())
    assert decompress(gzip.compress(content), "gzip", 5_000) == content


def test_dictionary_of_a_body_is_told() -> None:
    for number in (0, *packaged()):
        assert unpack(compress(CONTENT, number), "zstd", LIMIT_BYTES) == (CONTENT, number)
    assert unpack(gzip.compress(CONTENT), "gzip", LIMIT_BYTES).dictionary == 0
    assert unpack(CONTENT, "identity", LIMIT_BYTES).dictionary == 0


@pytest.mark.parametrize("frame", [FRAME, UNDECLARED, NAMING, NAMING_UNDECLARED])
def test_output_may_reach_the_limit_and_not_exceed_it(frame: bytes) -> None:
    assert decompress(frame, "zstd", len(CONTENT)) == CONTENT
    assert isinstance(refuse(frame, limit_bytes=len(CONTENT) - 1), TooLarge)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_gzip_output_may_reach_the_limit_and_not_exceed_it(encoding: str) -> None:
    assert decompress(gzip.compress(CONTENT), encoding, len(CONTENT)) == CONTENT
    assert isinstance(refuse(gzip.compress(CONTENT), encoding, len(CONTENT) - 1), TooLarge)


@pytest.mark.parametrize(
    "encoding", ["zstd, gzip", "zstd,zstd", "identity, zstd", "br", "deflate", "zstd;q=1", "*", "x" * 10_000]
)
def test_other_encodings_and_lists_of_them_are_refused(encoding: str) -> None:
    problem = refuse(FRAME, encoding)
    assert isinstance(problem, UnsupportedMediaType)
    assert len(problem.detail) < 200


@pytest.mark.parametrize(
    "body",
    [
        bomb(1 << 30, 8_192),
        bomb(None, 8_192),
        gzip.compress(bytes(1 << 26)),
        bomb(1 << 30, 8_192, NEWEST_BYTES),
        bomb(None, 8_192, NEWEST_BYTES),
    ],
    ids=["declared 1 GB", "undeclared 1 GB", "gzip of 64 MB", "declared, by dictionary", "undeclared, by dictionary"],
)
def test_bombs_cost_neither_time_nor_memory(body: bytes) -> None:
    encoding = "gzip" if body.startswith(b"\x1f\x8b") else "zstd"
    assert len(body) < 256 << 10
    decompress(FRAME, "zstd", LIMIT_BYTES)
    peak_kib, start_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for _ in range(10):
        assert isinstance(refuse(body, encoding), TooLarge)
    assert time.process_time() - start_s < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < 32 << 10


def test_the_bombs_are_real_frames() -> None:
    assert decompress(bomb(1 << 18, 2), "zstd", 1 << 18) == bytes(1 << 18)
    assert decompress(bomb(None, 2), "zstd", 1 << 18) == bytes(1 << 18)
    for declared_bytes in (1 << 18, None):
        naming = bomb(declared_bytes, 2, NEWEST_BYTES)
        assert unpack(naming, "zstd", 1 << 18) == (bytes(1 << 18), newest())


@pytest.mark.parametrize("dictionary", [b"", NEWEST_BYTES])
@pytest.mark.parametrize("declared_bytes", [0, 1, (1 << 17) - 1, (1 << 17) + 1, LIMIT_BYTES])
def test_a_header_that_lies_about_the_size_is_refused(declared_bytes: int, dictionary: bytes) -> None:
    assert isinstance(refuse(bomb(declared_bytes, 1, dictionary)), Malformed)


@pytest.mark.parametrize("exponent", [24, 30, 31])
def test_windows_over_the_limit_are_refused(exponent: int) -> None:
    assert 1 << exponent > ZSTD_WINDOW_BYTES_MAX
    frame = MAGIC + b"\x00" + bytes([(exponent - 10) << 3]) + block(b"hello", last=True)
    problem = refuse(frame)
    assert isinstance(problem, TooLarge)
    assert str(1 << exponent) in problem.detail


def test_an_empty_frame_is_read() -> None:
    assert decompress(EMPTY, "zstd", LIMIT_BYTES) == b""


def test_a_window_beyond_the_format_is_refused() -> None:
    assert isinstance(refuse(MAGIC + b"\x00\xff" + block(b"hello", last=True)), Malformed)


def test_the_largest_window_is_read() -> None:
    frame = MAGIC + b"\x00" + bytes([(23 - 10) << 3]) + block(b"hello", last=True)
    assert decompress(frame, "zstd", LIMIT_BYTES) == b"hello"


def test_a_frame_that_names_a_dictionary_is_refused_by_its_number() -> None:
    frame = MAGIC + b"\x21\x4d\x05" + block(b"hello", last=True)
    problem = refuse(frame)
    assert isinstance(problem, UnknownDictionary)
    assert "77" in problem.detail and str(newest()) in problem.detail


def test_a_window_over_the_limit_is_refused_with_a_dictionary_too() -> None:
    frame = MAGIC + b"\x02" + bytes([(24 - 10) << 3]) + NEWEST_BYTES + block(b"hello", last=True)
    assert isinstance(refuse(frame), TooLarge)


def test_a_frame_that_hides_its_dictionary_is_refused() -> None:
    hiding = zstandard.ZstdCompressor(dict_data=DICTIONARY, write_dict_id=False).compress(WORDS)
    assert len(hiding) < len(compress(WORDS))
    assert isinstance(refuse(hiding), Malformed)


def test_a_frame_of_a_damaged_dictionary_is_refused_if_it_has_a_checksum() -> None:
    damaged = bytearray(packaged()[newest()])
    damaged[-len(damaged) // 2 :] = bytes(len(damaged) // 2)
    other = zstandard.ZstdCompressionDict(bytes(damaged))
    content = packaged()[newest()][-1_000:] + bytes(1_000)
    frame = zstandard.ZstdCompressor(dict_data=other, write_checksum=True).compress(content)
    assert zstandard.get_frame_parameters(frame).dict_id == newest()
    assert isinstance(refuse(frame), Malformed)


@given(st.integers(0, len(compress(WORDS, newest())) - 1), st.integers(1, 255))
def test_bytes_changed_in_a_frame_with_a_dictionary_stay_within_the_limit(place: int, change: int) -> None:
    frame = bytearray(compress(WORDS, newest()))
    frame[place] ^= change
    with contextlib.suppress(Problem):
        assert len(decompress(bytes(frame), "zstd", len(WORDS))) <= len(WORDS)


@pytest.mark.parametrize(
    "body",
    [
        FRAME + FRAME,
        FRAME + b"\0",
        NAMING + b"x",
        NAMING + NAMING,
        NAMING_UNDECLARED + b"x",
        NAMING_UNDECLARED + FRAME,
        UNDECLARED + UNDECLARED,
        UNDECLARED + b"x",
        UNDECLARED + bytes(1_000),
        EMPTY + b"x",
        EMPTY + FRAME,
        SKIPPABLE,
        SKIPPABLE + FRAME,
        FRAME + SKIPPABLE,
        b"",
        b"\x28",
        MAGIC,
        b"{}",
        b"\0" * 100,
        gzip.compress(CONTENT),
    ],
)
def test_what_is_not_one_whole_frame_is_refused(body: bytes) -> None:
    assert isinstance(refuse(body), Malformed)


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        UNDECLARED,
        zstandard.ZstdCompressor(write_checksum=True).compress(CONTENT),
        NAMING,
        NAMING_UNDECLARED,
        compress(WORDS, newest()),
    ],
)
def test_frames_cut_at_any_byte_are_refused(frame: bytes) -> None:
    for end in range(len(frame)):
        assert isinstance(refuse(frame[:end]), Malformed)


def test_a_wrong_checksum_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(CONTENT)
    assert isinstance(refuse(frame[:-1] + bytes([frame[-1] ^ 1])), Malformed)


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(CONTENT) + b"x",
        gzip.compress(CONTENT) + gzip.compress(CONTENT),
        zlib.compress(CONTENT),
        FRAME,
        b"",
        gzip.compress(CONTENT)[:-5] + bytes(5),
    ],
)
def test_what_is_not_one_whole_gzip_member_is_refused(body: bytes) -> None:
    assert isinstance(refuse(body, "gzip"), Malformed)


def test_gzip_cut_at_any_byte_is_refused() -> None:
    member = gzip.compress(CONTENT)
    for end in range(len(member)):
        assert isinstance(refuse(member[:end], "gzip"), Malformed)


@given(st.binary(max_size=200), st.sampled_from(["zstd", "gzip"]), st.booleans())
def test_random_bytes_raise_nothing_but_problems(tail: bytes, encoding: str, headed: bool) -> None:
    head = (MAGIC if encoding == "zstd" else b"\x1f\x8b\x08\x00") if headed else b""
    with contextlib.suppress(Problem):
        assert len(decompress(head + tail, encoding, 1_000)) <= 1_000


def test_threads_have_contexts_of_their_own() -> None:
    contents = [bytes([i]) * 50_000 for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda c: decompress(compress(c), "zstd", 50_000), contents)) == contents
        assert list(pool.map(lambda c: decompress(compress(c, newest()), "zstd", 50_000), contents)) == contents

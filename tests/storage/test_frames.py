"""Files of frames: what was written comes back; anything else is refused, and half a file never gets the name."""

import contextlib
import os
import resource
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.storage import frames
from constellation.storage.frames import LAST, Form, WrongFile

FORM = Form("sample", b"a sample", 3)
LEVEL = 1
SMALL = [(1, b"head"), (200, b""), (1, b"x" * 40), (LAST, b"all")]
"""Its first kind is one bit away from that of the last frame."""
CONTENT = st.binary(max_size=300) | st.binary(max_size=9).map(lambda piece: piece * 1_000)


def write(path: Path, contents: list[tuple[int, bytes]], level: int = LEVEL) -> bytes:
    """The file, whose last frame is the last of the contents."""
    with frames.writing(path, FORM, level) as file:
        for kind, content in contents[:-1]:
            file.frame(kind, content)
        file.end(contents[-1][1])
    return path.read_bytes()


def read(path: Path) -> list[tuple[int, bytes]]:
    return [(kind, content) for kind, content, _ in frames.read(path, FORM)]


def refused(path: Path, why: str = "damaged|no sample|has format|too early") -> None:
    """By both who read."""
    for reading in (read, lambda path: frames.check(path, FORM)):
        with pytest.raises(WrongFile, match=why) as error:
            reading(path)
        assert str(path) in str(error.value)


def head(kind: int, packed_bytes: int, content_bytes: int) -> bytes:
    return struct.pack("<BII", kind, packed_bytes, content_bytes)


def with_sum(*pieces: bytes) -> bytes:
    """The last piece and the checksum of all."""
    return pieces[-1] + xxhash.xxh64(b"".join(pieces)).digest()


def forged(start: bytes, declared: int, payload: bytes) -> bytes:
    """A file of one frame with right checksums, whatever it holds."""
    told = head(LAST, len(payload), declared)
    body = start + with_sum(told) + with_sum(told, payload)
    return body + xxhash.xxh3_128(body).digest()


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 255), CONTENT)), CONTENT, st.sampled_from([-5, -1, 1, 3]))
def test_what_was_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, contents: list[tuple[int, bytes]], last: bytes, level: int
) -> None:
    path = tmp_path_factory.mktemp("frames") / "file"
    whole = write(path, [*contents, (LAST, last)], level)
    frames.check(path, FORM)
    assert read(path) == [*contents, (LAST, last)]
    told: list[int] = []
    starts = [at for _, _, at in frames.read(path, FORM, told.append)]
    assert [*starts[1:], len(whole) - 16] == told, "a frame begins where the one before ends"


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = write(path, SMALL)
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        refused(path)
        given: list[tuple[int, bytes]] = []
        with contextlib.suppress(WrongFile):
            given.extend((kind, content) for kind, content, _ in frames.read(path, FORM))
        assert given == SMALL[: len(given)], "before the damage, and nothing of it"


def test_every_end_but_its_own_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = write(path, SMALL)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path, "ends too early" if length >= len(FORM.start) else "is no sample|has format")
    for more in (b"\0", b"\n", whole):
        path.write_bytes(whole + more)
        refused(path, f"follows its end at byte {len(whole)}")


def test_what_follows_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, [(1, os.urandom(1 << 20)), (1, b"next"), (LAST, b"")])
    reading = frames.read(path, FORM)
    next(reading)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(WrongFile, match="follows"):
        list(reading)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2), (0, 1, 1, 2), (0, 1, 2, 2), (2,)])
def test_frames_that_were_moved_are_noticed(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Each is right in itself."""
    path = tmp_path / "file"
    whole = write(path, [(1, b"first"), (1, b"other"), (LAST, b"last")])
    starts = [at for _, _, at in frames.read(path, FORM)]
    pieces = [whole[start:end] for start, end in zip(starts, [*starts[1:], len(whole) - 16], strict=True)]
    path.write_bytes(whole[: starts[0]] + b"".join(pieces[place] for place in order) + whole[-16:])
    refused(path, "whole file")


def test_another_kind_and_another_format_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = write(path, SMALL)
    path.write_bytes(b"something else")
    refused(path, "is no sample: it starts with b'somethin', not b'a sample'")
    path.write_bytes(whole.replace(FORM.start, FORM._replace(format=4).start))
    refused(path, "has format 04000000; this release reads 03000000")


@pytest.mark.parametrize(
    ("told", "has_sum"),
    [
        (head(1, 2**32 - 1, 9), True),
        (head(1, 9, 2**32 - 1), True),
        (head(1, 2**32 - 1, 9), False),
        (head(1, 2**30, 9), False),
    ],
)
def test_giant_sizes_take_no_memory(tmp_path: Path, told: bytes, has_sum: bool) -> None:
    """In a file long enough for them: a hole of eight gigabytes."""
    path = tmp_path / "file"
    path.write_bytes(FORM.start + (with_sum(told) if has_sum else told))
    os.truncate(path, 8 << 30)
    tracemalloc.start()
    try:
        refused(path, f"damaged at byte {len(FORM.start)}")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("declared", [0, 1, 7, 1_000, 2**30])
def test_payload_is_one_zstd_frame_of_the_size_that_is_told(tmp_path: Path, declared: int) -> None:
    """With right checksums: only what is unpacked shows it."""
    path = tmp_path / "file"
    packed = zstandard.ZstdCompressor().compress(b"content")
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"content")
    for payload in (packed, unsized, packed[:-1], packed + b"\0", packed + packed, b"content", b""):
        path.write_bytes(forged(FORM.start, declared, payload))
        if (payload, declared) == (packed, 7):
            assert read(path) == [(LAST, b"content")]
        else:
            with pytest.raises(WrongFile, match=f"damaged at byte {len(FORM.start)}"):
                read(path)


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(tmp_path / "file", SMALL)
    writing = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, piece: writing(descriptor, piece[:3]))
    assert write(tmp_path / "short", SMALL) == whole


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system takes so many bytes into a file: a write that goes further is a short one, the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_that_is_full_after_any_byte_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = write(path, [(LAST, b"before")])
    whole = write(tmp_path / "whole", SMALL)
    for size in range(len(whole)):
        with files_of_at_most(size), pytest.raises(OSError, match="too large"):
            write(path, SMALL)
        assert path.read_bytes() == before
        assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "whole"]
    with files_of_at_most(len(whole)):
        assert write(path, SMALL) == whole


def test_file_that_is_not_ended_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with frames.writing(path, FORM, LEVEL) as file:
        file.frame(1, b"content")
        assert [found.name for found in tmp_path.iterdir()] == ["file.part"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), frames.writing(path, FORM, LEVEL) as file:
        file.frame(1, bytes([1 // 0]))
    assert list(tmp_path.iterdir()) == []


def test_file_is_its_owners_alone_and_on_disk_before_it_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    (tmp_path / "file.part").write_bytes(b"what a killed process left, and more than the new file holds" * 99)
    synced: list[tuple[int, bool]] = []
    sync = os.fsync
    monkeypatch.setattr(frames, "SYNCED_BYTES", 1_000)

    def watched(descriptor: int) -> None:
        sync(descriptor)
        synced.append((os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", watched)
    whole = write(path, [(1, os.urandom(1_500)), (1, b"content"), (LAST, b"")])
    assert read(path)[1:] == [(1, b"content"), (LAST, b"")]
    assert path.stat().st_mode & 0o777 == 0o600
    (after_some, *_), (after_all, *was_named), (_, *folder_named) = synced
    assert 1_500 < after_some < after_all == len(whole)
    assert (was_named, folder_named) == ([False], [True])

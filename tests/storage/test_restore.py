"""A file of right frames that is no backup is refused, too. What a restore does is in `test_backup`."""

from pathlib import Path

import msgspec
import pytest

from constellation.records import empty_change, encode
from constellation.storage import frames
from constellation.storage.backup import CHANGE, FORM, LEVEL, Summary, counted
from constellation.storage.frames import WrongFile
from constellation.storage.restore import Verified, verify

EMPTY = encode(empty_change())
SUMMARY = Summary("shard-1", 3, bytes(32), 1_760_000_000, 0, counted(empty_change()))


def checked(path: Path, contents: list[tuple[int, bytes]], summary: bytes) -> Verified:
    with frames.writing(path, FORM, LEVEL) as file:
        for kind, content in contents:
            file.frame(kind, content)
        file.end(summary)
    return verify(path, lambda _: None)


def test_backup_of_nothing_is_one(tmp_path: Path) -> None:
    found = checked(tmp_path / "file", [(CHANGE, EMPTY)], msgspec.msgpack.encode(SUMMARY))
    assert found == Verified(tmp_path / "file", SUMMARY, {})


@pytest.mark.parametrize(
    ("contents", "summary", "why"),
    [
        ([(CHANGE + 1, EMPTY)], msgspec.msgpack.encode(SUMMARY), "kind 2 is not known"),
        ([(CHANGE, EMPTY[:-1])], msgspec.msgpack.encode(SUMMARY), "cannot be read at byte"),
        ([(CHANGE, b"")], msgspec.msgpack.encode(SUMMARY), "format none"),
        ([], b"", "cannot be read at byte"),
        ([], msgspec.msgpack.encode({"shard_id": 7}), "shard_id"),
        ([], msgspec.msgpack.encode(msgspec.structs.replace(SUMMARY, counts={"devices": 1})), "says it holds"),
    ],
)
def test_frames_that_are_no_backup_are_refused(
    tmp_path: Path, contents: list[tuple[int, bytes]], summary: bytes, why: str
) -> None:
    with pytest.raises(WrongFile, match=why) as error:
        checked(tmp_path / "file", contents, summary)
    assert str(tmp_path / "file") in str(error.value)


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongFile, match="cannot be read"):
        verify(tmp_path, lambda _: None)

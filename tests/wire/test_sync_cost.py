"""What the worst body of 1 MiB costs `decode_sync`, as a ratio to the largest honest one of the same run.

Whatever is in the bytes, time grows with their number and not faster, without guards of our own: this is the test
that would notice a new release of msgspec to which that does not apply.
"""

import contextlib
import struct
import time

import pytest

from constellation.errors import Problem
from constellation.limits import BODY_BYTES_MAX
from constellation.model import DIM
from constellation.wire.media import Media
from constellation.wire.sync import decode_sync
from tests.wire.samples import ADDED, Fields, changed, encode, pattern_fields, put, sync_fields, uuid_text

RATIO_MAX = 25
"""The worst below, numbers halfway between two floats, is at 9 on a quiet machine."""

ROOM = BODY_BYTES_MAX - 40_000  # for what is honest in a body
DIGITS = (*ADDED, "success_rate")
HINTS = (*ADDED, "context", "genre_hints")
EMBEDDING = (*ADDED, "embedding")


def full_fields() -> Fields:
    """100 patterns with arrays of floats."""
    fields = sync_fields()
    fields["delta"]["patterns_added"] = [pattern_fields(row) | {"id": uuid_text(row)} for row in range(100)]
    return fields


def halfway_body() -> bytes:
    """The same with numbers that only exact arithmetic can round."""
    fields = full_fields()
    for pattern in fields["delta"]["patterns_added"]:
        pattern["embedding"] = ["HOLE"] * DIM
    return encode(fields, Media.JSON).replace(b'"HOLE"', b"9007199254740993.00000000")


def with_hole(media: Media, path: tuple[str | int, ...], content: bytes) -> bytes:
    fields = sync_fields() | {"unknown": 0}
    return encode(changed(fields, path, put("HOLE")), media).replace(encode("HOLE", media), content)


def listed(item: bytes) -> bytes:
    """A JSON array of as many items as there is room for."""
    return b"[" + b",".join([item] * (ROOM // (len(item) + 1))) + b"]"


def msgpack_listed(item: bytes) -> bytes:
    n = ROOM // len(item)
    return b"\xdd" + struct.pack(">I", n) + item * n


HOSTILE = {
    "numbers halfway between two floats": (halfway_body(), Media.JSON),
    "digits of a rate": (with_hole(Media.JSON, DIGITS, b"0." + b"3" * ROOM), Media.JSON),
    "digits of a sequence": (with_hole(Media.JSON, ("delta", "sequence"), b"9" * ROOM), Media.JSON),
    "digits of an exponent": (with_hole(Media.JSON, DIGITS, b"1e-" + b"9" * ROOM), Media.JSON),
    "names": (b"{" + b",".join(b'"%x":0' % row for row in range(100_000)) + b"}", Media.JSON),
    "one name": (b"{" + b'"":0,' * (ROOM // 5) + encode(sync_fields(), Media.JSON)[1:], Media.JSON),
    "hints": (with_hole(Media.JSON, HINTS, listed(b'"a"')), Media.JSON),
    "components": (with_hole(Media.JSON, EMBEDDING, listed(b"0")), Media.JSON),
    "objects": (with_hole(Media.JSON, ("unknown",), listed(b"{}")), Media.JSON),
    "towers": (with_hole(Media.JSON, ("unknown",), listed(b"[" * 900 + b"]" * 900)), Media.JSON),
    "msgpack towers": (with_hole(Media.MSGPACK, ("unknown",), msgpack_listed(b"\x91" * 900 + b"\0")), Media.MSGPACK),
    "msgpack hints": (with_hole(Media.MSGPACK, HINTS, msgpack_listed(b"\xa0")), Media.MSGPACK),
    "msgpack names": (
        b"\xdf" + struct.pack(">I", ROOM // 2 + 2) + b"\xa0\0" * (ROOM // 2) + encode(sync_fields(), Media.MSGPACK)[1:],
        Media.MSGPACK,
    ),
}


def cost_s(body: bytes, media: Media) -> float:
    """CPU seconds of this thread, the least of three."""
    costs = []
    for _ in range(3):
        start_s = time.thread_time()
        with contextlib.suppress(Problem):
            decode_sync(body, media)
        costs.append(time.thread_time() - start_s)
    return min(costs)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_body_costs_much_more_than_the_largest_honest_one(name: str) -> None:
    body, media = HOSTILE[name]
    assert BODY_BYTES_MAX // 2 < len(body) <= BODY_BYTES_MAX
    ratio = cost_s(body, media) / cost_s(encode(full_fields(), Media.JSON), Media.JSON)
    assert ratio < RATIO_MAX, f"{ratio:.1f} times as much"

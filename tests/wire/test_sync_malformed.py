"""`decode_sync` on bytes that are not the declared type: broken, nested, ambiguous, cut, mutated."""

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.errors import InvalidPattern, Malformed, TooManyPatterns
from constellation.model import (
    DIM,
)
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta
from constellation.wire.sync import decode_sync
from tests.wire.samples import (
    ADDED,
    BOTH,
    DEVICE_ID,
    FIELDS,
    FORMS,
    UPDATED,
    Path,
    changed,
    deltas,
    encode,
    path_text,
    put,
    refuse,
    sync_fields,
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b"{}x",
        b'{"device_id":1',
        b"{'a':1}",
        b"\xff",
        b'{"a":NaN}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
    ],
)
def test_bytes_that_are_not_json_are_malformed(body: bytes) -> None:
    assert isinstance(refuse(body, Media.JSON), Malformed)


@BOTH
@pytest.mark.parametrize("value", [[], None, 1, "x", True])
def test_a_body_that_is_no_object_is_refused(media: Media, value: Any) -> None:
    problem = refuse(encode(value, media), media)
    assert isinstance(problem, InvalidPattern)
    assert problem.path is None


@BOTH
def test_trailing_bytes_are_malformed(media: Media) -> None:
    assert isinstance(refuse(encode(sync_fields(), media) + b"1", media), Malformed)


@pytest.mark.parametrize("path", [("delta",), (*ADDED, "id"), (*ADDED, "embedding"), ("unknown",)], ids=path_text)
@pytest.mark.parametrize(
    ("media", "opening", "closing"),
    [
        (Media.JSON, b"[", b"]"),
        (Media.JSON, b'{"a":', b"}"),
        (Media.MSGPACK, b"\x91", b""),
        (Media.MSGPACK, b"\x81\xa1a", b""),
    ],
    ids=["arrays", "objects", "msgpack arrays", "msgpack maps"],
)
def test_deep_nesting_is_malformed(path: Path, media: Media, opening: bytes, closing: bytes) -> None:
    deep = opening * 100_000 + b"0" + closing * 100_000
    assert isinstance(refuse(deep, media), Malformed)
    body = encode(changed(sync_fields() | {"unknown": 0}, path, put("HOLE")), media)
    assert isinstance(refuse(body.replace(encode("HOLE", media), deep), media), Malformed)


def test_invalid_utf8_is_malformed_also_where_it_is_ignored() -> None:
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):
        for fields in (sync_fields() | {"unknown": "HOLE"}, changed(sync_fields(), ("device_id",), put("HOLE"))):
            assert isinstance(refuse(encode(fields, Media.JSON).replace(b"HOLE", bad), Media.JSON), Malformed)
    fields = changed(sync_fields(), (*ADDED, "context", "time_of_day"), put("HOLE"))
    assert isinstance(
        refuse(encode(fields, Media.MSGPACK).replace(b"HOLE", b"\xff\xff\xff\xff"), Media.MSGPACK), Malformed
    )
    fields = changed(sync_fields(), ("delta", "patterns_removed", 0), put("HOLE"))
    assert isinstance(
        refuse(encode(fields, Media.MSGPACK).replace(b"HOLE", b"\xff\xff\xff\xff"), Media.MSGPACK), Malformed
    )


def test_of_a_name_that_comes_twice_the_last_one_counts() -> None:
    body = encode(sync_fields(), Media.JSON)
    assert decode_sync(b'{"device_id":"x",' + body[1:], Media.JSON).device_id == DEVICE_ID
    assert refuse(body[:-1] + b',"device_id":"x"}', Media.JSON).path == "device_id"
    body = encode(sync_fields(), Media.MSGPACK)
    assert decode_sync(b"\x83\xa9device_id\xa1x" + body[1:], Media.MSGPACK).device_id == DEVICE_ID
    assert refuse(b"\x83" + body[1:] + b"\xa9device_id\xa1x", Media.MSGPACK).path == "device_id"


def test_maps_with_wide_heads_are_read() -> None:
    body = encode(sync_fields(), Media.MSGPACK)
    assert body[0] == 0x82
    for head in (b"\xde\x00\x02", b"\xdf\x00\x00\x00\x02"):
        assert decode_sync(head + body[1:], Media.MSGPACK).device_id == DEVICE_ID


def test_msgpack_heads_that_promise_more_than_there_is_cost_nothing() -> None:
    for name in ("patterns_added", "patterns_updated", "patterns_removed"):
        body = encode(changed(sync_fields(), ("delta", name), put("HOLE")), Media.MSGPACK)
        for head in (b"\xdd\x7f\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff"):
            assert isinstance(refuse(body.replace(b"\xa4HOLE", head), Media.MSGPACK), TooManyPatterns | Malformed)
    body = encode(changed(sync_fields(), (*ADDED, "embedding"), put("HOLE")), Media.MSGPACK)
    for head in (b"\xdd\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"):
        refuse(body.replace(b"\xa4HOLE", head), Media.MSGPACK)


@BOTH
def test_a_body_cut_at_any_byte_is_refused(media: Media) -> None:
    fields = sync_fields()
    fields["delta"]["patterns_added"] = fields["delta"]["patterns_added"][:1]
    data = np.ones(DIM, np.int8).tobytes()
    fields["delta"]["patterns_added"][0]["embedding"] = (
        data if media is Media.MSGPACK else base64.b64encode(data).decode()
    )
    body = encode(fields, media)
    decode_sync(body, media)
    for end in range(len(body)):
        assert isinstance(refuse(body[:end], media), Malformed)


@BOTH
@given(data=st.data())
@settings(max_examples=300)
def test_mutated_bodies_raise_nothing_but_problems(media: Media, data: st.DataObject) -> None:
    body = bytearray(encode_delta(DEVICE_ID, data.draw(deltas()), media, data.draw(st.sampled_from(FORMS))))
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(len(body), start + 8)))
        body[start:end] = data.draw(st.binary(max_size=8))
    try:
        added = decode_sync(bytes(body), media).delta.added
    except (Malformed, InvalidPattern, TooManyPatterns):
        return
    assert len(added.ids) == len(added.codes) == len(added.contexts)


@BOTH
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    path=st.sampled_from([*FIELDS, ADDED, UPDATED, ("delta", "sequence")]),
)
@settings(max_examples=200)
def test_any_value_in_any_place_raises_nothing_but_problems(media: Media, value: Any, path: Path) -> None:
    try:
        decode_sync(encode(changed(sync_fields(), path, lambda _: value), media), media)
    except InvalidPattern as problem:
        assert problem.path is not None
        assert problem.path.startswith(path_text(path)), problem.detail
    except (Malformed, TooManyPatterns):
        pass

"""The zstd dictionary over a socket: who gets it, who is answered with it, and frames that lie."""

from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
import zstandard

from constellation.limits import DICTIONARY_REPLY_BYTES_MAX
from constellation.wire.body import compress, unpack
from constellation.wire.dictionary import LAST_ID, checksum, newest, packaged
from tests.api import bodies

SYNC = "/api/v1/sync"
SHORT = "?similar=0&trending=0"
LIMIT_BYTES = 1 << 20


class Replied(NamedTuple):
    """A reply, before and after decompression; `dictionary` is None where it is not compressed."""

    status: int
    body: Any
    dictionary: int | None


def post(client: httpx.Client, content: bytes, query: str = SHORT, accept: str = "zstd") -> Replied:
    """A zstd frame of msgpack."""
    headers = {"Content-Type": "application/msgpack", "Content-Encoding": "zstd", "Accept-Encoding": accept}
    with client.stream("POST", SYNC + query, content=content, headers=headers) as reply:
        raw = b"".join(reply.iter_raw())
    encoding = reply.headers.get("content-encoding", "identity")
    unpacked = unpack(raw, encoding, LIMIT_BYTES)
    return Replied(
        reply.status_code, msgspec.msgpack.decode(unpacked.content), unpacked.dictionary if encoding == "zstd" else None
    )


def delta(**changes: Any) -> bytes:
    return msgspec.msgpack.encode(bodies.body(bodies.pattern(), **changes))


def patterns_stored(client: httpx.Client) -> int:
    stored: int = client.get("/api/v1/stats").json()["patterns_stored"]
    return stored


@pytest.mark.parametrize("number", packaged())
def test_dictionary_is_the_file(client: httpx.Client, number: int) -> None:
    reply = client.get(f"/api/v1/dictionary/{number}")
    assert reply.content == packaged()[number]
    assert reply.headers["etag"] == f'"{checksum(reply.content)}"'


@pytest.mark.parametrize("number", ["0", "1", "32768", str(LAST_ID), "-1", f"0{newest()}", "newest", "%00"])
def test_other_ids_are_not_found(client: httpx.Client, number: str) -> None:
    reply = client.get(f"/api/v1/dictionary/{number}")
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("number", packaged())
def test_tv_that_got_everything_from_the_shard_is_answered_with_its_dictionary(
    client: httpx.Client, number: int
) -> None:
    """Nothing but what is served: as a TV in another language does it."""
    fetched = zstandard.ZstdCompressionDict(client.get(f"/api/v1/dictionary/{number}").content)
    frame = zstandard.ZstdCompressor(dict_data=fetched).compress(delta())
    headers = {"Content-Type": "application/msgpack", "Content-Encoding": "zstd", "Accept-Encoding": "zstd"}
    with client.stream("POST", SYNC + SHORT, content=frame, headers=headers) as reply:
        raw = b"".join(reply.iter_raw())
    assert reply.status_code == 200 and reply.headers["content-encoding"] == "zstd"
    assert zstandard.get_frame_parameters(raw).dict_id == number
    answered = zstandard.ZstdDecompressor(dict_data=fetched).decompress(raw)
    assert msgspec.msgpack.decode(answered)["accepted"]["added"] == 1


def test_request_without_a_dictionary_is_answered_without(client: httpx.Client) -> None:
    assert post(client, compress(delta())).dictionary == 0


def test_reply_is_not_compressed_unless_asked_for(client: httpx.Client) -> None:
    replied = post(client, compress(delta(), newest()), accept="identity")
    assert (replied.status, replied.dictionary) == (200, None)


def test_long_reply_goes_without(client: httpx.Client) -> None:
    for _ in range(DICTIONARY_REPLY_BYTES_MAX // 384):
        assert post(client, compress(delta(), newest())).status == 200
    replied = post(client, compress(delta(), newest()), "")
    assert (replied.status, replied.dictionary) == (200, 0)
    assert len(msgspec.msgpack.encode(replied.body)) > DICTIONARY_REPLY_BYTES_MAX


def test_content_may_come_with_the_dictionary_too(client: httpx.Client) -> None:
    frame = compress(msgspec.json.encode(bodies.content()), newest())
    headers = {"Content-Type": "application/json", "Content-Encoding": "zstd"}
    assert client.post("/api/v1/content", content=frame, headers=headers).status_code == 201


def lying_frames() -> list[Any]:
    frame = compress(delta(), newest())
    larger = frame[:7] + b"\xff\xff" + frame[9:]  # magic, descriptor and id come before the size
    assert zstandard.get_frame_parameters(larger).content_size == 0xFFFF + 256
    unknown = frame.replace(newest().to_bytes(2, "little"), LAST_ID.to_bytes(2, "little"), 1)
    hidden = zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(packaged()[newest()]), write_dict_id=False
    ).compress(delta())
    bomb = compress(bytes(LIMIT_BYTES + 1), newest())
    return [
        pytest.param(frame[:-1], 400, "malformed", id="cut"),
        pytest.param(frame + b"x", 400, "malformed", id="more behind it"),
        pytest.param(larger, 400, "malformed", id="another size"),
        pytest.param(hidden, 400, "malformed", id="a dictionary it does not name"),
        pytest.param(unknown, 415, "unknown_dictionary", id="an unknown dictionary"),
        pytest.param(bomb, 413, "too_large", id="a bomb"),
    ]


@pytest.mark.parametrize(("frame", "status", "code"), lying_frames())
def test_frame_that_lies_is_refused_and_changes_nothing(
    client: httpx.Client, frame: bytes, status: int, code: str
) -> None:
    before = patterns_stored(client)
    replied = post(client, frame)
    assert (replied.status, replied.body["code"]) == (status, code)
    assert patterns_stored(client) == before

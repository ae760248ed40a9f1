"""`encode_sync` and `decode_reply`: the fields of the contract, and one meaning in every form."""

import base64
import json
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.errors import InvalidPattern, Malformed
from constellation.model import (
    Accepted,
    Answer,
    Applied,
    EmbeddingFormat,
    NextSync,
    PatternBatch,
    Trend,
)
from constellation.wire.media import Media
from constellation.wire.reply import decode_reply
from constellation.wire.sync import decode_sync, encode_sync
from tests.wire.samples import (
    BOTH,
    FORMS,
    Path,
    assert_same_batch,
    batches,
    changed,
    decode,
    encode,
    path_text,
    pattern_fields,
    put,
    sync_fields,
    uuid_text,
    whole_answer,
)

TRENDS = [Trend("film-1", 1.0, "us-east"), Trend("genre:drama", 0.25, "us-east")]
APPLIED = Applied(Accepted(added=1, filtered=2, evicted=3, updated=4, removed=5, rejected=6), 17, 1_760_000_123_456)


def answer_of(similar: PatternBatch) -> Answer:
    return whole_answer(similar, TRENDS, 1_760_000_123_456)


@given(batches(n_max=6, unique=False))
@settings(max_examples=60)
def test_every_form_of_a_reply_decodes_to_the_same(similar: PatternBatch) -> None:
    answer = answer_of(similar)
    for media in Media:
        for form in FORMS:
            reply = decode_reply(encode_sync(answer, APPLIED, NextSync(300, 600), media, form), media)
            assert_same_batch(reply.similar, similar)
            assert reply.origins == ["device"] * len(similar)
            assert (reply.trending, reply.digest, reply.reset) == (TRENDS, answer.digest, True)
            assert (reply.global_version, reply.accepted, reply.last_sequence) == (
                answer.global_version,
                APPLIED.accepted,
                17,
            )
            assert (reply.next_sync, reply.removed.shape) == (NextSync(300, 600), (0, 16))


def one_answer() -> Answer:
    fields = changed(sync_fields(), ("delta", "patterns_added"), lambda patterns: patterns[:1])
    return answer_of(decode_sync(encode(fields, Media.JSON), Media.JSON).delta.added)


@BOTH
def test_a_reply_has_exactly_the_fields_of_the_contract(media: Media) -> None:
    reply = decode(encode_sync(one_answer(), APPLIED, NextSync(300, 600), media, "i8"), media)
    pattern = reply["global"]["similar"].pop()
    assert reply == {
        "global": {
            "similar": [],
            "trending": [
                {"content_id": "film-1", "trending_score": 1.0, "region": "us-east"},
                {"content_id": "genre:drama", "trending_score": 0.25, "region": "us-east"},
            ],
            "global_version": 1_760_000_123_456,
            "reset": True,
            "removed": [],
            "digest": one_answer().digest,
        },
        "accepted": {
            **{"added": 1, "filtered": 2, "evicted": 3, "updated": 4, "removed": 5, "rejected": 6},
            "duplicate": False,
        },
        "last_sequence": 17,
        "next_sync": {"after_s": 300, "within_s": 600},
    }
    expected = pattern_fields(1) | {"origin": "device"}
    assert set(pattern) == set(expected)
    for name in ("sample_count", "context", "created_at", "updated_at", "origin"):
        assert pattern[name] == expected[name]
    assert pattern["id"] == (uuid_text(1) if media is Media.JSON else UUID(int=1).bytes)
    assert np.float32(pattern["success_rate"]) == np.float32(0.91)


@BOTH
def test_a_change_goes_without_its_embedding_and_what_is_gone_by_its_id(media: Media) -> None:
    fields = changed(sync_fields(), ("delta", "patterns_added"), lambda patterns: patterns[:2])
    answer = answer_of(decode_sync(encode(fields, Media.JSON), Media.JSON).delta.added)
    answer.reset, answer.trending, answer.whole[0] = False, None, False
    answer.removed = answer.similar.ids[1:] + np.uint8(1)
    body = encode_sync(answer, APPLIED, NextSync(300, 600), media, "f16")
    told = decode(body, media)["global"]
    assert ["embedding" in pattern for pattern in told["similar"]] == [False, True]
    assert told["trending"] is None and told["reset"] is False
    reply = decode_reply(body, media)
    assert reply.whole.tolist() == [False, True] and not reply.similar.codes[0].any()
    assert (reply.similar.codes[1] == answer.similar.codes[1]).all()
    assert (reply.removed == answer.removed).all() and not reply.reset and reply.trending is None
    for column in ("ids", "rates", "counts", "created_at", "updated_at"):
        assert (getattr(reply.similar, column) == getattr(answer.similar, column)).all()
    assert reply.similar.contexts == answer.similar.contexts


@BOTH
def test_a_whole_list_without_an_embedding_is_refused(media: Media) -> None:
    answer = one_answer()
    answer.whole[0] = False
    with pytest.raises(InvalidPattern, match=r"global.similar\[0\].embedding"):
        decode_reply(encode_sync(answer, APPLIED, NextSync(300, 600), media, "i8"), media)


def test_last_sequence_may_be_null() -> None:
    applied = Applied(Accepted(), None, 1)
    for media in Media:
        body = encode_sync(one_answer(), applied, NextSync(1, 2), media, "i8")
        assert decode(body, media)["last_sequence"] is None
        assert decode_reply(body, media).last_sequence is None


@given(st.floats(0, 1, width=32))
def test_rates_in_json_have_the_digits_of_a_float32(rate: float) -> None:
    answer = one_answer()
    answer.similar.rates[0] = rate
    body = encode_sync(answer, APPLIED, NextSync(1, 2), Media.JSON, "i8")
    text = body.partition(b'"success_rate":')[2].partition(b",")[0].decode()
    assert np.float32(text) == np.float32(rate)
    assert len(text.partition("e")[0].replace(".", "").strip("0")) <= 9


def test_a_rate_in_json_is_as_short_as_it_was_sent() -> None:
    body = encode_sync(one_answer(), APPLIED, NextSync(1, 2), Media.JSON, "i8")
    assert b'"success_rate":0.91,' in body


def test_embeddings_have_the_form_that_was_asked_for() -> None:
    answer = one_answer()
    code = answer.similar.codes[0]
    unit = code / np.linalg.norm(code.astype(np.float64))

    def embedding(media: Media, form: EmbeddingFormat) -> Any:
        return decode(encode_sync(answer, APPLIED, NextSync(1, 2), media, form), media)["global"]["similar"][0][
            "embedding"
        ]

    for media in Media:
        as_bytes = (lambda value: value) if media is Media.MSGPACK else base64.b64decode
        assert as_bytes(embedding(media, "i8")) == code.tobytes()
        f16 = np.frombuffer(as_bytes(embedding(media, "f16")), "<f2")
        np.testing.assert_allclose(f16, unit, atol=1e-3)
        assert abs(np.linalg.norm(f16.astype(np.float64)) - 1) < 1e-3
    np.testing.assert_allclose(np.frombuffer(embedding(Media.MSGPACK, "f32"), "<f4"), unit, atol=1e-6)
    numbers = embedding(Media.JSON, "f32")
    assert isinstance(numbers, list)
    np.testing.assert_allclose(numbers, unit, atol=1e-6)


def test_json_replies_are_plain_json() -> None:
    for form in FORMS:
        body = encode_sync(one_answer(), APPLIED, NextSync(1, 2), Media.JSON, form)
        assert json.loads(body) == msgspec.json.decode(body)


BAD: list[tuple[Path, Any]] = [
    (("global",), None),
    (("global", "similar"), None),
    (("global", "similar", 0, "embedding"), []),
    (("global", "similar", 0, "success_rate"), 1.5),
    (("global", "similar", 0, "origin"), None),
    (("global", "trending", 1, "content_id"), 7),
    (("global", "global_version"), -1),
    (("global", "removed"), ["x"]),
    (("global", "digest"), None),
    (("accepted", "added"), "1"),
    (("last_sequence",), 1.0),
    (("next_sync", "after_s"), -1),
    (("next_sync", "within_s"), 10**9),
]


@BOTH
@pytest.mark.parametrize(("path", "value"), BAD, ids=lambda part: repr(part)[:60])
def test_a_reply_with_a_wrong_field_is_refused(media: Media, path: Path, value: Any) -> None:
    reply = decode(encode_sync(one_answer(), APPLIED, NextSync(1, 2), Media.JSON, "i8"), Media.JSON)
    decode_reply(encode(reply, Media.JSON), Media.JSON)
    if media is Media.MSGPACK:
        embedding = reply["global"]["similar"][0]["embedding"]
        reply["global"]["similar"][0]["embedding"] = base64.b64decode(embedding)
        decode_reply(encode(reply, media), media)
    with pytest.raises(InvalidPattern) as refused:
        decode_reply(encode(changed(reply, path, put(value)), media), media)
    assert refused.value.path is not None
    assert refused.value.path.startswith(path_text(path))


@BOTH
def test_a_reply_cut_anywhere_is_malformed(media: Media) -> None:
    body = encode_sync(one_answer(), APPLIED, NextSync(1, 2), media, "i8")
    for end in range(len(body)):
        with pytest.raises(Malformed):
            decode_reply(body[:end], media)


@BOTH
def test_trending_may_be_unchanged(media: Media) -> None:
    body = encode_sync(one_answer(), APPLIED, NextSync(1, 2), media, "f16")
    reply = changed(decode(body, media), ("global", "trending"), put(None))
    assert decode_reply(encode(reply, media), media).trending is None

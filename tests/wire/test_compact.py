"""Compact blocks: what is written is read, rounded as the contract says; whatever the bytes, what is read is sound."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from constellation import limits, rounding
from constellation.digest import answer_digest
from constellation.errors import InvalidPattern, Problem
from constellation.limits import DAY_S
from constellation.model import Accepted, Answer, Applied, Backing, NextSync
from constellation.wire import compact
from constellation.wire.body import compress, decompress
from constellation.wire.media import Media
from constellation.wire.reading import refusal
from constellation.wire.reply import decode_reply
from constellation.wire.sync import encode_sync, noise_bytes
from kernels import blocks
from tests.compact.make import CORPUS
from tests.compact.material import HELD, batch, damaged, quantised, similar_block, trends, trends_block
from tests.wire.samples import BOTH, decode, encode

_refuse = refusal(InvalidPattern)


def answer(n: int, whole: list[bool] | None = None, seed: int = 1) -> Answer:
    rng = np.random.default_rng(seed)
    patterns, handles = batch(n, rng), np.arange(n, dtype=np.uint8)[::-1].copy()
    return Answer(
        similar=patterns,
        trending=trends(5, rng),
        global_version=7,
        digest=rounding.compact_digest(handles, patterns.rates, patterns.counts, patterns.updated_at),
        reset=whole is None,
        handles=handles,
        whole=np.ones(n, np.bool_) if whole is None else np.array(whole),
        gone=np.array([200, 201], np.uint8),
        removed=np.empty((0, 16), np.uint8),
        prototypes={1: Backing(0.5, 3, 4)},
        quantised=quantised(patterns),
    )


def body(told: Answer, media: Media) -> bytes:
    return encode_sync(told, Applied(Accepted(added=1), 5, 7), NextSync(1, 2), media, "compact")


@BOTH
def test_reply_says_what_the_answer_says(media: Media) -> None:
    told = answer(40)
    reply = decode_reply(body(told, media), media, HELD)
    assert reply.compact and reply.reset and reply.whole.all()
    similar = told.similar
    assert np.abs(reply.similar.rates - similar.rates).max() <= 0.5 / 255 + 1e-6
    assert (np.abs(reply.similar.counts / similar.counts - 1)).max() <= 1 / 16
    np.testing.assert_array_equal(reply.similar.updated_at, similar.updated_at // DAY_S * DAY_S)
    np.testing.assert_array_equal(reply.similar.created_at, similar.created_at // DAY_S * DAY_S)
    assert reply.similar.contexts == similar.contexts
    assert [i for i, origin in enumerate(reply.origins) if origin == "prototype"] == [1]
    assert told.quantised is not None
    np.testing.assert_array_equal(reply.similar.codes, HELD.codes(told.quantised.numbers, told.quantised.residuals))
    np.testing.assert_array_equal(reply.similar.ids[:, -1], told.handles)
    assert not reply.similar.ids[:, :-1].any()
    assert reply.removed[:, -1].tolist() == [200, 201]
    assert told.trending is not None and reply.trending is not None
    for came, was in zip(reply.trending, told.trending, strict=True):
        assert (came.content_id, came.region) == (was.content_id, was.region)
        assert came.trending_score == pytest.approx(was.trending_score, abs=0.5 / 255 + 1e-9)


@BOTH
def test_digest_is_that_of_what_was_decoded(media: Media) -> None:
    reply = decode_reply(body(answer(40), media), media, HELD)
    similar = reply.similar
    assert answer_digest(similar.ids, similar.rates, similar.counts, similar.updated_at) == reply.digest


def test_whole_patterns_come_first_and_others_without_embedding() -> None:
    told = answer(4, [False, True, False, True])
    reply = decode_reply(body(told, Media.MSGPACK), Media.MSGPACK, HELD)
    assert reply.whole.tolist() == [True, True, False, False]
    assert reply.similar.ids[:, -1].tolist() == told.handles[[1, 3, 0, 2]].tolist()
    assert reply.similar.codes[:2].any(axis=1).all() and not reply.similar.codes[2:].any()
    assert reply.origins[0] == "prototype"


def test_unchanged_trends_are_null() -> None:
    told = answer(1)
    told.trending = None
    told.prototypes = {}
    assert decode_reply(body(told, Media.MSGPACK), Media.MSGPACK, HELD).trending is None


def test_noise_is_the_end_of_the_body_and_compression_loses_nothing() -> None:
    told = answer(100)
    written, noise = body(told, Media.MSGPACK), noise_bytes(told, Media.MSGPACK)
    assert told.quantised is not None and written.endswith(told.quantised.residuals.tobytes())
    assert noise == told.quantised.residuals.size and noise_bytes(told, Media.JSON) == 0
    packed = compress(written, noise_bytes=noise)
    assert decompress(packed, "zstd", len(written)) == written and len(packed) < len(compress(written))


def test_block_without_a_codebook_at_hand_is_refused() -> None:
    with pytest.raises(InvalidPattern, match=r"global.similar: expected a list of patterns, as no codebook is at hand"):
        decode_reply(body(answer(3), Media.MSGPACK), Media.MSGPACK)


@BOTH
@pytest.mark.parametrize(("field", "bad"), [("similar", b"\2"), ("trending", b"\2"), ("removed", bytes(101))])
def test_wrong_block_is_named(field: str, bad: bytes, media: Media) -> None:
    fields = decode(body(answer(3), Media.MSGPACK), Media.MSGPACK)
    fields["global"][field] = bad
    with pytest.raises(InvalidPattern, match=f"global.{field}"):
        decode_reply(encode(fields, media), media, HELD)


def test_whole_list_of_patterns_without_embeddings_is_refused() -> None:
    told = answer(3, [True, False, True])
    told.reset = True
    with pytest.raises(InvalidPattern, match=r"similar\[2\].embedding: expected an embedding"):
        decode_reply(body(told, Media.MSGPACK), Media.MSGPACK, HELD)


# Rounding


def test_rounding_twice_is_rounding_once() -> None:
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(rounding.rate_bytes(rounding.rates_of(every)), every)
    codes = np.arange(1, blocks.COUNT_CODE_MAX + 1, dtype=np.uint8)
    np.testing.assert_array_equal(rounding.count_bytes(rounding.counts_of(codes)), codes)


def test_counts_rise_with_their_codes_and_cover_all() -> None:
    counts = rounding.counts_of(np.arange(blocks.COUNT_CODE_MAX + 1, dtype=np.uint8)).tolist()
    assert counts[:17] == list(range(17)) and all(low < high for low, high in itertools.pairwise(counts))
    for count in (1, 16, 17, 983_040, limits.SAMPLE_COUNT_MAX):
        back = int(rounding.counts_of(rounding.count_bytes(np.array([count], np.uint32)))[0])
        assert abs(back - count) <= count / 16 and 1 <= back <= limits.SAMPLE_COUNT_MAX


def test_times_beyond_the_last_day_are_that_day() -> None:
    days = rounding.days(np.array([0, DAY_S - 1, DAY_S, limits.UNIX_SECONDS_MAX]))
    assert days.tolist() == [0, 0, 1, blocks.DAY_MAX]


@given(st.integers(0, 2**32 - 1))
def test_what_is_written_is_read(seed: int) -> None:
    compact.read_similar(similar_block(seed), HELD, "similar", _refuse)
    compact.read_trends(trends_block(seed), "trends", _refuse)


# Hostile bytes

KEPT = {path.name: path.read_bytes() for path in sorted(CORPUS.glob("*.bin"))}


def check_similar(block: bytes) -> None:
    """Refused, or all of it within bounds."""
    try:
        found = compact.read_similar(block, HELD, "similar", _refuse)
    except Problem:
        return
    n = len(found.handles)
    assert n <= limits.SIMILAR_MAX and len({*found.handles.tolist()}) == n == len(found.contexts)
    assert found.rates.min(initial=0) >= 0 and found.rates.max(initial=0) <= 1
    assert found.counts.min(initial=1) >= 1 and found.counts.max(initial=1) <= limits.SAMPLE_COUNT_MAX
    assert found.codes[found.whole].any(axis=1).all() and found.codes.min(initial=0) >= -127
    for times in (found.created_at, found.updated_at):
        assert times.min(initial=0) >= 0 and times.max(initial=0) <= limits.UNIX_SECONDS_MAX
    for context in found.contexts:
        words = (context.time_of_day, context.day_of_week, context.content_type, *context.genre_hints)
        assert len(words) <= 3 + limits.GENRE_HINTS_MAX
        assert all(len(word.encode()) <= limits.CONTEXT_STRING_BYTES_MAX and "\0" not in word for word in words)


def check_trends(block: bytes) -> None:
    try:
        found = compact.read_trends(block, "trends", _refuse)
    except Problem:
        return
    assert len(found) <= limits.TRENDING_MAX
    for trend in found:
        assert 0 <= trend.trending_score <= 1 and 1 <= len(trend.content_id.encode()) <= limits.CONTENT_ID_BYTES_MAX


@given(st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_damaged_blocks_are_refused_or_sound(number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check_similar(damaged(similar_block(number, 1 + number), rng))
    check_trends(damaged(trends_block(number), rng))


@given(st.binary(max_size=200))
@example(b"")
def test_any_bytes_are_refused_or_sound(tail: bytes) -> None:
    for block in (tail, b"\1" + tail, b"\1" + HELD.stamp + tail, b"\1" + HELD.stamp + b"\2\1\0\0" + tail):
        check_similar(block)
        check_trends(block)


@pytest.mark.parametrize("name", KEPT)
def test_what_was_once_found_is_refused(name: str) -> None:
    with pytest.raises(Problem) as refused:
        if ".s." in name:
            compact.read_similar(KEPT[name], HELD, "similar", _refuse)
        else:
            compact.read_trends(KEPT[name], "trends", _refuse)
    assert refused.value.detail


def test_damaged_replies_are_refused_or_read(rng: np.random.Generator) -> None:
    for media in Media:
        whole = body(answer(20), media)
        for _ in range(300):
            try:
                decode_reply(damaged(whole, rng), media, HELD)
            except Problem as problem:
                assert problem.detail

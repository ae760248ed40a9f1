"""What a TV does with every kind of answer: nothing told is lost, nothing is told twice, and lists are the shard's."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from random import Random

import msgspec
import numpy as np
import pytest

from constellation.client import BadReply, Client, Refused, SyncReport, Unreachable, WrongDigest, open_session
from constellation.client.transport import ATTEMPTS_MAX
from constellation.model import Accepted, Applied, Context, Delta, NextSync, PatternBatch, Trend
from constellation.wire.body import decompress, unpack
from constellation.wire.dictionary import NO_DICTIONARY, newest
from constellation.wire.media import Media
from constellation.wire.sync import decode_sync, encode_sync
from tests.client.peer import Heard, Peer, answer, peer
from tests.wire.samples import whole_answer

DEVICE = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")
NOW_S = 1_760_000_000.5
CONTEXT = Context("evening", "weekend", "movie", ("drama",))
LIMIT_BYTES = 1 << 20


def test_first_sequence_is_the_clock_and_later_ones_grow() -> None:
    async def story(tv: Client) -> None:
        await tv.sync()
        await tv.sync()

    heard = _tell(story, reply(), reply())
    sequences = [_delta(each).sequence for each in heard]
    assert sequences == [1_760_000_000_501, 1_760_000_000_502]


def test_version_of_the_reply_is_the_next_cursor() -> None:
    async def story(tv: Client) -> None:
        await tv.sync()
        await tv.sync()

    heard = _tell(story, reply(version=77), reply(version=78))
    assert [_delta(each).local_version for each in heard] == [None, 77]


def test_next_sync_is_drawn_from_the_given_span() -> None:
    async def story(tv: Client) -> None:
        for _ in range(20):
            await tv.sync()
            drawn.append(tv.next_sync_s)

    drawn: list[float] = []
    _tell(story, *[reply(next_sync=NextSync(300, 600))] * 20)
    assert all(300 <= seconds <= 900 for seconds in drawn)
    assert max(drawn) - min(drawn) > 200


def test_delta_whose_answer_never_came_goes_again_unchanged_whatever_was_learned_since() -> None:
    async def story(tv: Client) -> None:
        learn(tv, 1)
        with pytest.raises(Unreachable):
            await tv.sync()
        learn(tv, 2)
        await tv.sync()
        await tv.sync()

    heard = _tell(story, *[b""] * ATTEMPTS_MAX, reply(), reply())
    assert len({each.body for each in heard[: ATTEMPTS_MAX + 1]}) == 1
    assert _numbers(heard[ATTEMPTS_MAX]) == [1]
    assert _numbers(heard[-1]) == [2]
    assert _delta(heard[-1]).sequence == (_delta(heard[0]).sequence or 0) + 1


def test_sync_that_was_cancelled_leaves_its_delta_in_flight() -> None:
    waiting = asyncio.Event()

    async def wait_for_ever(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def story(tv: Client) -> None:
        learn(tv, 1)
        syncing = asyncio.create_task(tv.sync())
        await waiting.wait()
        syncing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await syncing
        learn(tv, 2)
        await tv.sync()

    heard = _tell(story, b"", reply(), sleep=wait_for_ever)
    assert heard[0].body == heard[1].body


def test_sequence_that_was_used_for_other_content_is_given_up() -> None:
    async def story(tv: Client) -> None:
        learn(tv, 1)
        await tv.sync()

    conflict = answer(409, {"code": "sequence_conflict", "detail": "used", "last_sequence": 1_760_000_900_000})
    heard = _tell(story, conflict, reply())
    assert _delta(heard[1]).sequence == 1_760_000_900_001
    assert _numbers(heard[1]) == [1]


def test_tv_behind_the_shard_catches_up_and_tells_again() -> None:
    async def story(tv: Client) -> None:
        learn(tv, 1)
        await tv.sync()

    behind = reply(accepted=Accepted(duplicate=True), last_sequence=1_760_000_900_000)
    heard = _tell(story, behind, reply())
    assert _delta(heard[1]).sequence == 1_760_000_900_001
    assert _numbers(heard[1]) == [1]


def test_duplicate_of_its_own_delta_counts_as_told() -> None:
    async def story(tv: Client) -> None:
        learn(tv, 1)
        report = await tv.sync()
        assert report.accepted.duplicate and report.attempts == 2
        await tv.sync()

    repeated = reply(accepted=Accepted(duplicate=True), last_sequence=1_760_000_000_501)
    heard = _tell(story, b"", repeated, reply())
    assert _numbers(heard[2]) == []


def test_named_pattern_is_left_out_and_the_others_go() -> None:
    async def story(tv: Client) -> None:
        for number in (1, 2, 3):
            learn(tv, number)
        await tv.sync()

    refusal = answer(422, {"code": "invalid_pattern", "detail": "no", "path": "delta.patterns_added[1].context"})
    heard = _tell(story, refusal, reply())
    before = _numbers(heard[0])
    assert _numbers(heard[1]) == [before[0], before[2]]


def test_refused_pattern_that_was_forgotten_meanwhile_stands_in_nobodys_way() -> None:
    async def story(tv: Client) -> None:
        learn(tv, 1)
        waiting.append(tv)
        await tv.sync()

    async def forget(_: float) -> None:
        waiting.pop().forget(uuid.UUID(int=1))

    waiting: list[Client] = []
    refusal = answer(422, {"code": "invalid_pattern", "path": "delta.patterns_added[0].context"})
    heard = _tell(story, b"", refusal, reply(), sleep=forget)
    assert _numbers(heard[2]) == []


def test_refusal_that_names_nothing_we_sent_is_raised() -> None:
    async def story(tv: Client) -> None:
        with pytest.raises(Refused, match="invalid_pattern"):
            await tv.sync()

    _tell(story, answer(422, {"code": "invalid_pattern", "path": "delta.patterns_added[7].id"}))


def test_shard_without_the_dictionary_gets_the_same_delta_plain_and_later_ones_too() -> None:
    async def story(tv: Client) -> None:
        learn(tv, 1)
        await tv.sync()
        learn(tv, 2)
        await tv.sync()

    unknown = answer(415, {"code": "unknown_dictionary", "detail": "not known here"})
    heard = _tell(story, unknown, reply(), reply())
    assert [_dictionary(each) for each in heard] == [newest(), NO_DICTIONARY, NO_DICTIONARY]
    assert decompress(heard[0].body, "zstd", LIMIT_BYTES) == decompress(heard[1].body, "zstd", LIMIT_BYTES)
    assert [_numbers(each) for each in heard] == [[1], [1], [2]]


def test_delta_that_may_have_been_taken_keeps_its_sequence_when_it_goes_plain() -> None:
    """The first attempt may have been applied before the shard was replaced by one that lacks the dictionary."""

    async def story(tv: Client) -> None:
        learn(tv, 1)
        with pytest.raises(Unreachable):
            await tv.sync()
        learn(tv, 2)
        await tv.sync()

    unknown = answer(415, {"code": "unknown_dictionary"})
    heard = _tell(story, *[b""] * ATTEMPTS_MAX, unknown, reply())
    assert _delta(heard[-1]).sequence == _delta(heard[0]).sequence
    assert _numbers(heard[-1]) == [1]


def test_shard_that_refuses_plain_bodies_for_their_dictionary_is_given_up() -> None:
    async def story(tv: Client) -> None:
        with pytest.raises(Refused, match="unknown_dictionary"):
            await tv.sync()

    unknown = answer(415, {"code": "unknown_dictionary"})
    _tell(story, unknown, unknown)


@pytest.mark.parametrize("status", [413, 422])
def test_delta_that_is_too_large_goes_in_halves(status: int) -> None:
    async def story(tv: Client) -> None:
        for number in range(1, 9):
            learn(tv, number)
        await tv.sync()
        await tv.sync()

    code = "too_large" if status == 413 else "too_many_patterns"
    heard = _tell(story, answer(status, {"code": code}), reply(), reply())
    assert [len(_numbers(each)) for each in heard] == [8, 4, 4]
    assert sorted(_numbers(heard[1]) + _numbers(heard[2])) == list(range(1, 9))


@pytest.mark.parametrize(("status", "code"), [(413, "too_large"), (422, "invalid_parameter"), (404, "not_found")])
def test_refusal_that_nothing_helps_is_raised(status: int, code: str) -> None:
    async def story(tv: Client) -> None:
        with pytest.raises(Refused, match=code):
            await tv.sync()

    assert len(_tell(story, answer(status, {"code": code}))) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_delta_whose_token_was_refused_goes_again_unchanged(status: int) -> None:
    """It may have been taken at the attempt before, whose answer was lost."""

    async def story(tv: Client) -> None:
        learn(tv, 1)
        with pytest.raises(Refused):
            await tv.sync()
        learn(tv, 2)
        await tv.sync()

    heard = _tell(story, b"", answer(status, {}), reply())
    assert len({each.body for each in heard}) == 1 and len(heard) == 3


def test_unreadable_reply_is_raised_and_the_delta_is_told_again() -> None:
    async def story(tv: Client) -> None:
        learn(tv, 1)
        with pytest.raises(BadReply):
            await tv.sync()
        await tv.sync()

    heard = _tell(story, answer(200, b"\xc1"), reply())
    assert heard[0].body == heard[1].body, "the shard may have applied it: only the same bytes are safe"


def test_whole_list_replaces_what_was_received() -> None:
    async def story(tv: Client) -> None:
        await tv.sync()
        assert _received(tv) == {1: 0.9, 2: 0.9} and [trend.content_id for trend in tv.trending] == ["film:a"]
        await tv.sync()
        assert _received(tv) == {3: 0.9}

    _tell(story, reply(similar=batch(1, 2), trending=[Trend("film:a", 1.0, "local")]), reply(similar=batch(3)))


def test_list_that_its_digest_does_not_name_is_not_taken() -> None:
    async def story(tv: Client) -> None:
        await tv.sync()
        with pytest.raises(WrongDigest):
            await tv.sync()
        assert _received(tv) == {1: 0.9}

    _tell(story, reply(similar=batch(1)), reply(similar=batch(2), digest="0123456789abcdef"))


def test_patch_of_another_list_makes_the_tv_ask_for_the_whole() -> None:
    async def story(tv: Client) -> None:
        learn(tv, 1)
        await tv.sync()
        learn(tv, 2)
        await tv.sync()
        assert _received(tv) == {4: 0.9}

    wrong = reply(similar=batch(3), digest="0123456789abcdef", reset=False)
    heard = _tell(story, reply(similar=batch(1), version=7), wrong, reply(similar=batch(4)))
    assert [_delta(each).local_version for each in heard] == [None, 7, None]
    assert [_numbers(each) for each in heard] == [[1], [2], []], "what the shard applied is not told again"


def test_received_patterns_are_never_uploaded() -> None:
    async def story(tv: Client) -> None:
        await tv.sync()
        assert len(tv.neighbours) == 2
        learn(tv, 9)
        await tv.sync()

    heard = _tell(story, reply(similar=batch(1, 2)), reply())
    assert _numbers(heard[1]) == [9]


def test_two_syncs_at_once_go_one_after_the_other() -> None:
    async def story(tv: Client) -> None:
        learn(tv, 1)
        await asyncio.gather(tv.sync(), tv.sync())

    heard = _tell(story, reply(), reply())
    assert [_numbers(each) for each in heard] == [[1], []]


def test_report_counts_the_bytes_that_went_over_the_wire() -> None:
    async def story(tv: Client) -> None:
        report = await tv.sync()
        assert isinstance(report, SyncReport)
        reports.append(report)

    reports: list[SyncReport] = []
    sent = reply(similar=batch(1))
    heard = _tell(story, sent)
    assert reports[0].bytes_up == len(heard[0].body)
    assert reports[0].bytes_down == len(sent.split(b"\r\n\r\n", 1)[1])


def learn(tv: Client, number: int) -> None:
    embedding = np.random.default_rng(number).standard_normal(384)
    tv.learn(embedding, success_rate=0.9, sample_count=20, context=CONTEXT, pattern_id=uuid.UUID(int=number))


def batch(*numbers: int, rate: float = 0.9) -> PatternBatch:
    count = len(numbers)
    return PatternBatch(
        ids=np.frombuffer(b"".join(uuid.UUID(int=number).bytes for number in numbers), np.uint8).reshape(-1, 16),
        codes=np.full((count, 384), 127, np.int8),
        rates=np.full(count, rate, np.float32),
        counts=np.full(count, 20, np.uint32),
        created_at=np.full(count, 100, np.int64),
        updated_at=np.full(count, 200, np.int64),
        contexts=[CONTEXT] * count,
    )


def reply(
    similar: PatternBatch | None = None,
    *,
    trending: list[Trend] | None = None,
    version: int = 5,
    accepted: Accepted | None = None,
    last_sequence: int | None = None,
    next_sync: NextSync | None = None,
    digest: str | None = None,
    reset: bool = True,
) -> bytes:
    """A 200 as the service would encode it."""
    similar = similar or batch()
    body = encode_sync(
        whole_answer(similar, trending or [], version, digest),
        Applied(accepted or Accepted(), last_sequence, version),
        next_sync or NextSync(300, 600),
        Media.MSGPACK,
        "i8",
    )
    fields = msgspec.msgpack.decode(body)
    fields["global"]["reset"] = reset
    return answer(200, fields)


async def _no_sleep(_: float) -> None:
    """Backoff takes no time here; how long it would be is tested with the transport."""


def _tell(
    story: Callable[[Client], Awaitable[None]],
    *answers: bytes,
    sleep: Callable[[float], Awaitable[None]] = _no_sleep,
) -> list[Heard]:
    """Run one TV's story against a peer that gives these answers; returns what the peer heard, all of it answered."""

    async def run() -> Peer:
        async with peer(*answers) as listening, open_session() as session:
            await story(Client(listening.url, DEVICE, session, rng=Random(1), clock=lambda: NOW_S, sleep=sleep))
            return listening

    listening = asyncio.run(run())
    assert len(listening.heard) == len(answers), "every answer was asked for"
    return listening.heard


def _delta(heard: Heard) -> Delta:
    request = decode_sync(decompress(heard.body, heard.headers["content-encoding"], LIMIT_BYTES), Media.MSGPACK)
    assert request.device_id == DEVICE.bytes and heard.headers["x-device-id"] == str(DEVICE)
    return request.delta


def _dictionary(heard: Heard) -> int:
    return unpack(heard.body, heard.headers["content-encoding"], LIMIT_BYTES).dictionary


def _numbers(heard: Heard) -> list[int]:
    """Which patterns were added."""
    return [int.from_bytes(row.tobytes(), "big") for row in _delta(heard).added.ids]


def _received(tv: Client) -> dict[int, float]:
    ids, rates = tv.neighbours.ids, tv.neighbours.rates
    return {int.from_bytes(key.tobytes(), "big"): round(float(rate), 3) for key, rate in zip(ids, rates, strict=True)}

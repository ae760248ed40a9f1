"""A body is sent, unchanged, until it is answered; waits grow, and are at least what the shard asked for."""

import asyncio
import contextlib
import email.utils
import time
from random import Random

import msgspec
import pytest

from constellation.client import Refused, Transport, Unreachable, open_session
from constellation.client.transport import ATTEMPTS_MAX, BACKOFF_FIRST_S, REDIRECTS_MAX, RETRY_AFTER_S_MAX, Answered
from constellation.wire.body import compress
from tests.client.peer import Peer, answer, peer


class Waits:
    """Stands in for time: writes down how long the client would have slept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


def post(*answers: bytes, waits: Waits | None = None) -> tuple[Answered, Peer]:
    async def run() -> tuple[Answered, Peer]:
        async with peer(*answers) as listening, open_session() as session:
            transport = Transport(listening.url, session, Random(1), (waits or Waits()).sleep)
            return await transport.post(b"delta", {"X-Device-Id": "x"}), listening

    return asyncio.run(run())


def test_answer_comes_back_decompressed_with_its_cost() -> None:
    content = compress(b"reply" * 100)
    answered, listening = post(answer(200, content, Content_Encoding="zstd"))
    assert answered == Answered(b"reply" * 100, len(content), 1)
    assert listening.heard[0].headers["x-device-id"] == "x"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_same_bytes_go_again_after_a_passing_refusal(status: int) -> None:
    answered, listening = post(answer(status), answer(status), answer(200, b"ok"))
    assert (answered.body, answered.attempts) == (b"ok", 3)
    assert [heard.body for heard in listening.heard] == [b"delta"] * 3


def test_same_bytes_go_again_after_a_lost_connection() -> None:
    answered, listening = post(b"", answer(200, b"ok"))
    assert (answered.body, answered.attempts) == (b"ok", 2)
    assert [heard.body for heard in listening.heard] == [b"delta"] * 2


def test_damaged_answer_is_asked_for_again() -> None:
    answered, _ = post(answer(200, b"no zstd frame", Content_Encoding="zstd"), answer(200, b"ok"))
    assert (answered.body, answered.attempts) == (b"ok", 2)


def test_wait_is_at_least_what_the_shard_asks_for() -> None:
    waits = Waits()
    post(answer(503, Retry_After="7"), answer(200, b"ok"), waits=waits)
    assert 7 <= waits.seconds[0] <= 7 + BACKOFF_FIRST_S


def test_wait_may_be_asked_for_as_a_date() -> None:
    waits = Waits()
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    post(answer(503, Retry_After=date), answer(200, b"ok"), waits=waits)
    assert 90 <= waits.seconds[0] <= 101


def test_unreadable_retry_after_counts_as_none() -> None:
    waits = Waits()
    post(answer(503, Retry_After="soon"), answer(200, b"ok"), waits=waits)
    assert waits.seconds[0] <= BACKOFF_FIRST_S


def test_waits_grow_and_end() -> None:
    waits = Waits()
    with pytest.raises(Unreachable, match="503"):
        post(*[answer(503)] * ATTEMPTS_MAX, waits=waits)
    assert len(waits.seconds) == ATTEMPTS_MAX - 1
    assert all(0 <= waited <= BACKOFF_FIRST_S * 2**number for number, waited in enumerate(waits.seconds))


def test_too_long_a_wait_is_left_to_the_next_sync() -> None:
    waits = Waits()
    with pytest.raises(Unreachable):
        post(answer(503, Retry_After=str(int(RETRY_AFTER_S_MAX) + 1)), waits=waits)
    assert waits.seconds == []


def test_lasting_refusal_carries_the_problem_and_is_not_repeated() -> None:
    problem = {"status": 422, "code": "invalid_pattern", "detail": "wrong", "path": "delta.patterns_added[0]"}
    with pytest.raises(Refused) as refused:
        post(answer(422, problem))
    assert (refused.value.status, refused.value.code) == (422, "invalid_pattern")
    assert refused.value.path == "delta.patterns_added[0]"


@pytest.mark.parametrize("body", [b"<html>", b"\xc1", b"\x91" * 5_000])
def test_refusal_by_a_stranger_is_still_a_refusal(body: bytes) -> None:
    with pytest.raises(Refused, match="404"):
        post(answer(404, body))


def asked(first: list[bytes], second: list[bytes], known: bool, token: str | None = "t") -> tuple[Peer, Peer]:
    """A TV that is sent from the first peer to the second, which is a shard of the first one's map if `known`."""

    async def run() -> tuple[Peer, Peer]:
        async with peer(*second) as other, open_session() as session:
            shards = {"shards": [{"id": "b", "url": other.url if known else "http://127.0.0.1:1"}]}
            answers = [answer(307, {}, Location=f"{other.url}/sync?a=1"), json_answer(shards), *first]
            async with peer(*(answers if token else answers[:1])) as listening:
                transport = Transport(f"{listening.url}/sync", session, Random(1), Waits().sleep, token)
                with contextlib.suppress(Refused):
                    await transport.post(b"delta", {}, {"a": "1"})
                    await transport.post(b"delta", {}, {"a": "1"})
                return listening, other

    return asyncio.run(run())


def json_answer(body: object) -> bytes:
    return answer(200, msgspec.json.encode(body))


def test_token_goes_along_to_a_shard_of_the_map_and_stays_there() -> None:
    first, second = asked([], [answer(200, b"ok")] * 2, known=True)
    assert [heard.headers["authorization"] for heard in first.heard] == ["Bearer t"] * 2
    assert first.heard[1].raw.startswith(b"GET /api/v1/shards ")
    assert [heard.headers["authorization"] for heard in second.heard] == ["Bearer t"] * 2
    assert [heard.body for heard in second.heard] == [b"delta"] * 2
    assert all(heard.raw.startswith(b"POST /sync?a=1 ") for heard in second.heard)


def test_token_does_not_go_to_a_stranger() -> None:
    _, second = asked([], [answer(401, {"code": "unauthenticated"})], known=False)
    assert len(second.heard) == 1 and "authorization" not in second.heard[0].headers


def test_stranger_that_answers_is_not_remembered() -> None:
    async def run() -> tuple[str, str]:
        async with (
            peer(answer(200, b"ok")) as other,
            peer(answer(307, {}, Location=other.url), json_answer({"shards": []})) as listening,
            open_session() as session,
        ):
            transport = Transport(listening.url, session, Random(1), Waits().sleep, "t")
            await transport.post(b"delta", {})
            return transport.url, listening.url

    remembered, first = asyncio.run(run())
    assert remembered == first


def test_map_of_a_stranger_is_not_asked_for() -> None:
    """Who is sent on by a stranger, to whomever, shows no token."""

    async def run() -> list[Peer]:
        async with peer(answer(401, {})) as third, peer(answer(307, {}, Location=f"{third.url}/")) as second:
            first_answers = answer(307, {}, Location=f"{second.url}/"), json_answer({"shards": []})
            async with peer(*first_answers) as first, open_session() as session:
                with pytest.raises(Refused):
                    await Transport(first.url, session, Random(1), Waits().sleep, "t").post(b"delta", {})
                return [second, third]

    for listening in asyncio.run(run()):
        assert len(listening.heard) == 1 and "authorization" not in listening.heard[0].headers


def test_without_a_token_nobody_is_asked_for_a_map() -> None:
    first, second = asked([], [answer(200, b"ok")] * 2, known=False, token=None)
    assert len(first.heard) == 1 and len(second.heard) == 2


def test_token_is_asked_for_at_every_request() -> None:
    tokens = iter(("one", "two"))

    async def run() -> Peer:
        async with peer(answer(503), answer(200, b"ok")) as listening, open_session() as session:
            await Transport(listening.url, session, Random(1), Waits().sleep, lambda: next(tokens)).post(b"x", {})
            return listening

    heard = asyncio.run(run()).heard
    assert [each.headers["authorization"] for each in heard] == ["Bearer one", "Bearer two"]


def test_redirects_have_an_end() -> None:
    async def run() -> int:
        async with peer(*[answer(307, {}, Location="/")] * (REDIRECTS_MAX + 1)) as listening, open_session() as session:
            with pytest.raises(Refused, match="307"):
                await Transport(listening.url, session, Random(1), Waits().sleep).post(b"x", {})
            return len(listening.heard)

    assert asyncio.run(run()) == REDIRECTS_MAX + 1


@pytest.mark.parametrize("location", ["http://[", "ftp://127.0.0.1/", "http://"])
def test_redirect_to_no_address_is_a_failure_that_passes(location: str) -> None:
    answered, _ = post(answer(307, {}, Location=location), answer(200, b"ok"))
    assert answered.body == b"ok"

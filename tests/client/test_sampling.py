"""Sampling shards: as many of each as it takes, none twice, and what is no sample is refused."""

import asyncio

import msgspec
import numpy as np
import pytest

from constellation.client import BadReply, Refused
from constellation.client.sampling import Sampled, sample_shards
from constellation.limits import SAMPLE_MAX
from constellation.model import DIM, Codes
from tests.client.peer import Peer, answer, peer
from tests.kernels.material import random_codes

CODES = random_codes(1, 12, DIM)


def info(version: object) -> bytes:
    return answer(200, msgspec.json.encode({"codebook_version": version}))


def sample(codes: Codes) -> bytes:
    return answer(200, codes.tobytes())


def ask(wanted: int, *shards: tuple[bytes, ...]) -> tuple[Sampled, list[Peer], list[int]]:
    """What shards that answer so give together, the shards, and the progress."""
    progress: list[int] = []

    async def run(left: list[tuple[bytes, ...]], listening: list[Peer]) -> tuple[Sampled, list[Peer]]:
        if left:
            async with peer(*left[0]) as one:
                return await run(left[1:], [*listening, one])
        return await sample_shards([one.url for one in listening], wanted, progress.append), listening

    sampled, listening = asyncio.run(run(list(shards), []))
    return sampled, listening, progress


def asked(shard: Peer) -> list[str]:
    return [heard.raw.split()[1].decode() for heard in shard.heard]


def test_each_shard_gives_its_part_and_no_pattern_counts_twice() -> None:
    once = np.unique(CODES, axis=0)
    assert len(once) < len(CODES), "some of them are equal"
    sampled, shards, progress = ask(15, (info(3), sample(CODES[:8])), (info(2), sample(CODES[4:])))
    assert [asked(shard) for shard in shards] == [["/api/v1/info", "/api/v1/sample?limit=8"]] * 2
    assert sampled.codebook_version == 3 and progress == [8, 16]
    np.testing.assert_array_equal(np.unique(sampled.codes, axis=0), once)
    assert len(sampled.codes) == len(once)


def test_more_than_one_answer_may_hold_is_asked_for_again() -> None:
    _, (shard,), _ = ask(SAMPLE_MAX + 5, (info(1), sample(CODES), sample(CODES[:5])))
    assert asked(shard)[1:] == [f"/api/v1/sample?limit={SAMPLE_MAX}", "/api/v1/sample?limit=5"]


def test_shards_without_patterns_give_none() -> None:
    assert ask(5, (info(1), sample(CODES[:0])))[0].codes.shape == (0, DIM)


@pytest.mark.parametrize(
    "answers",
    [
        (info(None),),
        (answer(200, b"<html>"),),
        (info(1), answer(200, bytes(DIM + 1))),
        (info(1), answer(200, bytes(DIM))),
        (info(1), answer(200, b"\x80" * DIM)),
    ],
)
def test_what_is_no_answer_of_a_shard_is_refused(answers: tuple[bytes, ...]) -> None:
    with pytest.raises(BadReply, match=r"http://127\.0\.0\.1:\d+ "):
        ask(5, answers)


def test_shard_that_refuses_is_quoted() -> None:
    with pytest.raises(Refused, match="403 forbidden: aggregates only"):
        ask(5, (info(1), answer(403, {"code": "forbidden", "detail": "aggregates only"})))

"""Replies that patch the list give, as a set, the list that the digest names."""

import numpy as np
import numpy.typing as npt
import pytest

from constellation.client.failures import WrongDigest
from constellation.client.received import Received
from constellation.digest import answer_digest
from constellation.model import Accepted, Context, Ids, NextSync, PatternBatch, Trend
from constellation.wire.reply import Reply

Revisions = dict[int, int]
"""Pattern number -> its sample count, which stands for the revision."""


def test_patch_equals_the_whole_list(rng: np.random.Generator) -> None:
    received, model = Received(), dict[int, int]()
    received.take(_reply(model, model, reset=True))
    for version in range(200):
        gone = [number for number in model if rng.random() < 0.2]
        changed = {number: version + 1 for number in rng.integers(0, 300, size=8).tolist() if number not in gone}
        model = {number: count for number, count in model.items() if number not in gone} | changed
        received.take(_reply(changed, model, reset=False, removed=gone, version=version))
        assert _as_model(received.similar) == model
        assert received.version == version


def test_patch_for_another_list_is_refused_and_changes_nothing() -> None:
    received = Received()
    received.take(_reply({1: 1}, {1: 1}, reset=True, version=3))
    with pytest.raises(WrongDigest):
        received.take(_reply({2: 1}, {2: 1}, reset=False, version=4))
    assert _as_model(received.similar) == {1: 1} and received.version == 3


def test_what_comes_without_an_embedding_keeps_the_one_it_had(rng: np.random.Generator) -> None:
    received = Received()
    first = _reply({1: 1, 2: 1, 3: 1}, {1: 1, 2: 1, 3: 1}, reset=True)
    first.similar.codes[:] = rng.integers(-127, 128, (3, 384))
    received.take(first)
    second = _reply({3: 7, 4: 7}, {2: 1, 3: 7, 4: 7}, reset=False, removed=[1])
    second.whole[0], second.similar.codes[0] = False, 0
    received.take(second)
    codes = {int(pattern_id[-1]): code.tolist() for pattern_id, code in zip(*_columns(received), strict=True)}
    wanted = first.similar.codes.tolist()
    assert codes == {2: wanted[1], 3: wanted[2], 4: [1] * 384}
    assert _as_model(received.similar) == {2: 1, 3: 7, 4: 7}


def test_a_change_of_a_pattern_that_is_not_there_is_refused_and_changes_nothing() -> None:
    received = Received()
    received.take(_reply({1: 1}, {1: 1}, reset=True))
    change = _reply({2: 5}, {1: 1, 2: 5}, reset=False)
    change.whole[0] = False
    with pytest.raises(WrongDigest, match=r"global.similar\[0\] has no embedding"):
        received.take(change)
    assert _as_model(received.similar) == {1: 1}


def test_ids_that_end_in_zero_bytes_are_told_apart() -> None:
    received = Received()
    numbers = {0: 1, 1 << 120: 1, 1 << 64: 1}
    received.take(_reply(numbers, numbers, reset=True))
    received.take(_reply({}, {0: 1, 1 << 64: 1}, reset=False, removed=[1 << 120]))
    assert _as_model(received.similar) == {0: 1, 1 << 64: 1}


def test_trends_stay_until_others_come() -> None:
    received = Received()
    received.take(_reply({}, {}, reset=True, trending=[Trend("film:a", 1.0, "local")]))
    received.take(_reply({}, {}, reset=False, trending=None))
    assert [trend.content_id for trend in received.trending] == ["film:a"]
    received.take(_reply({}, {}, reset=False, trending=[]))
    assert received.trending == []


def _reply(
    similar: Revisions,
    whole: Revisions,
    *,
    reset: bool,
    removed: list[int] | None = None,
    version: int = 1,
    trending: list[Trend] | None = None,
) -> Reply:
    meant = _batch(whole)
    return Reply(
        similar=_batch(similar),
        whole=np.ones(len(similar), np.bool_),
        origins=["device"] * len(similar),
        trending=trending,
        global_version=version,
        reset=reset,
        removed=_ids(removed or []),
        digest=answer_digest(meant.ids, meant.rates, meant.counts, meant.updated_at),
        accepted=Accepted(),
        last_sequence=None,
        next_sync=NextSync(1, 1),
    )


def _batch(revisions: Revisions) -> PatternBatch:
    count = len(revisions)
    return PatternBatch(
        ids=_ids(list(revisions)),
        codes=np.ones((count, 384), np.int8),
        rates=np.full(count, 0.9, np.float32),
        counts=np.array(list(revisions.values()), np.uint32),
        created_at=np.zeros(count, np.int64),
        updated_at=np.zeros(count, np.int64),
        contexts=[Context("night", "weekday", "movie", ())] * count,
    )


def _columns(received: Received) -> tuple[Ids, npt.NDArray[np.int8]]:
    return received.similar.ids, received.similar.codes


def _ids(numbers: list[int]) -> Ids:
    raw = b"".join(number.to_bytes(16, "big") for number in numbers)
    ids: npt.NDArray[np.uint8] = np.frombuffer(raw, np.uint8).reshape(-1, 16)
    return ids


def _as_model(batch: PatternBatch) -> Revisions:
    return {
        int.from_bytes(key.tobytes(), "big"): int(count) for key, count in zip(batch.ids, batch.counts, strict=True)
    }

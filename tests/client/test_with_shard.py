"""TVs against a real shard process: what one tells another hears, and a lost reply changes nothing."""

import asyncio
import json
import urllib.request
import uuid
from collections.abc import Iterator
from random import Random

import numpy as np
import numpy.typing as npt
import pytest

from constellation.client import Client, SyncClient, SyncReport, device, open_session
from constellation.model import Context
from constellation.wire import body, dictionary
from tests.api.process import serving
from tests.client.peer import losing_replies

NEWER = 40_000
"""A dictionary that this release does not have."""
CONTEXT = Context("evening", "weekend", "movie", ("drama",))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as server:
        yield server.url


def test_what_one_tv_learned_reaches_another_with_its_taste(url: str, rng: np.random.Generator) -> None:
    taste = rng.standard_normal(384)
    with SyncClient(url, uuid.uuid4()) as one, SyncClient(url, uuid.uuid4()) as other:
        told = one.learn(taste, success_rate=0.95, sample_count=30, context=CONTEXT)
        assert one.sync().accepted.added == 1
        other.learn(_near(taste, rng), success_rate=0.9, sample_count=12, context=CONTEXT)
        other.sync()
        first = other.neighbours
        assert uuid.UUID(bytes=first.ids[0].tobytes()) == told
        assert float(first.rates[0]) == pytest.approx(0.95) and first.counts[0] == 30
        assert first.contexts[0] == CONTEXT
        assert other.next_sync_s > 0
        assert one.neighbours.ids.tobytes().find(told.bytes) < 0, "nobody receives what it told itself"


def test_updates_and_removals_reach_the_shard(url: str, rng: np.random.Generator) -> None:
    with SyncClient(url, uuid.uuid4()) as tv:
        kept = tv.learn(rng.standard_normal(384), success_rate=0.9, sample_count=20, context=CONTEXT)
        dropped = tv.learn(rng.standard_normal(384), success_rate=0.9, sample_count=20, context=CONTEXT)
        tv.sync()
        before = _stats(url)["patterns_stored"]
        tv.observe(kept, success_rate=1.0, samples=5)
        tv.forget(dropped)
        accepted = tv.sync().accepted
        assert (accepted.added, accepted.updated, accepted.removed, accepted.rejected) == (0, 1, 1, 0)
        assert _stats(url)["patterns_stored"] == before - 1


def test_lost_reply_is_asked_for_again_and_applied_once(url: str, rng: np.random.Generator) -> None:
    """The shard applies a delta whose reply is lost; the repeat is a duplicate and leaves the same state."""
    embedding = rng.standard_normal(384)
    before = _stats(url)

    async def run() -> tuple[SyncReport, SyncReport]:
        async with losing_replies(url, 1) as lossy, open_session() as session:
            tv = Client(lossy, uuid.uuid4(), session, rng=Random(1), sleep=lambda _: asyncio.sleep(0))
            tv.learn(embedding, success_rate=0.9, sample_count=20, context=CONTEXT)
            return await tv.sync(), await tv.sync()

    repeated, after = asyncio.run(run())
    assert repeated.attempts == 2 and repeated.accepted.duplicate
    assert not after.accepted.duplicate and after.accepted.added == 0
    stats = _stats(url)
    assert stats["patterns_stored"] == before["patterns_stored"] + 1
    assert stats["total_devices"] == before["total_devices"] + 1


def test_a_tv_that_is_up_to_date_receives_what_changed(url: str, rng: np.random.Generator) -> None:
    """A reply that is lost changes nothing of that."""
    taste = rng.standard_normal(384)

    async def run() -> None:
        async with losing_replies(url, 0) as whole, open_session() as session:
            one = Client(url, uuid.uuid4(), session)
            for _ in range(20):
                told = one.learn(_near(taste, rng), success_rate=0.9, sample_count=20, context=CONTEXT)
            await one.sync()
            other = Client(whole, uuid.uuid4(), session, rng=Random(1), sleep=lambda _: asyncio.sleep(0))
            other.learn(taste, success_rate=0.9, sample_count=20, context=CONTEXT)
            cold = await other.sync()
            assert cold.bytes_down > 20 * 384
            one.observe(told, success_rate=1.0, samples=5)
            await one.sync()
            async with losing_replies(url, 1) as lossy:
                again = Client(lossy, uuid.UUID(bytes=other._device_id), session, sleep=lambda _: asyncio.sleep(0))
                again.received, again.learned = other.received, other.learned
                warm = await again.sync()
            assert warm.attempts == 2 and warm.bytes_down < 1_000
            counts = dict(zip(map(bytes, again.neighbours.ids), again.neighbours.counts.tolist(), strict=True))
            assert counts[told.bytes] == 25

    asyncio.run(run())


def test_tv_with_a_clock_set_back_still_gets_everything_told(url: str, rng: np.random.Generator) -> None:
    device, embedding = uuid.uuid4(), rng.standard_normal(384)

    async def run(clock_s: float) -> SyncReport:
        async with open_session() as session:
            tv = Client(url, device, session, clock=lambda: clock_s)
            tv.learn(embedding, success_rate=0.9, sample_count=20, context=CONTEXT)
            return await tv.sync()

    assert asyncio.run(run(2e9)).accepted.added == 1
    report = asyncio.run(run(1e9))
    assert report.accepted.added == 1 and not report.accepted.duplicate


def test_tv_newer_than_its_shard_does_without_its_dictionary(
    url: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = {**dictionary.packaged(), NEWER: dictionary.train([rng.bytes(64) + b"a delta" * 9] * 99, NEWER)}
    monkeypatch.setattr(body, "packaged", lambda: newer)
    monkeypatch.setattr(body, "_contexts", body._Contexts())
    monkeypatch.setattr(device, "newest", lambda: NEWER)
    with SyncClient(url, uuid.uuid4()) as tv:
        tv.learn(rng.standard_normal(384), success_rate=0.9, sample_count=20, context=CONTEXT)
        report = tv.sync()
        assert report.accepted.added == 1 and not report.accepted.duplicate
        assert tv.sync().accepted.added == 0


def test_syncs_with_the_dictionary_are_short_both_ways(url: str, rng: np.random.Generator) -> None:
    with SyncClient(url, uuid.uuid4()) as tv:
        tv.sync()
        assert tv.sync().bytes_up < 64
        for _ in range(2):
            tv.learn(rng.standard_normal(384), success_rate=0.9, sample_count=20, context=CONTEXT)
        assert tv.sync().bytes_up <= 1_024


def _near(vector: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return vector + 0.2 * rng.standard_normal(384)


def _stats(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/api/v1/stats", timeout=10) as response:
        stats: dict[str, float] = json.load(response)
        return stats

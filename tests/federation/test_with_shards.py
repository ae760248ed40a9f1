"""What real shards give is taken, also when devices come and go while they give it."""

from collections.abc import Generator, Iterator

import msgspec
import numpy as np
import pytest

from constellation.federation import FederationCoordinator, RoundTerms
from constellation.model import Context
from constellation.rounds import Partial, decode_partial, encode
from constellation.shard import Shard
from tests.shard.material import START, batch, codebook, context_of, request, settings

SHARDS, DEVICES, MORE, BUCKETS = 3, 300, 40, 8
CODEBOOK = codebook(3, size=BUCKETS)


def terms() -> RoundTerms:
    names = {f"shard-{number}": "eu" for number in range(SHARDS)}
    return RoundTerms(
        round=7, at=START + 60, map_epoch=2, codebook_version=3, buckets=BUCKETS, shards=names, trends_max=2
    )


def learn(shard: Shard, device: int) -> None:
    """Two patterns, of those that lie in the lower buckets for a device that was there from the start."""
    first = device % 4 if device % 1_000 < DEVICES else 4 + device % 4
    shard.apply(request(device, batch([(0, 0.9, 50), (1, 0.8, 200)], codes=[first, first])), START)


def give(number: int) -> Iterator[Partial]:
    """Of shard `number`, to which devices in new buckets come while it counts contexts."""
    shard = Shard(
        msgspec.structs.replace(settings(devices=400), shard_id=f"shard-{number}", region="eu"), codebook=CODEBOOK
    )
    for device in range(DEVICES):
        learn(shard, 1_000 * number + device)
    while shard.maintain():
        pass
    steps: Generator[None, None, Partial | None] = shard.partial(7, 2, 3)
    next(steps)
    for device in range(DEVICES, DEVICES + MORE):
        learn(shard, 1_000 * number + device)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        assert isinstance(end.value, Partial)
        yield decode_partial(encode(end.value))


@pytest.fixture(scope="module")
def partials() -> list[Partial]:
    return [partial for number in range(SHARDS) for partial in give(number)]


def test_contexts_may_be_of_a_later_moment_than_sums(partials: list[Partial]) -> None:
    """Else the next test shows nothing."""
    assert all(not np.isin(one.contexts.buckets, one.buckets.numbers).all() for one in partials)


def test_partials_of_real_shards_become_a_round(partials: list[Partial]) -> None:
    made = FederationCoordinator(terms()).run_federation(partials)
    assert (made.devices, made.patterns) == (SHARDS * DEVICES, 2 * SHARDS * DEVICES)
    prototypes = made.prototypes
    assert prototypes.devices.sum() == SHARDS * DEVICES and prototypes.sources.tolist() == [SHARDS] * len(prototypes)
    np.testing.assert_allclose(prototypes.rates, (0.9 * 50 + 0.8 * 200) / 250, rtol=1e-3)
    own = {context_of(number) for number in range(4)}
    assert {Context(c.time_of_day, c.day_of_week, c.content_type, ()) for c in prototypes.contexts} == {
        Context("evening", "weekend", "movie", ())
    }
    assert {hint for c in prototypes.contexts for hint in c.genre_hints} <= {h for c in own for h in c.genre_hints}
    assert len(made.trends[-1].items) == 2 and made.trends[-1].scores[0] == 1

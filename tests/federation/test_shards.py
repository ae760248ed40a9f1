"""Shards, not descriptions of them: what they give merges, and what comes of it is served beside what each has."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from constellation.federation import FederationCoordinator, RefusedPartial, RoundTerms
from constellation.rounds import GLOBAL, FederationResult, Partial, decode_partial, decode_result, encode
from constellation.shard import Shard
from kernels.codes import inverse_norms
from kernels.trends import HOURS
from tests.shard.material import EVERYTHING, START, batch, codebook, id_of, request, settings
from tests.shard.published import round_of

BOOK = codebook(1, 3)
HOUR = 3_600
KEY = b"of this round"
DEVICES = 8


def shard_of(number: int, region: str = "eu") -> Shard:
    bounds = msgspec.structs.replace(settings(), shard_id=f"shard-{number}", region=region)
    return Shard(bounds, START, codebook=BOOK)


def grouped(shard: Shard) -> Shard:
    while shard.maintain():
        pass
    return shard


def give(shard: Shard, group_key: bytes = b"") -> Partial:
    steps = grouped(shard).partial(1, 1, BOOK.version, group_key)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            assert end.value is not None
            return decode_partial(encode(end.value))


def merged(partials: list[Partial], now: float = START, **more: Any) -> FederationResult:
    shards = {partial.shard_id: partial.region for partial in partials}
    terms = RoundTerms(
        round=1, at=int(now), map_epoch=1, codebook_version=BOOK.version, buckets=len(BOOK), shards=shards, **more
    )
    return decode_result(encode(FederationCoordinator(terms).run_federation(partials)))


def watch(shard: Shard, device: int, pattern: int, samples: int, now: float = START, genre: int | None = None) -> None:
    hint = f"genre {pattern if genre is None else genre}"
    added = batch([(pattern, 0.9, samples)], codes=[pattern % 3], hints=[hint])
    shard.apply(request(device, added), now)


def top(shard: Shard, now: float = START, region: str | None = None) -> dict[str, float]:
    return {trend.content_id: trend.trending_score for trend in shard.trending(50, now, region)}


def test_every_split_of_devices_over_shards_gives_the_same_round(rng: np.random.Generator) -> None:
    """But for how many shards stand behind a prototype."""
    results = []
    for shards in (1, 2, 4):
        parts = [shard_of(number) for number in range(shards)]
        for device in range(DEVICES):
            for pattern in range(device % 4 + 1):
                watch(parts[device % shards], device, 10 * device + pattern, 10 + device)
        results.append(merged([give(part) for part in rng.permutation(np.array(parts, object))]))
    first = results[0].prototypes
    assert len(first) and results[0].devices == DEVICES
    for result in results:
        result.prototypes.sources = first.sources
        assert encode(msgspec.structs.replace(result, trends=[], shards_expected=1, shards_reported=1)) == encode(
            msgspec.structs.replace(results[0], trends=[], shards_expected=1, shards_reported=1)
        )


def test_a_prototype_born_elsewhere_is_served_and_marked() -> None:
    shards = [shard_of(number) for number in range(4)]
    for number in (1, 2, 3):
        for device in range(3):
            watch(shards[number], device, 30 + 3 * device, 50)
    result = merged([give(shard) for shard in shards])
    here = shards[0]
    watch(here, 7, 3, 20)  # alike, and alone on its shard
    assert len(here.answer(id_of(7), EVERYTHING).similar) == 0
    here.publish(result, give(here))
    answer = here.answer(id_of(7), EVERYTHING)
    assert [tuple(backing)[1:] for backing in answer.prototypes.values()] == [(3, 9)]
    assert len(answer.similar) == 1 and answer.prototypes.keys() == {0}
    found = answer.similar
    mean = found.codes[0].astype(float) @ BOOK.codes[0] * inverse_norms(found.codes)[0] * BOOK.inverse[0]
    assert mean > 0.999 and found.rates[0] == pytest.approx(0.9) and found.counts[0] == 9 * 50
    assert here.answer(id_of(99), EVERYTHING).prototypes.keys() == {0}  # of a device that nobody knows


def test_prototypes_do_not_crowd_out_patterns() -> None:
    """However near they are: one in five results, or what there are no patterns for."""
    shard = shard_of(0)
    for device in range(60):
        watch(shard, device, 0 if device == 0 else 1, 50)
    shard.publish(round_of([(0, 0.9, 5)] * 6, BOOK.version, START), None)
    for similar, prototypes in {4: 0, 5: 1, 10: 2, 59: 6, 100: 6}.items():
        answer = shard.answer(id_of(0), msgspec.structs.replace(EVERYTHING, similar=similar))
        assert len(answer.prototypes) == prototypes and len(answer.similar) == min(similar, 59 + 6)
        assert sorted(answer.prototypes) == list(range(prototypes))


def test_aggregates_give_nobody_a_pattern_of_a_device() -> None:
    shard = Shard(msgspec.structs.replace(settings(), sharing="aggregates"), START, codebook=BOOK)
    for device in range(5):
        watch(shard, device, device * 3, 50)
    for device in (0, 99):
        answer = shard.answer(id_of(device), EVERYTHING)
        assert (len(answer.similar), answer.trending) == (0, [])
    result = merged([give(shard)], sharing="aggregates")
    shard.publish(result, give(shard))
    watch(shard, 8, 99, 200)  # nobody else does
    for device in (0, 99):
        answer = shard.answer(id_of(device), EVERYTHING)
        assert answer.prototypes.keys() == {0}
        assert answer.trending is not None
        assert [trend.content_id for trend in answer.trending] == result.trends[0].items


@pytest.mark.parametrize("hours", [0, 1, 30, 400])
def test_trends_are_those_of_all_shards_with_own_ones_of_this_moment(hours: int) -> None:
    """As one shard with all devices has them, whatever was counted here since."""
    whole, shards = shard_of(9), [shard_of(0), shard_of(1), shard_of(2)]

    def view(number: int, device: int, pattern: int, samples: int, now: float) -> None:
        for shard in (whole, shards[number]):
            watch(shard, 100 * number + device, pattern, samples, now)

    for device in range(18):
        view(device % 3, device, device % 4, 10 * device + 60, START)
    for device in range(18, 36):
        view(device % 3, device, device % 5, 90, START + HOUR)
    partials = [give(shard) for shard in shards]
    result = merged(partials, START + HOUR)
    later = START + (1 + hours) * HOUR
    view(0, 1, 0, 120, later)
    view(0, 2, 77, 150, later)  # nobody else has it
    for number, shard in enumerate(shards[:1]):
        shard.publish(result, partials[number])
        for region in ("eu", GLOBAL):
            assert top(shard, later, region) == pytest.approx(top(whole, later), abs=1e-3)
        assert shard.answer(id_of(1), EVERYTHING).trending == shard.trending(50, later)


def test_trends_of_a_robust_round_count_each_device_once_when_it_last_watched() -> None:
    """Whatever it gives in how many hours, and by how many patterns; a week ago is not counted."""
    shard = shard_of(0)
    watch(shard, 3, 30, 9, START, genre=2)
    watch(shard, 1, 10, 5, START, genre=0)
    watch(shard, 1, 11, 200, START + HOUR, genre=0)
    watch(shard, 1, 12, 200, START + 3 * HOUR, genre=0)
    watch(shard, 2, 20, 7, START + 3 * HOUR, genre=0)
    watch(shard, 2, 21, 7, START + 4 * HOUR, genre=1)
    given = give(shard, KEY).trends
    at = int(START) // HOUR % HOURS
    assert {item: dict(zip(*_cells(given.counts[:, n]), strict=True)) for n, item in enumerate(given.items)} == {
        "genre:genre 0": {(at + 3) % HOURS: 2},
        "genre:genre 1": {(at + 4) % HOURS: 1},
        "genre:genre 2": {at: 1},
    }
    assert given.devices.tolist() == given.counts.sum(axis=0).tolist()
    watch(shard, 2, 22, 7, START + HOURS * HOUR, genre=3)
    assert set(give(shard, KEY).trends.items) == {"genre:genre 0", "genre:genre 1", "genre:genre 3"}


def test_who_watches_a_lot_moves_robust_trends_no_more_than_others() -> None:
    """Five devices that give all they may, against twenty that watched once; served as published, not added to."""
    shards = [shard_of(number) for number in range(3)]
    for shard in shards:
        for device in range(20):
            watch(shard, device, 1, 20)
        for device in range(20, 25):
            for pattern in range(6):
                watch(shard, device, 10 + pattern, 200, START + pattern * HOUR, genre=7)
    now = START + 5 * HOUR
    for key, score in ((b"", 1.0), (KEY, 5 / (20 * 0.95**5))):
        partials = [give(shard, key) for shard in shards]
        shards[0].publish(merged(partials, now, group_key=key), partials[0])
        for region in ("eu", GLOBAL):
            assert top(shards[0], now, region)["genre:genre 7"] == pytest.approx(score, abs=1e-6)
            assert len(top(shards[0], now, region)) == 2
    watch(shards[0], 30, 9, 200, now)
    assert len(top(shards[0], now)) == 2
    with pytest.raises(RefusedPartial, match="each device once an item"):
        merged([give(shard) for shard in shards], now, group_key=KEY)


def test_trends_of_other_regions_are_as_published() -> None:
    europe, america = [shard_of(number) for number in range(3)], [shard_of(number, "us") for number in range(3, 6)]
    for device in range(30):
        for shard in europe:
            watch(shard, device, 1, 200)
        for shard in america:
            watch(shard, device, 2, 100)
    partials = [give(shard) for shard in (*europe, *america)]
    result = merged(partials)
    europe[0].publish(result, partials[0])
    assert top(europe[0]) == top(europe[0], region="eu") == {"genre:genre 1": 1.0}
    assert top(europe[0], region="us") == {"genre:genre 2": 1.0}
    assert top(europe[0], region=GLOBAL) == {"genre:genre 1": 1.0, "genre:genre 2": 0.5}
    assert top(europe[0], region="mars") == {}


def test_a_title_posted_after_the_round_keeps_its_count(rng: np.random.Generator) -> None:
    """The others' counts of a genre that gets its first own sample later are added to it."""
    shards = [shard_of(number) for number in range(3)]
    for shard in shards[1:]:
        for device in range(3):
            watch(shard, device, 5, 100)
    for device in range(3):
        watch(shards[0], device, 6, 100)
    partials = [give(shard) for shard in shards]
    result = merged(partials, min_source_count=1)
    shards[0].publish(result, partials[0])
    assert top(shards[0])["genre:genre 5"] == 1.0
    watch(shards[0], 9, 5, 200)
    assert top(shards[0]) == {"genre:genre 5": 1.0, "genre:genre 6": pytest.approx(300 / 800, abs=1e-5)}


def test_a_new_codebook_is_used_when_all_patterns_are_in_its_buckets() -> None:
    shard = shard_of(0)
    for device in range(80):
        watch(shard, device, device, 10)
        watch(shard, device, device + 1, 10)
    grouped(shard)
    shard.use(codebook(2, 5))
    assert shard.codebook_version == 1
    assert _nothing(shard.partial(1, 1, 2))
    grouped(shard)
    assert shard.codebook_version == 2
    old = give(shard)
    shard.publish(merged([old]), old)
    assert old.codebook_version == 1 and not _nothing(shard.partial(2, 1, 1))
    shard.publish(msgspec.structs.replace(merged([old]), codebook_version=2), None)
    assert _nothing(shard.partial(2, 1, 1)) and not _nothing(shard.partial(2, 1, 2))


def _cells(counts: npt.NDArray[np.uint32]) -> tuple[list[int], list[int]]:
    """Lines that are not 0, and what is in them."""
    lines = np.flatnonzero(counts)
    return lines.tolist(), counts[lines].tolist()


def _nothing(steps: Any) -> bool:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value is None

"""Which devices are remembered, and what an acknowledged, a lost and an unknown version are answered with."""

import numpy as np
from msgspec import structs

from constellation.model import Answer, SyncOptions
from constellation.shard import Shard
from constellation.shard.cursors import BYTES_PER_CURSOR, Cursors, Listed
from constellation.shard.recent import Recent
from tests.shard.material import EVERYTHING, START, batch, id_of, request, settings
from tests.shard.published import round_of

TELLER = 99


def shard_of(patterns: int, cursors: int = 100) -> Shard:
    """One device has them; the others have none and get all of them."""
    shard = Shard(structs.replace(settings(devices=100), max_cursors=cursors))
    shard.apply(request(TELLER, [(number, 0.9, 10) for number in range(patterns)]), START)
    return shard


def ask(shard: Shard, device: int, version: int | None, options: SyncOptions = EVERYTHING) -> Answer:
    """As a sync without news does."""
    shard.apply(request(device), START)
    return shard.answer(id_of(device), options, version)


def numbers(answer: Answer) -> list[int]:
    return sorted(int.from_bytes(pattern_id.tobytes(), "big") for pattern_id in answer.similar.ids)


def test_only_what_changed_is_told_against_the_list_that_was_acknowledged() -> None:
    shard = shard_of(5)
    first = ask(shard, 1, None)
    assert first.reset and numbers(first) == [0, 1, 2, 3, 4] and sorted(first.handles.tolist()) == [0, 1, 2, 3, 4]
    handle_of = dict(zip(first.similar.ids[:, -1].tolist(), first.handles.tolist(), strict=True))

    shard.apply(request(TELLER, added=[(7, 0.9, 10)], updated=[(2, 1.0, 9)], removed=[4]), START)
    for _ in range(2):  # the first of these replies is lost
        second = ask(shard, 1, first.global_version)
        assert not second.reset and numbers(second) == [2, 7]
        told = dict(zip(numbers(second), zip(second.handles.tolist(), second.whole.tolist(), strict=True), strict=True))
        assert told[2] == (handle_of[2], False) and told[7][1] and told[7][0] not in handle_of.values()
        assert second.gone.tolist() == [handle_of[4]] and second.removed.tolist() == [list(id_of(4))]

    shard.apply(request(TELLER, removed=[7]), START)
    third = ask(shard, 1, second.global_version)
    assert len(third.similar) == 0 and third.gone.tolist() == [told[7][0]]
    again = ask(shard, 1, first.global_version)
    assert again.reset, "two replies ago: it acknowledged a later one since"


def test_a_pattern_written_anew_is_told_whole_under_its_handle() -> None:
    shard = shard_of(3)
    first = ask(shard, 1, None)
    shard.apply(request(TELLER, batch([(1, 0.95, 10)], codes=[77])), START)
    second = ask(shard, 1, first.global_version)
    assert numbers(second) == [1] and second.whole.all() and not len(second.gone) and not len(second.removed)
    assert second.handles[0] == first.handles[first.similar.ids[:, -1] == 1][0]


def test_ids_that_several_devices_use_are_told_whole_or_not_at_all() -> None:
    """Who goes by ids drops all patterns of an id that comes, so all of them have to come."""
    shard = shard_of(3)
    shard.apply(request(98, [(1, 0.9, 10)]), START)
    first = ask(shard, 1, None)
    assert numbers(first) == [0, 1, 1, 2]
    shard.apply(request(TELLER, updated=[(0, 1.0, 5)]), START)
    second = ask(shard, 1, first.global_version)
    assert numbers(second) == [0] and not second.whole.any()
    shard.apply(request(98, updated=[(1, 1.0, 5)]), START)
    third = ask(shard, 1, second.global_version)
    assert numbers(third) == [1, 1] and third.whole.all()
    shard.apply(request(98, removed=[1]), START)
    fourth = ask(shard, 1, third.global_version)
    assert numbers(fourth) == [1] and fourth.whole.all() and len(fourth.gone) == 1 and not len(fourth.removed)


def test_trends_are_told_when_they_are_others() -> None:
    shard = shard_of(3)
    first = ask(shard, 1, None)
    assert first.trending
    second = ask(shard, 1, first.global_version)
    assert second.trending is None
    shard.apply(request(TELLER, updated=[(2, 1.0, 9)]), START)
    for _ in range(2):
        assert ask(shard, 1, second.global_version).trending == shard.trending(50, START)


def test_an_answer_of_other_content_has_another_version() -> None:
    """Though no pattern changed: the device must be able to say which of the two it has."""
    shard = shard_of(5)
    first = ask(shard, 1, None)
    fewer = structs.replace(EVERYTHING, similar=3)
    second = ask(shard, 1, first.global_version, fewer)
    assert second.reset and second.global_version > first.global_version
    third = ask(shard, 1, second.global_version, fewer)
    assert not third.reset and third.global_version == second.global_version
    shard.publish(round_of([(5, 0.9, 2)], 1, START), None)
    fourth = ask(shard, 1, third.global_version, fewer)
    assert len(fourth.similar) == 1 and fourth.global_version > third.global_version


def test_a_prototype_keeps_its_handle_from_round_to_round() -> None:
    shard = shard_of(1)
    shard.publish(round_of([(5, 0.9, 2), (6, 0.9, 3)], 1, START), None)
    first = ask(shard, 1, None)
    assert numbers(first) == [0, 1_000, 1_001]
    handle = first.handles[first.similar.ids[:, -1] == 1_001 & 255].tolist()
    shard.publish(round_of([(5, 0.9, 1), (6, 0.9, 3)], 1, START + 60), None)
    second = ask(shard, 1, first.global_version)
    assert numbers(second) == [1_001] and second.handles.tolist() == handle and second.whole.all()
    assert second.removed.tolist() == [list(id_of(1_000))] and second.prototypes.keys() == {0}


def test_the_device_that_was_away_longest_makes_room() -> None:
    shard = shard_of(3, cursors=2)
    versions = {device: ask(shard, device, None).global_version for device in (1, 2)}
    assert not ask(shard, 1, versions[1]).reset
    assert ask(shard, 3, None).reset
    assert not ask(shard, 1, versions[1]).reset
    assert ask(shard, 2, versions[2]).reset


def test_a_forgotten_device_and_one_that_is_not_known_are_not_remembered() -> None:
    shard = shard_of(3)
    version = ask(shard, 1, None).global_version
    shard.forget(id_of(1), START)
    assert shard.answer(id_of(1), EVERYTHING, version).reset
    assert shard.answer(id_of(1), EVERYTHING, shard.global_version).reset
    assert ask(shard, 2, version).reset, "who has its row now was told nothing"


def test_a_list_with_a_pattern_whose_id_is_lost_comes_whole() -> None:
    """Nobody can say what to drop once another pattern is in its row."""
    shard = Shard(settings(patterns=100, per_device=100))
    shard.apply(request(TELLER, [(number, 0.9, 10) for number in range(100)]), START)
    first = ask(shard, 1, None)
    for start in (0, 100):  # there are as many rows more than patterns: the first ones freed are used again
        shard.apply(request(TELLER, removed=range(start, start + 100)), START)
        shard.apply(request(TELLER, [(number, 0.9, 10) for number in range(start + 100, start + 200)]), START)
    rows = shard._asking.similar(shard._devices.find(id_of(1)), 100)
    listed = Listed(rows, 0, hash((EVERYTHING, False)), by_handle=True)
    by_handle = shard._cursors.tell(shard._cursors.place(shard._devices.find(id_of(1))), listed, first.global_version)
    assert not by_handle.reset and sorted(by_handle.gone.tolist()) == sorted(first.handles.tolist())
    second = ask(shard, 1, first.global_version)
    assert second.reset and len(second.similar) == 100
    assert not ask(shard, 1, second.global_version).reset


def test_a_cursor_takes_as_many_bytes_as_are_said() -> None:
    shard = Shard(structs.replace(settings(), max_cursors=10))
    columns = [*vars(shard._cursors).values(), *vars(shard._cursors._recent).values()]
    of_cursors = [column for column in columns if isinstance(column, np.ndarray) and len(column) == 11]
    assert sum(column.nbytes for column in of_cursors) == 11 * BYTES_PER_CURSOR
    assert isinstance(shard._cursors, Cursors)


def test_places_are_taken_in_the_order_of_their_last_use(rng: np.random.Generator) -> None:
    recent, order = Recent(5), list[int]()
    for _ in range(2_000):
        what, place = rng.integers(3), int(rng.integers(1, 6))
        if what == 0:
            taken = recent.take()
            assert taken == (len(order) + 1 if len(order) < 5 else order[0])
            order = [*(other for other in order if other != taken), taken]
        elif place in order:
            order.remove(place)
            if what == 1:
                recent.use(place)
                order.append(place)
            else:
                recent.give_back(place)
                order.insert(0, place)
        assert recent.high == len(order)

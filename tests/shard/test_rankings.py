"""When a device's list is brought up to date and when it is sought, and that both are the same list."""

from collections.abc import Iterator

import numpy as np
import pytest
from msgspec import structs

from constellation import catalogue
from constellation.fleet.households import make_patterns, neighbour_table
from constellation.limits import SIMILAR_MAX
from constellation.model import Rows, SyncOptions
from constellation.shard import Shard
from constellation.shard.rankings import BYTES_PER_CURSOR, Rankings
from constellation.shard.similarity import ARRIVALS_KEPT, Cosines, Vector
from kernels.codes import quantise
from kernels.rankings import RESERVE
from tests.shard.material import START, batch, id_of, new_shard, request, settings
from tests.shard.published import round_of

ME, OTHER = 1, 2
TEN = SyncOptions(similar=10, trending=0, embedding="i8")


class Counted:
    """A shard where one device asks, and how often something is sought in its index."""

    def __init__(self, shard: Shard) -> None:
        self.shard, self.sought = shard, 0
        self._search = shard._index.search
        shard._index.search = self.search  # type: ignore[method-assign]
        shard.apply(request(OTHER, [(number, 0.9, 10) for number in range(30)]), START)
        shard.apply(request(ME, [(99, 0.9, 10)]), START)
        self.ask()

    def search(self, query: Vector, k: int, spare: int = 0) -> tuple[Rows, Cosines]:
        self.sought += 1
        return self._search(query, k, spare)

    def ask(self, options: SyncOptions = TEN) -> bool:
        """Was anything sought for the answer?"""
        before = self.sought
        self.shard.answer(id_of(ME), options)
        return self.sought > before


@pytest.fixture
def counted() -> Iterator[Counted]:
    yield Counted(new_shard(per_device=100))


def test_what_came_and_went_is_not_sought(counted: Counted) -> None:
    assert not counted.ask()
    counted.shard.apply(request(OTHER, added=[(40, 0.9, 10), (41, 0.75, 10)], removed=[1, 2, 3]), START)
    assert not counted.ask()
    counted.shard.apply(request(OTHER, updated=[(41, 1.0, 90)]), START)
    assert not counted.ask(), "an update lets others have it"
    counted.shard.apply(request(ME), START)
    assert not counted.ask()


def test_other_questions_are(counted: Counted) -> None:
    counted.shard.apply(request(ME, added=[(98, 0.9, 50)]), START)
    assert counted.ask() and not counted.ask()
    fewer = structs.replace(TEN, similar=9)
    assert counted.ask(fewer) and not counted.ask(fewer)


def test_a_round_of_prototypes_makes_other_questions(counted: Counted) -> None:
    for _ in range(2):
        counted.shard.publish(round_of([(5, 0.9, 2), (6, 0.9, 3)], 1, START), None)
        assert counted.ask() and not counted.ask()


def test_when_too_many_have_gone_the_list_is_sought(counted: Counted) -> None:
    best = counted.shard._asking.similar(counted.shard._devices.find(id_of(ME)), 10 + RESERVE + 1)
    ids = [int.from_bytes(counted.shard._patterns.ids[row].tobytes(), "big") for row in best.tolist()]
    counted.shard.apply(request(OTHER, removed=ids[:RESERVE]), START)
    assert not counted.ask()
    counted.shard.apply(request(OTHER, removed=ids[RESERVE : RESERVE + 1]), START)
    assert counted.ask()


def test_when_not_all_that_came_is_remembered_the_list_is_sought(counted: Counted) -> None:
    counted.shard._index.arrivals.counts[0] += ARRIVALS_KEPT
    assert not counted.ask()
    counted.shard._index.arrivals.counts[0] += ARRIVALS_KEPT + 1
    assert counted.ask()


def test_lists_of_few_patterns_are_sought(counted: Counted) -> None:
    everything = structs.replace(TEN, similar=100)
    assert counted.ask(everything) and counted.ask(everything)


def test_who_makes_room_is_sought_for() -> None:
    counted = Counted(Shard(structs.replace(settings(per_device=100), max_cursors=1)))
    assert not counted.ask()
    counted.shard.answer(id_of(OTHER), TEN)
    assert counted.ask()


def test_a_long_day_leaves_the_list_that_a_search_finds(rng: np.random.Generator) -> None:
    """Films, households of three interests at most, and each of them replaces what it has."""
    films = catalogue.load().vectors()[:600]
    neighbours = neighbour_table(films)
    shard = new_shard(devices=60, patterns=2_000)
    counted = iter(range(10**6))

    def learn(device: int, interests: list[int], count: int) -> None:
        chosen = rng.choice(interests, count).astype(np.int32)
        added = batch([(next(counted), 0.9, int(rng.integers(1, 90))) for _ in range(count)], codes=[0] * count)
        added.codes[:] = quantise(make_patterns(films, neighbours, chosen, rng))
        shard.apply(request(device, added), START)

    tastes = [rng.choice(600, int(rng.integers(1, 4)), replace=False).tolist() for _ in range(50)]
    for device, taste in enumerate(tastes):
        learn(device, taste, 32)
    options = structs.replace(TEN, similar=50)
    renewed = 0
    for _ in range(40):
        for device in rng.choice(np.arange(10, 50), 3, replace=False).tolist():
            learn(device, tastes[device], 3)  # the lightest go
        while shard.maintain():
            pass
        for device in range(10):
            row = shard._devices.find(id_of(device))
            place = shard._cursors.place(row)
            renewed += shard._tables.rankings.renewed(place, row, options.similar) is not None
            rows = shard._asking.similar(row, options.similar, place)
            assert set(rows.tolist()) == set(shard._asking.similar(row, options.similar).tolist())
    assert renewed > 300


def test_rankings_take_as_many_bytes_as_are_said() -> None:
    shard = Shard(structs.replace(settings(), max_cursors=10))
    columns = [column for column in vars(shard._tables.rankings).values() if isinstance(column, np.ndarray)]
    assert sum(column.nbytes for column in columns if len(column) == 11) == 11 * BYTES_PER_CURSOR
    assert isinstance(shard._tables.rankings, Rankings) and SIMILAR_MAX == 100

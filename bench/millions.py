"""A shard of millions, made fast: devices and patterns as functions of their numbers, kept as a shard keeps them.

Nobody has to remember who there is: ids follow from numbers, so that a generator of load can name any device and any of
its patterns. Embeddings are made by the recipe of `bench.workload`, of films that are drawn.
"""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bench import kept, workload
from bench.plan import tracked
from bench.workload import Part
from constellation.config import Settings
from constellation.limits import INTERESTS_MAX
from constellation.model import ID_BYTES, Codes, Ids, PatternBatch
from constellation.records import Change, DeviceRows, PatternRows, empty_change
from constellation.shard import Shard
from constellation.shard.interests import SAME_INTEREST_COSINE
from kernels import interests
from kernels.codes import inverse_norms

DEVICES_A_CHANGE = 2_000
CHECKPOINT_EVERY = 50
_DEVICE, _PATTERN = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03

Numbers = npt.NDArray[np.int64]


class Size(NamedTuple):
    """Devices, and patterns dealt evenly to them: each has as many, or one more."""

    devices: int
    patterns: int

    def patterns_of(self, devices: Numbers) -> Numbers:
        """How many each (n,) has."""
        least, more = divmod(self.patterns, self.devices)
        counts: Numbers = least + (devices < more)
        return counts


def device_ids(numbers: Numbers) -> Ids:
    """(n, 16)."""
    return _ids(numbers, _DEVICE)


def pattern_ids(devices: Numbers, places: Numbers) -> Ids:
    """(n, 16): of the patterns that devices (n,) have at places (n,)."""
    return _ids((devices << 8) + places, _PATTERN)


def _ids(numbers: Numbers, salt: int) -> Ids:
    """Two rounds of splitmix64 (Steele, Lea and Flood, OOPSLA 2014), so that they look drawn."""
    halves = np.empty((len(numbers), 2), np.uint64)
    with np.errstate(over="ignore"):
        for half in range(2):
            z = (numbers.astype(np.uint64) + np.uint64(half + 1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            halves[:, half] = z ^ (z >> np.uint64(31))
    return halves.view(np.uint8).reshape(-1, ID_BYTES)


def room_for(size: Size, more: int) -> Settings:
    """Of a shard that holds so much, and takes in so many patterns more."""
    patterns = size.patterns + more
    return msgspec.structs.replace(Settings(), max_patterns=patterns, max_devices=size.devices + size.devices // 50)


def changes(size: Size, part: Part, seed: int) -> Iterator[Change]:
    """All of it, so many devices a change."""
    return (_change(size, part, seed, start) for start in range(0, size.devices, DEVICES_A_CHANGE))


def _change(size: Size, part: Part, seed: int, start: int) -> Change:
    """The devices from a number on, a multiple of DEVICES_A_CHANGE; the same each time."""
    numbers = np.arange(start, min(start + DEVICES_A_CHANGE, size.devices))
    change = empty_change(workload.START_S * 1_000_000 + start)
    change.devices = _devices(numbers)
    change.patterns = _patterns(size, numbers, part, np.random.default_rng([seed, start]))
    return change


def nearest(size: Size, part: Part, seed: int, asked: Numbers, k: int) -> list[set[bytes]]:
    """Ids of what each device should get: the patterns of others that are most like each of its interests, as a shard
    asks for k of them (`shard.interests`), fewer where interests share some. An exact scan over everything.

    Every pattern is made again, a change at a time; devices (m,) must have patterns.
    """
    queries, parts = zip(*(_questions(size, part, seed, device, k) for device in asked.tolist()), strict=True)
    of = np.repeat(np.arange(len(asked)), [len(of_device) for of_device in parts])
    units = _units(np.concatenate(queries))
    scores, ids = np.full((len(of), k), -np.inf), np.zeros((len(of), k, ID_BYTES), np.uint8)
    for number, change in enumerate(
        tracked(changes(size, part, seed), "scanning", -(-size.devices // DEVICES_A_CHANGE))
    ):
        batch = change.patterns.patterns
        found = units @ _units(batch.codes).T
        for place in np.flatnonzero(asked // DEVICES_A_CHANGE == number).tolist():
            own = (change.patterns.owners == device_ids(asked[place : place + 1])).all(axis=1)
            found[np.ix_(of == place, own)] = -np.inf
        came = np.broadcast_to(batch.ids, (len(of), *batch.ids.shape))
        all_scores, all_ids = np.concatenate((scores, found), axis=1), np.concatenate((ids, came), axis=1)
        best = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(all_scores, best, axis=1)
        ids = np.take_along_axis(all_ids, best[:, :, None], axis=1)
    truths: list[set[bytes]] = [set() for _ in asked]
    for place, row, wanted in zip(of.tolist(), ids, np.concatenate(parts).tolist(), strict=True):
        truths[place].update(pattern_id.tobytes() for pattern_id in row[:wanted])
    return truths


def _questions(size: Size, part: Part, seed: int, device: int, k: int) -> tuple[Codes, Numbers]:
    """What a device asks for: queries (m, 384) int8 and parts (m,) of k."""
    change = _change(size, part, seed, device // DEVICES_A_CHANGE * DEVICES_A_CHANGE)
    own = np.flatnonzero((change.patterns.owners == device_ids(np.array([device]))).all(axis=1)).astype(np.int32)
    batch = change.patterns.patterns
    weights = (batch.rates[own] * batch.counts[own]).astype(np.float64)
    questions: tuple[Codes, Numbers] = interests.questions(
        *(batch.codes, inverse_norms(batch.codes), own, weights),
        *(k, SAME_INTEREST_COSINE, INTERESTS_MAX),
    )
    return questions


def _units(codes: Codes) -> npt.NDArray[np.float32]:
    units: npt.NDArray[np.float32] = codes / np.linalg.norm(codes.astype(np.float32), axis=1, keepdims=True)
    return units


def fill(settings: Settings, size: Size, part: Part, seed: int) -> None:
    """Bring all of it into the data directory, which is empty: PostgreSQL, journal, snapshot."""
    asyncio.run(_fill(settings, size, part, seed))


async def _fill(settings: Settings, size: Size, part: Part, seed: int) -> None:
    shard = Shard(settings)
    async with kept.opened(settings) as keeper:
        keeper.begin(shard)
        assert keeper.write_behind is not None
        total = -(-size.devices // DEVICES_A_CHANGE)
        for number, change in enumerate(tracked(changes(size, part, seed), "making devices", total)):
            shard.restore(change)
            await keeper.kept(keeper.keep(change))
            await keeper.write_behind.flush()
            keeper.journal.trim(keeper.write_behind.flushed, float("inf"), 1_000)
            if number % CHECKPOINT_EVERY == 0:  # else the log grows to all that was ever written
                await asyncio.to_thread(keeper.journal.checkpoint)
        for _ in shard.restored():
            pass
        while shard.maintain():
            pass
        await asyncio.to_thread(keeper.journal.checkpoint)


def _devices(numbers: Numbers) -> DeviceRows:
    n = len(numbers)
    return DeviceRows(
        ids=device_ids(numbers),
        sequences=np.zeros(n, np.int64),
        fingerprints=np.zeros(n, np.uint64),
        cursors=np.zeros(n, np.int64),
        last_syncs=np.full(n, workload.START_S, np.int64),
        credit_hours=np.zeros(n, np.uint32),
        credit_used=np.zeros(n, np.uint32),
    )


def _patterns(size: Size, numbers: Numbers, part: Part, rng: np.random.Generator) -> PatternRows:
    """A device's patterns are of one film and of those near it, as a household's of one interest are."""
    counts = size.patterns_of(numbers)
    owners = np.repeat(numbers, counts)
    places = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    n, films = len(owners), np.repeat(part.draw(len(numbers), rng), counts)
    times = np.full(n, workload.START_S, np.int64)
    batch = PatternBatch(
        pattern_ids(owners, places),
        part.patterns(films, rng),
        workload.draw_rates(n, rng),
        workload.draw_counts(n, rng),
        created_at=times,
        updated_at=times,
        contexts=workload.draw_contexts(n, rng),
    )
    return PatternRows(
        owners=device_ids(owners),
        patterns=batch,
        entered=places + 1,
        versions=np.full(n, workload.START_S * 1_000_000, np.int64),
        items=[f"genre:{context.genre_hints[0]}" for context in batch.contexts],
        item_samples=np.zeros(n, np.uint32),
        item_hours=np.zeros(n, np.uint32),
    )

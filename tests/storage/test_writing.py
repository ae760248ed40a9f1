"""What is written is what is loaded: every value, whole or not at all, and only by the owner."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import asyncpg
import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from constellation.model import DIM, Codes
from constellation.records import Change, Forgotten, PatternKeys, TrendCells, empty_change
from constellation.storage import copy, loading, writing
from constellation.storage.connections import DatabaseUnavailable
from constellation.storage.copy import HALFVEC, VECTOR, Layout, Reader
from constellation.storage.database import Claim, Database, Fenced
from constellation.storage.loading import Tombstone, load, tombstones
from constellation.storage.writing import check_place, write
from kernels.trends import HOURS
from tests.storage.conftest import (
    claimed,
    execute,
    opened,
    some_change,
    some_codes,
    some_content,
    some_devices,
    some_ids,
    some_patterns,
)
from tests.storage.proxy import CutProxy

State = dict[str, dict[Any, Any]]
Make = Callable[[np.random.Generator], Change]


class Model:
    """What a database holds after some changes, as dicts by key."""

    def __init__(self) -> None:
        self.content: dict[int, Any] = {}
        self.devices: dict[bytes, Any] = {}
        self.patterns: dict[tuple[bytes, bytes], Any] = {}
        self.trends: dict[tuple[str, int], int] = {}

    def apply(self, change: Change) -> None:
        for forgotten in change.forgotten:
            self.devices.pop(forgotten.device_id, None)
            self.patterns = {key: row for key, row in self.patterns.items() if key[0] != forgotten.device_id}
        self.content |= {number: _plain(item) for number, item in change.content}
        self.devices |= _rows(change.devices, "ids")
        for owner, id_ in zip(change.gone.owners, change.gone.ids, strict=True):
            self.patterns.pop((owner.tobytes(), id_.tobytes()), None)
        batch = {name: getattr(change.patterns.patterns, name) for name in ("codes", "rates", "counts", "contexts")}
        batch |= {name: getattr(change.patterns.patterns, name) for name in ("created_at", "updated_at")}
        rest = {name: getattr(change.patterns, name) for name in ("entered", "versions", "items")}
        rest |= {name: getattr(change.patterns, name) for name in ("item_samples", "item_hours")}
        for i, (owner, id_) in enumerate(zip(change.patterns.owners, change.patterns.patterns.ids, strict=True)):
            row = {name: _plain(column[i]) for name, column in (batch | rest).items()}
            self.patterns[owner.tobytes(), id_.tobytes()] = row
        cells = change.trends
        for item, hour, count in zip(cells.items, cells.hours.tolist(), cells.counts.tolist(), strict=True):
            self.trends[item, hour] = count
        self.trends = {cell: count for cell, count in self.trends.items() if count}


def _rows(columns: msgspec.Struct, key: str) -> dict[bytes, Any]:
    table = {name: getattr(columns, name) for name in columns.__struct_fields__}
    keys = table.pop(key)
    return {keys[i].tobytes(): {name: _plain(column[i]) for name, column in table.items()} for i in range(len(keys))}


def _plain(value: object) -> object:
    """With types and every bit, so that == tells."""

    def shown(array: object) -> object:
        assert isinstance(array, np.ndarray | np.generic), type(array)
        return array.dtype.str, array.shape, array.tobytes()

    return msgspec.to_builtins(value, enc_hook=shown)


async def loaded(database: Database) -> tuple[Model, int]:
    """What the database holds, and the version; what a change names must have come before it."""
    model, version = Model(), 0
    numbers: list[int] = []
    async with contextlib.aclosing(load(database)) as changes:
        async for change in changes:
            numbers += [number for number, _ in change.content]
            assert not (change.content and (model.devices or model.patterns))
            assert not (len(change.devices) and model.patterns)
            model.apply(change)
            version = change.version
    assert numbers == sorted(model.content)
    return model, version


async def stored_tombstones(database: Database) -> list[Tombstone]:
    async with database.connection() as connection:
        return await tombstones(connection)


def same(found: Model, expected: Model) -> bool:
    return vars(found) == vars(expected)


@pytest.mark.parametrize("n", [1, 2, 1_000])
def test_every_value_comes_back_as_it_went(url: str, rng: np.random.Generator, n: int) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            change, expected = some_change(n, rng, version=2**53 - 1), Model()
            expected.apply(change)
            for position in (1, 2):  # written twice it is written once
                await write(database, await claimed(database), change, position)
                found, version = await loaded(database)
                assert same(found, expected)
                assert version == 2**53 - 1
            assert (await claimed(database)).position == 2

    asyncio.run(scenario())


def test_full_vectors_give_the_same_codes(url: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constellation.storage.schema.HALFVEC_SINCE", (99, 0))

    async def scenario() -> None:
        async with opened(url) as database:
            change, expected = some_change(300, rng), Model()
            expected.apply(change)
            await write(database, await claimed(database), change, 1)
            assert same((await loaded(database))[0], expected)

    asyncio.run(scenario())


def test_table_is_not_emptied_before_it_was_loaded(url: str, rng: np.random.Generator) -> None:
    """A TRUNCATE, as a restore does one, empties a table for those, too, who see an earlier moment."""

    async def scenario() -> None:
        async with opened(url) as database:
            await write(database, await claimed(database), some_change(3, rng), 1)
            async with contextlib.aclosing(load(database)) as changes:
                assert (await anext(changes)).content
                emptying = asyncio.create_task(execute(url, "TRUNCATE patterns"))
                waiting = "SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database WHERE NOT granted"
                while not emptying.done() and not await execute(url, f"{waiting} AND datname = current_database()"):
                    pass
                rest = [change async for change in changes]
            await emptying
            assert sum(len(change.patterns) for change in rest) == 3
            assert (await loaded(database))[0].patterns == {}

    asyncio.run(scenario())


def test_nothing_is_loaded_from_an_empty_database(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            assert [change async for change in load(database)] == []
            assert await stored_tombstones(database) == []

    asyncio.run(scenario())


def test_changes_in_any_order_leave_what_they_leave_in_a_model(url: str, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        devices, ids = some_ids(6, rng), some_ids(5, rng)
        expected = Model()
        async with opened(url) as database:
            claim = await claimed(database)
            for position in range(1, 60):
                change = _some_step(devices, ids, rng)
                expected.apply(change)
                await write(database, claim, change, position)
                if position % 10 == 9:
                    found, _ = await loaded(database)
                    assert same(found, expected)
        assert expected.patterns and expected.trends

    asyncio.run(scenario())


def _some_step(devices: npt.NDArray[np.uint8], ids: npt.NDArray[np.uint8], rng: np.random.Generator) -> Change:
    """One change of every kind over few keys, so that they meet."""
    change = empty_change(1)
    if rng.random() < 0.3:
        change.forgotten = [Forgotten(devices[rng.integers(len(devices))].tobytes(), b"", 1, 1)]
    change.content = some_content(rng.permutation(4)[: rng.integers(3)].tolist(), rng)
    change.devices = some_devices(rng.permutation(devices)[: rng.integers(4)], rng)
    keys = [(owner, id_) for owner in devices for id_ in ids]
    chosen = [keys[k] for k in rng.permutation(len(keys))[: rng.integers(1, 20)]]
    owners, chosen_ids = np.array([owner for owner, _ in chosen]), np.array([id_ for _, id_ in chosen])
    gone = int(rng.integers(len(chosen)))
    change.gone = PatternKeys(owners[:gone], chosen_ids[:gone])
    change.patterns = some_patterns(owners[gone:], chosen_ids[gone:], rng)
    cells = [(f"film:{k % 3}", k) for k in rng.permutation(9)[: rng.integers(6)].tolist()]
    change.trends = TrendCells(
        [item for item, _ in cells],
        np.array([hour for _, hour in cells], np.uint32),
        rng.integers(0, 3, len(cells)).astype(np.uint32),
    )
    return change


def test_tombstone_keeps_the_last_sequence(url: str) -> None:
    first, second = b"1" * 16, b"2" * 16

    async def scenario() -> None:
        async with opened(url) as database:
            claim = await claimed(database)
            for sequence, at in ((5, 100), (9, 120), (4, 90)):
                change = empty_change(1)
                change.forgotten = [Forgotten(bytes(16), first, sequence, at), Forgotten(bytes(16), b"", 1, 1)]
                await write(database, claim, change, 1)
            change.forgotten = [Forgotten(bytes(16), second, -1, 7)]
            await write(database, claim, change, 2)
            assert sorted(await stored_tombstones(database)) == [Tombstone(first, 9, 120), Tombstone(second, -1, 7)]

    asyncio.run(scenario())


def test_trend_counts_are_deleted_after_a_week(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            claim = await claimed(database)
            await _count(database, claim, {("film:1", 1_000): 1, ("film:2", 1_001): 2, ("film:1", 1_001): 3})
            await write(database, claim, empty_change(1), 1)
            assert len(await execute(url, "SELECT FROM trend_counts")) == 3
            await _count(database, claim, {("film:3", 999 + HOURS): 4, ("film:2", 1_001): 5})
            assert len(await execute(url, "SELECT FROM trend_counts")) == 4
            await _count(database, claim, {("film:3", 1_000 + HOURS): 6})
            found = (await loaded(database))[0].trends
            assert found == {
                ("film:1", 1_001): 3,
                ("film:2", 1_001): 5,
                ("film:3", 999 + HOURS): 4,
                ("film:3", 1_000 + HOURS): 6,
            }
            await _count(database, claim, {("film:4", 10**6): 7})
            assert (await loaded(database))[0].trends == {("film:4", 10**6): 7}

    asyncio.run(scenario())


async def _count(database: Database, claim: Claim, counts: dict[tuple[str, int], int]) -> None:
    change = empty_change(1)
    items, hours = zip(*counts, strict=True)
    change.trends = TrendCells(list(items), np.array(hours, np.uint32), np.array(list(counts.values()), np.uint32))
    await write(database, claim, change, 1)


def test_version_and_position_are_those_of_the_last_change(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            claim = await claimed(database)
            await write(database, claim, empty_change(50), 7)
            await write(database, claim, empty_change(40), 9)
            again = await claimed(database)
            assert (again.position, again.version) == (9, 50)

    asyncio.run(scenario())


def test_owner_who_lost_the_claim_is_fenced_and_stores_nothing(url: str, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        async with opened(url) as first, opened(url) as second:
            old = await claimed(first)
            first._claiming.terminate()
            await _lock_is_free(url)
            new = await second.claim("shard-1", b"another journal.", "the second one")
            with pytest.raises(Fenced, match="claimed by the second one, epoch 2; ours was epoch 1"):
                await write(first, old, some_change(3, rng), 1)
            assert same((await loaded(second))[0], Model())
            await write(second, new, empty_change(1), 1)
            await execute(url, "DELETE FROM shards")
            with pytest.raises(Fenced, match="not in the database any more"):
                await write(second, new, empty_change(1), 2)

    asyncio.run(scenario())


async def _lock_is_free(url: str) -> None:
    """A backend whose connection is gone ends on its own; its lock tells when."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"SELECT pg_advisory_lock({0x434C41494D})", timeout=10)
    finally:
        await connection.close()


def test_claim_waits_for_the_transaction_of_the_owner_before(url: str, rng: np.random.Generator) -> None:
    """What the old owner committed last is in the position that the new one is told."""

    async def scenario() -> None:
        async with opened(url) as first, opened(url) as second:
            old = await claimed(first)
            async with first.connection() as connection:
                async with connection.transaction():
                    await check_place(connection, old)
                    first._claiming.terminate()
                    await _lock_is_free(url)
                    claiming = asyncio.create_task(claimed(second))
                    await _waits_for_a_lock(url)
                    assert not claiming.done()
                    await connection.execute("UPDATE shards SET position = 33")
                assert (await claiming).position == 33
            with pytest.raises(Fenced):
                await write(first, old, some_change(1, rng), 34)

    asyncio.run(scenario())


async def _waits_for_a_lock(url: str) -> None:
    async with asyncio.timeout(10):
        while not await execute(
            url, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ):
            pass


def test_change_that_is_refused_halfway_leaves_nothing(url: str, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            claim, before, expected = await claimed(database), some_change(20, rng), Model()
            expected.apply(before)
            await write(database, claim, before, 1)
            wrong = some_change(4, rng)
            wrong.forgotten = [Forgotten(before.devices.ids[0].tobytes(), b"t" * 16, 1, 1)]
            wrong.trends = TrendCells(["same", "same"], np.ones(2, np.uint32), np.ones(2, np.uint32))
            with pytest.raises(asyncpg.CardinalityViolationError):
                await write(database, claim, wrong, 2)
            assert same((await loaded(database))[0], expected)
            assert await stored_tombstones(database) == []
            assert (await claimed(database)).position == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_write_that_is_cut_off_stores_nothing_and_can_be_repeated(
    url: str, rng: np.random.Generator, share: float
) -> None:
    async def scenario() -> None:
        async with CutProxy(url) as proxy, opened(proxy.url) as database, opened(url) as direct:
            claim, before, change, expected = await claimed(database), *(some_change(300, rng) for _ in "12"), Model()
            expected.apply(before)
            await write(database, claim, before, 1)
            sent = proxy.bytes_from_client
            await write(database, claim, before, 1)
            proxy.cut_after(int(share * (proxy.bytes_from_client - sent)))
            with pytest.raises(DatabaseUnavailable):
                await write(database, claim, change, 2)
            assert same((await loaded(direct))[0], expected)
            await write(database, claim, change, 2)
            expected.apply(change)
            assert same((await loaded(database))[0], expected)

    asyncio.run(scenario())


def test_load_is_one_moment_whoever_writes_meanwhile(
    url: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "CHANGE_ROWS_MAX", 50)

    async def scenario() -> None:
        async with opened(url) as database:
            claim, before, expected = await claimed(database), some_change(500, rng), Model()
            expected.apply(before)
            await write(database, claim, before, 1)
            found = Model()
            sizes: list[int] = []
            async for change in load(database):
                if not sizes:
                    everything = empty_change(2)
                    everything.forgotten = [Forgotten(id_.tobytes(), b"", 1, 1) for id_ in before.devices.ids]
                    await write(database, claim, everything, 2)
                found.apply(change)
                sizes.append(len(change.patterns) + len(change.devices) + len(change.content) + len(change.trends))
            assert same(found, expected)
            assert len(sizes) > 4
            assert (await loaded(database))[0].patterns == {}

    asyncio.run(scenario())


def test_load_that_is_left_early_leaves_no_connection(url: str, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await write(database, await claimed(database), some_change(6_000, rng), 1)
            async with contextlib.aclosing(load(database)) as changes:
                async for change in changes:
                    if len(change.patterns):
                        break
            async with asyncio.timeout(10):
                while await execute(url, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT device_id%'"):
                    pass
            assert len((await loaded(database))[0].patterns) == 6_000

    asyncio.run(scenario())


def test_load_that_is_cut_off_says_so(url: str, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        async with CutProxy(url) as proxy, opened(proxy.url) as database:
            await write(database, await claimed(database), some_change(6_000, rng), 1)
            with pytest.raises(DatabaseUnavailable):
                async for _ in load(database):
                    proxy.cut()

    asyncio.run(scenario())


def test_connection_makes_its_temporary_tables_once_and_leaves_them_empty(url: str, rng: np.random.Generator) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            claim = await claimed(database)
            for position in (1, 2, 3):
                await write(database, claim, some_change(5, rng), position)
            async with database.connection() as connection:
                tables = await connection.fetch("SELECT relname FROM pg_class WHERE relname LIKE 'incoming_%'")
                assert len(tables) == 4
                for (table,) in tables:
                    assert await connection.fetchval(f"SELECT count(*) FROM pg_temp.{table}") == 0

    asyncio.run(scenario())


def test_rows_are_encoded_a_slice_at_a_time_and_the_loop_turns_between(rng: np.random.Generator) -> None:
    change = some_change(3 * writing.SLICE_ROWS + 1, rng)
    layout = copy.pattern_layout(HALFVEC)
    largest = layout.record.itemsize + 1_024

    async def scenario() -> list[int]:
        turns, sizes = 0, []
        stream = writing._stream(writing._patterns(layout, change.patterns))

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        async for piece in stream:
            sizes.append(len(piece))
        turning.cancel()
        assert turns >= 4
        return sizes

    sizes = asyncio.run(scenario())
    assert len(sizes) == 6  # header, four slices, end
    assert max(sizes) < writing.SLICE_ROWS * largest


def adversarial_codes() -> Codes:
    """Codes at the edges of what halves can hold: long and short ones, every magnitude, one bit from the next."""
    codes = []
    for peak in (127, -127):
        for rest in (*range(-127, 128), 0):
            codes.append(np.full(DIM, rest))
            codes[-1][len(codes) % DIM] = peak
        for others in (1, 2, 100, DIM - 1):
            codes.append(np.concatenate((np.full(1, peak), np.full(others, 1), np.zeros(DIM - 1 - others, int))))
            codes.append(np.concatenate((np.full(1, peak), np.full(others, -126), np.zeros(DIM - 1 - others, int))))
        codes.append(np.resize(np.arange(-127, 128), DIM))
    return np.array(codes, np.int8)


@pytest.mark.parametrize("kind", [HALFVEC, VECTOR], ids=["halfvec", "vector"])
def test_same_code_comes_back_from_its_unit_vector(kind: np.dtype[Any], rng: np.random.Generator) -> None:
    every_magnitude = np.clip(np.rint(rng.standard_normal((2_000, DIM)) * rng.uniform(0, 90, (2_000, 1))), -127, 127)
    every_magnitude[:, 0] = 127
    for codes in (some_codes(2_000, rng), adversarial_codes(), every_magnitude.astype(np.int8)):
        column = np.zeros(len(codes), kind)
        column["values"] = copy.vectors(codes, kind)
        norms = np.linalg.norm(column["values"].astype(np.float64), axis=1)
        np.testing.assert_allclose(norms, 1, atol=1e-3)
        np.testing.assert_array_equal(copy.codes(column), codes)


def test_rows_are_read_from_a_stream_in_pieces_of_any_size(rng: np.random.Generator) -> None:
    layout = Layout("some", ("a",), {"a": copy.BIGINT}, ("b", "c"))
    records = layout.records(5)
    records["a"] = rng.integers(-(2**63), 2**63 - 1, 5)
    values = [b"", b"\xff\xff", b"x" * 300, b"\0", b"y"]
    stream = copy.HEADER + layout.encode(records, *([copy.field(value) for value in values],) * 2) + copy.END
    for size in range(1, len(stream)):
        reader, numbers = Reader(layout), b""
        columns: tuple[list[bytes], ...] = ([], [])
        for start in range(0, len(stream), size):
            came, more = reader.read(bytearray(stream[start : start + size]))
            numbers += came.tobytes()
            for column, part in zip(columns, more, strict=True):
                column += part
        assert numbers == records.tobytes()
        assert columns == (values, values)

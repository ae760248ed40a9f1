"""Snapshots of a real shard beside a real journal: whole or not used, and with the journal behind them the state."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from constellation.model import ContentItem
from constellation.records import TrendCells, decode, encode
from constellation.shard import Shard
from constellation.shard.shard import VERSIONS_UNWRITTEN_MAX
from constellation.storage import snapshot
from constellation.storage.journal import Journal, JournalFailed
from constellation.storage.snapshot import Snapshots
from tests.shard.material import START, batch, code_of, id_of, request, settings

DEVICES, IDS = 60, 30
BOUNDS = settings(devices=DEVICES, patterns=2_000)
KEY = bytes(32)
EVERY_S = 900.0
NO_CELLS = TrendCells([], np.empty(0, np.uint32), np.empty(0, np.uint32))
KEPT_BYTES = 1 << 30


class Life:
    """A shard whose changes are journaled, and something new in it whenever it is asked."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.folder, self.rng = folder, rng
        self.shard = Shard(BOUNDS, tombstone_key=KEY)
        self.journal = Journal.open(folder / "journal.sqlite", KEPT_BYTES)
        self.snapshots = Snapshots(folder, self.journal, EVERY_S, self.journal.commit)
        self.now = float(START)

    def live(self, changes: int) -> None:
        """Syncs, now and then a title, and a household that leaves."""
        for _ in range(changes):
            self.now += 61.0
            kind, device = int(self.rng.integers(0, 20)), int(self.rng.integers(0, DEVICES - 1))
            if kind == 0:
                self.shard.forget(id_of(device), self.now)
            elif kind == 1:
                number = int(self.rng.integers(0, 40))
                self.shard.put_content(
                    ContentItem(f"title:{number}", f"Title {number}", code_of(number), None), self.now
                )
            else:
                ids, codes = self.rng.integers(0, IDS, 8).tolist(), self.rng.integers(0, 40, 8).tolist()
                rates = self.rng.uniform(0.7, 1, 8).astype(np.float32).tolist()
                added = [(number, rate, 50) for number, rate in zip(ids, rates, strict=True)]
                sent = request(device, batch(added, codes), [(ids[0], 0.9, 5)], ids[4:6], sequence=int(self.now))
                self.shard.apply(sent, self.now)
            if self.shard.change is not None:
                self.journal.append(encode(self.shard.change))
                self.shard.change = None


async def restored(life: Life) -> Shard:
    """From the snapshot, and the journal behind it; with an index that has settled."""
    found = await life.snapshots.find()
    assert found is not None
    shard = Shard(BOUNDS, tombstone_key=KEY)
    shard.expect(found.header.layout)
    for change, places in found.pieces():
        shard.restore(change, places)
    for _, record in life.journal.read(found.header.position):
        shard.restore(decode(record))
    for _ in shard.restored():
        pass
    while shard.maintain():
        pass
    return shard


def told(shard: Shard, now: float) -> Any:
    """All that is written down of a shard, as it is now, but for the version; and what it counts."""
    keys = {id_of(device): {id_of(number) for number in range(IDS)} for device in range(DEVICES)}
    titles = list(range(shard.stats(now).content_items))
    hours = range(int(now) // 3_600 - 167, int(now) // 3_600 + 1)
    items = [shard.read({}, [number], NO_CELLS).content[0].item.content_id for number in titles]
    cells = [(item, hour) for item in [*items, "genre:drama"] for hour in hours]
    wanted = TrendCells(
        [item for item, _ in cells], np.array([hour for _, hour in cells], np.uint32), np.empty(0, np.uint32)
    )
    return (
        encode(structs.replace(shard.read(keys, titles, wanted), version=0)),
        shard.trending(50, now),
        shard.stats(now),
    )


@pytest.fixture
def life(tmp_path: Path, rng: np.random.Generator) -> Life:
    return Life(tmp_path, rng)


@pytest.mark.parametrize("lively", [0, 1, 5])
def test_snapshot_and_what_came_since_are_the_state(life: Life, lively: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken a few patterns at a time, while nothing, something and a lot changes between them."""
    monkeypatch.setattr("constellation.limits.SNAPSHOT_PATTERNS_PER_TURN", 20)

    async def scenario() -> None:
        life.live(400)
        taking = asyncio.create_task(life.snapshots.take(life.shard))
        while not taking.done():
            life.live(lively)
            await asyncio.sleep(0)
        await taking
        life.live(10 * lively)
        life.journal.commit()
        again = await restored(life)
        (got, got_trends, got_stats), (wanted, trends, stats) = told(again, life.now), told(life.shard, life.now)
        assert got == wanted
        assert got_trends == trends
        assert got_stats == structs.replace(
            stats,
            index_lists=got_stats.index_lists,
            bytes_resident=got_stats.bytes_resident,
            global_version=stats.global_version + VERSIONS_UNWRITTEN_MAX,  # it does not know what answers were told
        )
        assert stats.patterns_stored > 100 and stats.content_items > 5 and len(trends) > 5
        for device in range(DEVICES):  # nothing is taken a second time
            late = request(device, batch([(3, 0.99, 70)], [3]), sequence=START)
            assert again.apply(late, life.now).accepted.duplicate == life.shard.apply(late, life.now).accepted.duplicate

    asyncio.run(scenario())


def test_snapshot_is_taken_when_it_is_due_and_not_again(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constellation.storage.snapshot._LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("constellation.limits.SNAPSHOT_GAP_S_MIN", 0)
    monkeypatch.setattr("constellation.limits.SNAPSHOT_RECORDS_MAX", 30)
    path = life.folder / snapshot.FILE

    async def scenario() -> None:
        running = asyncio.create_task(life.snapshots.run(life.shard))
        life.live(10)
        await asyncio.sleep(0.1)
        assert not path.exists() and life.snapshots.position is None
        life.live(50)
        await _until(lambda: life.snapshots.position == life.journal.tail)
        first = path.stat().st_mtime_ns
        await asyncio.sleep(0.1)
        assert path.stat().st_mtime_ns == first, "nothing has changed"
        running.cancel()

    asyncio.run(scenario())


def test_old_snapshot_is_replaced_when_anything_changed(tmp_path: Path, rng: np.random.Generator) -> None:
    life = Life(tmp_path, rng)
    life.snapshots = Snapshots(tmp_path, life.journal, 0.01, life.journal.commit)

    async def scenario() -> None:
        running = asyncio.create_task(life.snapshots.run(life.shard))
        for _ in range(2):
            life.live(3)
            await _until(lambda: life.snapshots.position == life.journal.tail)
        running.cancel()

    asyncio.run(scenario())


def test_snapshot_that_cannot_be_written_holds_nothing_up(life: Life, tmp_path: Path) -> None:
    """No journal is kept for one that is not there."""

    async def scenario() -> None:
        life.live(20)
        await life.snapshots.take(life.shard)
        assert life.snapshots.position == life.journal.tail
        life.live(20)
        (tmp_path / f"{snapshot.FILE}.part").mkdir()
        await life.snapshots.take(life.shard)
        assert life.snapshots.position is None

    asyncio.run(scenario())


def test_snapshot_tells_nothing_that_is_not_on_disk(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that fails between two pieces ends it; the one before stays."""
    monkeypatch.setattr("constellation.limits.SNAPSHOT_PATTERNS_PER_TURN", 20)

    async def scenario() -> None:
        life.live(100)
        await life.snapshots.take(life.shard)
        before = (life.folder / snapshot.FILE).read_bytes()
        life.live(100)
        taking = asyncio.create_task(life.snapshots.take(life.shard))
        await asyncio.sleep(0.001)
        life.journal._db.close()
        life.live(1)
        with pytest.raises(JournalFailed):
            await taking
        assert (life.folder / snapshot.FILE).read_bytes() == before
        assert [path.name for path in life.folder.glob("*.part")] == []

    asyncio.run(scenario())


def test_end_in_the_middle_leaves_the_one_before(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constellation.limits.SNAPSHOT_PATTERNS_PER_TURN", 20)

    async def scenario() -> None:
        life.live(200)
        await life.snapshots.take(life.shard)
        before = (life.folder / snapshot.FILE).read_bytes()
        life.live(200)
        taking = asyncio.create_task(life.snapshots.take(life.shard, pause=1.0))
        await _until((life.folder / f"{snapshot.FILE}.part").exists)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        assert (life.folder / snapshot.FILE).read_bytes() == before
        assert [path.name for path in life.folder.glob("*.part")] == []

    asyncio.run(scenario())


def test_flipped_bit_is_noticed(life: Life, rng: np.random.Generator) -> None:
    """Anywhere: then there is no snapshot, and no journal is kept for it."""

    async def scenario() -> None:
        life.live(50)
        await life.snapshots.take(life.shard)
        path = life.folder / snapshot.FILE
        whole = path.read_bytes()
        for at in [0, len(whole) - 1, *rng.integers(0, len(whole), 100).tolist()]:
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(rng.integers(0, 8))
            path.write_bytes(damaged)
            again = Snapshots(life.folder, life.journal, EVERY_S, life.journal.commit)
            assert await again.find() is None and again.position is None
        path.write_bytes(whole)
        assert await life.snapshots.find() is not None

    asyncio.run(scenario())


@pytest.mark.parametrize("why", ["release", "journal", "ahead", "trimmed"])
def test_snapshot_that_does_not_fit_is_not_used(life: Life, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        life.live(50)
        await life.snapshots.take(life.shard)
        if why == "release":
            monkeypatch.setattr(snapshot, "__version__", "0.0.0")
        elif why == "trimmed":
            life.live(50)
            life.journal.commit()
            position = life.snapshots.position
            assert position is not None
            life.journal.trim(position, float("inf"), 1_000)
            assert await life.snapshots.find() is not None, "up to the snapshot nothing is needed"
            life.journal.trim(position + 1, float("inf"), 1_000)
        else:
            name = "other.sqlite" if why == "journal" else "journal.sqlite"
            life.journal.close()
            if why == "ahead":
                _cut(life.folder / name)
            life.journal = Journal.open(life.folder / name, KEPT_BYTES)
            life.snapshots = Snapshots(life.folder, life.journal, EVERY_S, life.journal.commit)
        assert await life.snapshots.find() is None

    asyncio.run(scenario())


def _cut(path: Path) -> None:
    """Take the last records out of a journal, as no crash may."""
    import sqlite3

    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM records WHERE position > 5")


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true in time")

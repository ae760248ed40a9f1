"""The ledger: what every device sent and which of it was acknowledged, held against what the server has.

A few devices with a few pattern ids each, so that one asking device is answered with all patterns. Each sends one
delta at a time, with sequences; one that was not answered stays pending and is sent again as it was. The model takes
a delta when it is first acknowledged, and predicts the answer. Now and then a device posts a title, too, always its
own; no pattern is about one of them.
"""

import asyncio
import base64
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np

from constellation.config import Settings
from constellation.model import Accepted, SyncRequest
from constellation.shard import Shard
from constellation.wire.content import decode_content
from constellation.wire.media import Media
from constellation.wire.sync import decode_sync
from tests.durability.life import POLL_S, Held, HeldTitle, Stored, held_title, living, stop, until
from tests.shard.material import START, code_of, context_of, id_of
from tests.shard.model import ModelShard

DEVICES = 8
IDS_PER_DEVICE = 12
"""All of them are fewer than one answer holds."""
ASKER = id_of(10**9)
SETTINGS = Settings(max_devices=1_000, max_patterns=10_000, quality_threshold=0.5, serve_threshold=0.5)
TIMEOUT_S = 20
LATE_S_MAX = 0.006
"""Replies that are lost: whoever waits is gone within this time, before or after the delta was applied."""
POSTED_SHARE = 0.1
"""How many titles are posted for a delta."""


@dataclass
class Tv:
    """One device: its id, the last sequence it used, what it does not know the fate of, and what it sent before."""

    number: int
    sequence: int = 0
    pending: bytes | None = None
    tries: int = 0
    sent: list[bytes] = field(default_factory=list)

    @property
    def id(self) -> bytes:
        return id_of(self.number)


@dataclass
class Title:
    """One title: what it was last acknowledged to be, and what a post without an answer would make it."""

    content_id: str
    code: int
    revision: int = 0
    pending: bytes | None = None
    acknowledged: HeldTitle | None = None

    def possible(self) -> list[HeldTitle | None]:
        return [self.acknowledged] if self.pending is None else [self.acknowledged, title_of(self.pending)]


class Ledger:
    """Devices that sync with one server, whatever becomes of it."""

    def __init__(self, rng: np.random.Generator, patient: bool = False) -> None:
        """`patient`: a device that gets no answer tries again as long as it syncs, else it stops for good."""
        self.tvs = [Tv(number) for number in range(1, DEVICES + 1)]
        self.titles = {tv.number: Title(f"title:{tv.number}", 10**6 * tv.number) for tv in self.tvs}
        self.model = ModelShard(SETTINGS)
        self.reference = Shard(SETTINGS, time.time())
        """A shard that nothing happens to, for what the model does not know: trends."""
        self.acknowledged = 0
        self.duplicates = 0
        """Deltas sent again that had been applied."""
        self.refusals: list[str] = []
        self.lost_share = 0.0
        """Of replies that nobody waits for; as many old deltas come again."""
        self._rng, self._patient = rng, patient

    @contextlib.asynccontextmanager
    async def syncing(self, url: str) -> AsyncIterator[None]:
        """Every device syncs again and again while the block runs."""
        stopping = asyncio.Event()
        async with _client(url) as client, asyncio.TaskGroup() as group:
            for tv in self.tvs:
                group.create_task(self._sync_until(stopping, client, tv))
            try:
                yield
            finally:
                stopping.set()

    async def more(self, n: int) -> None:
        """Until n more deltas were acknowledged."""
        enough = self.acknowledged + n
        await until(lambda: self.acknowledged >= enough)

    async def sync_once(self, url: str, tv: Tv) -> None:
        tv.pending, tv.tries = self.new_delta(tv), 0
        await self.settle(url)

    async def settle(self, url: str) -> None:
        """What is pending is sent again, and everything is answered."""
        assert await self.resend(url), self.refusals

    async def resend(self, url: str) -> bool:
        """What is pending is sent again; is everything answered now?"""
        async with _client(url) as client:
            for tv in self.tvs:
                if tv.pending is not None:
                    await self._send(client, tv)
            for title in self.titles.values():
                if title.pending is not None:
                    await self._post(client, title)
        return not any(tv.pending for tv in self.tvs) and not any(title.pending for title in self.titles.values())

    async def forget(self, url: str, tv: Tv) -> None:
        async with _client(url) as client:
            (await client.delete(f"/api/v1/devices/{UUID(bytes=tv.id)}")).raise_for_status()
        self.model.forget(tv.id, time.time())
        self.reference.forget(tv.id, time.time())

    async def send_old(self, url: str, body: bytes) -> None:
        """A delta that comes once more, long after: it changes nothing."""
        async with _client(url) as client:
            await self._send_old(client, body)

    async def check_life(self, data_dir: Path, *options: str) -> None:
        """One more life of the shard: it has what was acknowledged, takes what is pending, and stops."""
        async with living(data_dir, *options) as server:
            await self.check_served(server.url)
            await self.settle(server.url)
            await self.check_served(server.url)
            await self.check_trends(server.url)
            await stop(server)

    async def check_served(self, url: str) -> None:
        """The server has what was acknowledged, and of each pending delta all or nothing."""
        async with _client(url) as client:
            seen = await _seen(client)
            stats = (await client.get("/api/v1/stats")).raise_for_status().json()
            for title in self.titles.values():
                assert await _served_title(client, title) in title.possible(), title
        for tv in self.tvs:
            mine = {key: held for key, held in seen.items() if _owner(key) == tv.number}
            assert mine in self._possible(tv), f"device {tv.number}, sequence {tv.sequence}"
        if not any(tv.pending for tv in self.tvs):
            assert stats["patterns_stored"] == self.model.stored()
            assert stats["total_devices"] - len(self.model.devices) in (0, 1)  # whoever asks

    async def check_trends(self, url: str) -> None:
        async with _client(url) as client:
            trending = (await client.get("/api/v1/trending?limit=50")).raise_for_status().json()["trending"]
        expected = {trend.content_id: trend.trending_score for trend in self.reference.trending(50, time.time())}
        found = {trend["content_id"]: trend["trending_score"] for trend in trending}
        assert found.keys() == expected.keys() and expected
        np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), rtol=1e-5)

    def check_stored(self, stored: Stored) -> None:
        """The database holds exactly what the model says. Nothing may be pending."""
        expected = {
            (device_id, key): held for device_id in self.model.devices for key, held in self._held(device_id).items()
        }
        assert stored.patterns == expected
        sequences = {device_id: sequence for device_id, sequence in stored.sequences.items() if device_id != ASKER}
        assert sequences == {device_id: device.sequence for device_id, device in self.model.devices.items()}
        assert stored.titles == {one.content_id: one.acknowledged for one in self.titles.values() if one.acknowledged}

    def _possible(self, tv: Tv) -> list[dict[bytes, Held]]:
        served = [self._served(self.model, tv)]
        if tv.pending is not None:
            trial = ModelShard(SETTINGS)
            if tv.id in self.model.devices:
                trial.devices[tv.id] = dataclasses.replace(self.model.devices[tv.id])  # apply puts new patterns in
            trial.apply(request_of(tv.pending), time.time())
            served.append(self._served(trial, tv))
        return served

    def _served(self, model: ModelShard, tv: Tv) -> dict[bytes, Held]:
        return {
            key: (code, rate, count, created_at, _hint(context.genre_hints))
            for key, code, rate, count, created_at, _, context in model.served()
            if _owner(key) == tv.number
        }

    def _held(self, device_id: bytes) -> dict[bytes, Held]:
        return {
            key: (s.code, s.rate, s.count, s.created_at, _hint(s.context.genre_hints))
            for key, s in self.model.devices[device_id].patterns.items()
        }

    async def _sync_until(self, stopping: asyncio.Event, client: httpx.AsyncClient, tv: Tv) -> None:
        while not stopping.is_set():
            if tv.pending is None:
                tv.pending, tv.tries = self.new_delta(tv), 0
            lost = self._rng.random() < self.lost_share
            patience_s = LATE_S_MAX * self._rng.random() if lost else None
            answered = await self._send(client, tv, patience_s)
            if answered and self._rng.random() < POSTED_SHARE:
                answered = await self._post(client, self.titles[tv.number], patience_s)
            if not answered and not lost:
                if not self._patient:
                    return
                await asyncio.sleep(POLL_S)
            if tv.sent and self._rng.random() < self.lost_share:
                await self._send_old(client, tv.sent[self._rng.integers(len(tv.sent))])

    async def _send(self, client: httpx.AsyncClient, tv: Tv, patience_s: float | None = None) -> bool:
        """Was the pending delta acknowledged?"""
        assert tv.pending is not None
        tv.tries += 1
        reply = await self._reply(client, "/api/v1/sync?similar=0&trending=0", tv.pending, patience_s)
        if reply is not None:
            self._acknowledge(tv, reply)
        return reply is not None

    async def _post(self, client: httpx.AsyncClient, title: Title, patience_s: float | None = None) -> bool:
        """Was the title's next revision, or the pending one, acknowledged?"""
        if title.pending is None:
            title.revision += 1
            title.pending = _posted(title)
        reply = await self._reply(client, "/api/v1/content", title.pending, patience_s)
        if reply is not None:
            title.acknowledged, title.pending = title_of(title.pending), None
        return reply is not None

    async def _reply(
        self, client: httpx.AsyncClient, path: str, body: bytes, patience_s: float | None
    ) -> httpx.Response | None:
        """None if it was refused, or did not come."""
        try:
            async with asyncio.timeout(patience_s):
                reply = await client.post(path, content=body)
        except (httpx.TransportError, TimeoutError) as error:
            if patience_s is None:
                self.refusals.append(repr(error))
            return None
        if not reply.is_success:
            self.refusals.append(f"{reply.status_code} {reply.text}")
            return None
        return reply

    def _acknowledge(self, tv: Tv, reply: httpx.Response) -> None:
        assert tv.pending is not None
        answer = reply.json()
        request, accepted = request_of(tv.pending), Accepted(**answer["accepted"])
        expected = self.model.apply(request, time.time())
        self.reference.apply(request, time.time())
        if accepted.duplicate and tv.tries > 1:
            self.duplicates += 1
        else:
            assert accepted == expected, f"device {tv.number}, sequence {tv.sequence}"
        assert answer["last_sequence"] == tv.sequence
        self.acknowledged += 1
        tv.sent.append(tv.pending)
        tv.pending = None

    async def _send_old(self, client: httpx.AsyncClient, body: bytes) -> None:
        reply = (await client.post("/api/v1/sync?similar=0&trending=0", content=body)).raise_for_status().json()
        assert reply["accepted"] == {**_counts(Accepted()), "duplicate": True}
        device_id = request_of(body).device_id
        pending = [tv.sequence for tv in self.tvs if tv.id == device_id and tv.pending is not None]
        assert reply["last_sequence"] in (self.model.last_sequence(device_id), *pending)

    def new_delta(self, tv: Tv) -> bytes:
        """One to three patterns stored, and some updated, removed, filtered, unknown."""
        tv.sequence += 1
        rng = self._rng
        numbers = [tv.number * 1_000 + int(k) for k in rng.integers(0, IDS_PER_DEVICE, 8)]
        added = [_added(number, rng, 0.5) for number in numbers[: rng.integers(1, 4)]]
        added += [_added(number, rng, 0.0, 0.5) for number in numbers[3:4] if rng.random() < 0.2]
        updated = [
            {"id": _text(number), "new_success_rate": rng.random(), "additional_samples": int(rng.integers(1, 90))}
            for number in numbers[4 : 4 + rng.integers(0, 3)]
        ]
        removed = [_text(number) for number in numbers[6 : 6 + rng.integers(0, 3)]]
        changes = {"patterns_added": added, "patterns_updated": updated, "patterns_removed": removed}
        body = {"device_id": str(UUID(bytes=tv.id)), "delta": {**changes, "sequence": tv.sequence}}
        return json.dumps(body).encode()


def _client(url: str) -> httpx.AsyncClient:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    # Reading the machine's certificates takes longer than a sync, and there are none to check.
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True, verify=False)


async def _seen(client: httpx.AsyncClient) -> dict[bytes, Held]:
    """Everything served to a device that has nothing."""
    delta: dict[str, list[object]] = {"patterns_added": [], "patterns_updated": [], "patterns_removed": []}
    body = {"device_id": str(UUID(bytes=ASKER)), "delta": delta}
    reply = await client.post("/api/v1/sync?similar=100&embedding=i8", content=json.dumps(body).encode())
    similar = reply.raise_for_status().json()["global"]["similar"]
    assert len({one["id"] for one in similar}) == len(similar) <= DEVICES * IDS_PER_DEVICE
    return {
        UUID(one["id"]).bytes: (
            *(base64.b64decode(one["embedding"]), float(np.float32(one["success_rate"])), one["sample_count"]),
            *(one["created_at"], _hint(one["context"]["genre_hints"])),
        )
        for one in similar
    }


async def _served_title(client: httpx.AsyncClient, title: Title) -> HeldTitle | None:
    reply = await client.get(f"/api/v1/content/{title.content_id}")
    return None if reply.status_code == 404 else title_of(reply.raise_for_status().content)


def _posted(title: Title) -> bytes:
    body = {
        "content_id": title.content_id,
        "title": f"Revision {title.revision}",
        "embedding": base64.b64encode(code_of(title.code + title.revision).tobytes()).decode(),
        "metadata": {"year": 1900 + title.revision % 100},
    }
    return json.dumps(body).encode()


def title_of(body: bytes) -> HeldTitle:
    return held_title(decode_content(body, Media.JSON))


def _added(number: int, rng: np.random.Generator, low: float, high: float = 1.0) -> dict[str, object]:
    kind = number + int(rng.integers(3))
    context = context_of(kind)
    return {
        "id": _text(number),
        "embedding": base64.b64encode(code_of(kind).tobytes()).decode(),
        "success_rate": float(rng.uniform(low, high)),
        "sample_count": int(rng.integers(1, 1_000)),
        "context": {
            "time_of_day": context.time_of_day,
            "day_of_week": context.day_of_week,
            "content_type": context.content_type,
            "genre_hints": list(context.genre_hints),
        },
        "created_at": START + int(rng.integers(1_000)),
        "updated_at": START + 1_000,
    }


def request_of(body: bytes) -> SyncRequest:
    return decode_sync(body, Media.JSON)


def _counts(accepted: Accepted) -> dict[str, object]:
    return {name: getattr(accepted, name) for name in accepted.__struct_fields__}


def _text(number: int) -> str:
    return str(UUID(bytes=id_of(number)))


def _owner(key: bytes) -> int:
    return int.from_bytes(key, "big") // 1_000


def _hint(hints: "list[str] | tuple[str, ...]") -> bytes:
    return "".join(hints[:1]).encode()

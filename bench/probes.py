"""The operations that a sync is made of, each small enough to be run a thousand times: what `gate` and `ab` compare.

Every probe works on a small shard made of the shipped catalogue, whatever other films are at hand, and leaves it as it
was, so that all of its rounds are alike. A probe's operation i returns the bytes that it made for the wire or the disk.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench import workload
from bench.plan import Plan
from bench.workload import PATTERNS_A_DEVICE
from constellation import codebook, limits, records
from constellation.client.received import Received
from constellation.model import DIM, NextSync, SyncOptions, SyncRequest
from constellation.rounds import BOUNDS
from constellation.shard import Shard
from constellation.shard.devices import Devices
from constellation.shard.similarity import ADDED_AT_ONCE_MAX, SimilarityIndex
from constellation.storage.journal import Journal
from constellation.wire.body import compress, unpack
from constellation.wire.dictionary import newest
from constellation.wire.media import Media
from constellation.wire.reply import decode_reply, encode_delta
from constellation.wire.sync import decode_sync, encode_sync, noise_bytes
from kernels.codes import inverse_norms
from kernels.contributions import contribute, empty_totals

Operation = Callable[[int], int]

PATTERNS = 10_000
LOOKUPS = 1_000
RESTORED_PATTERNS = 500
COMMITTED = 16
BUCKETS = 1_024
YARDSTICKS = ("the interpreter", "NumPy")
"""Probes that are no part of the service: how fast this machine is, at this moment."""

_NOTHING, _NO_UPDATES = workload.no_patterns(), workload.no_updates()
_NEXT_SYNC = NextSync(limits.NEXT_SYNC_AFTER_S, limits.NEXT_SYNC_WITHIN_S)


class Probes:
    """The shard, and every probe over it by name. Made anew in each process that measures."""

    def __init__(self, patterns: int = PATTERNS, seed: int = 1) -> None:
        plan = Plan(patterns=patterns, seed=seed)
        self._rng = plan.rng("probes")
        self._part = workload.load_library(patterns, seed, shipped=True).known
        self._households = workload.make_households(self._part, patterns // PATTERNS_A_DEVICE, None, self._rng)
        self._shard = Shard(workload.shard_settings(patterns))
        self._now = float(workload.START_S)
        for request in self._first_syncs():
            self._apply(request)
        self._directory = tempfile.TemporaryDirectory()
        self.operations: dict[str, Operation] = {
            "the interpreter": _interpreter(),
            "NumPy": self._numpy(),
            "search: the 100 nearest": self._search(),
            "store: two patterns, and back": self._store(),
            "three updates, then the trends": self._update(),
            "an answer, whole": self._answer(),
            "a sync of nothing new, from body to body": self._sync(warm=False),
            "the same, what changed since the cursor": self._sync(warm=True),
            "a compact reply": self._compact(),
            "a TV reads a whole reply": self._read(),
            f"{LOOKUPS:,} devices looked up": self._look_up(),
            f"{RESTORED_PATTERNS} patterns restored": self._restore(),
            "contributions of all patterns": self._contribute(),
            f"{COMMITTED} records committed": self._commit(),
        }

    def close(self) -> None:
        self._directory.cleanup()

    def _apply(self, request: SyncRequest) -> None:
        self._now += workload.TICK_S
        self._shard.apply(request, self._now)
        while self._shard.maintain():
            pass

    def _first_syncs(self) -> Iterator[SyncRequest]:
        return workload.first_syncs(self._households, self._rng)

    def _device(self, i: int) -> bytes:
        device_id: bytes = self._households.device_ids[i % len(self._households)].tobytes()
        return device_id

    def _numpy(self) -> Operation:
        vectors = self._households.codes[:2_000].astype(np.float32)
        return lambda i: int((vectors @ vectors[i % len(vectors)]).argmax() < 0)

    def _search(self) -> Operation:
        codes = self._households.codes.copy()
        index = SimilarityIndex(codes, inverse_norms(codes))
        for start in range(0, len(codes), ADDED_AT_ONCE_MAX):
            index.add_many(np.arange(start, min(start + ADDED_AT_ONCE_MAX, len(codes)), dtype=np.int32))
        while index.settle():
            pass

        def search(i: int) -> int:
            index.search(codes[i * 7 % len(codes)], limits.SIMILAR_MAX)
            return 0

        return search

    def _store(self) -> Operation:
        requests = []
        for device in range(64):
            ids = workload.make_ids(2, self._rng)
            codes = self._part.patterns(self._households.films[device, :2], self._rng)
            add = workload.make_request(self._device(device), workload.make_batch(ids, codes, self._rng), _NO_UPDATES)
            remove = workload.make_request(self._device(device), _NOTHING, _NO_UPDATES)
            remove.delta.removed = ids
            requests.append((add, remove))

        def store(i: int) -> int:
            return sum(map(self._recorded, requests[i % len(requests)]))

        return store

    def _recorded(self, request: SyncRequest) -> int:
        self._apply(request)
        assert self._shard.change is not None
        return len(records.encode(self._shard.change))

    def _update(self) -> Operation:
        requests = [
            workload.make_request(
                self._device(device),
                _NOTHING,
                workload.make_updates(self._households.ids[self._households.rows_of(device)][:3], self._rng),
            )
            for device in range(64)
        ]

        def update(i: int) -> int:
            n_bytes = self._recorded(requests[i % len(requests)])
            self._shard.trending(limits.TRENDING_MAX, self._now)
            return n_bytes

        return update

    def _answer(self) -> Operation:
        def answer(i: int) -> int:
            self._shard.answer(self._device(i), workload.EVERYTHING)
            return 0

        return answer

    def _sync(self, *, warm: bool) -> Operation:
        """As `api.sync` does it, without HTTP; `warm`: under the version of the device's last reply."""
        versions: dict[bytes, int] = {}

        def sync(i: int) -> int:
            device = self._device(i % 200)
            delta = workload.make_request(device, _NOTHING, _NO_UPDATES).delta
            delta.local_version = versions.get(device) if warm else None
            sent = compress(encode_delta(device, delta, Media.MSGPACK, "i8"), newest())
            asked = decode_sync(unpack(sent, "zstd", limits.BODY_BYTES_MAX).content, Media.MSGPACK)
            applied = self._shard.apply(asked, self._now)
            answer = self._shard.answer(device, workload.EVERYTHING, asked.delta.local_version)
            versions[device] = answer.global_version
            return len(compress(encode_sync(answer, applied, _NEXT_SYNC, Media.MSGPACK, "i8")))

        for i in range(400 if warm else 0):
            sync(i)
        return sync

    def _compact(self) -> Operation:
        version = codebook.default_codebook().version
        options = SyncOptions(limits.SIMILAR_MAX, limits.TRENDING_MAX, "compact", version)
        applied = self._shard.apply(workload.make_request(self._device(0), _NOTHING, _NO_UPDATES), self._now)

        def reply(i: int) -> int:
            answer = self._shard.answer(self._device(i), options)
            body = encode_sync(answer, applied, _NEXT_SYNC, Media.MSGPACK, "compact")
            return len(compress(body, newest(), noise_bytes(answer, Media.MSGPACK)))

        return reply

    def _read(self) -> Operation:
        applied = self._shard.apply(workload.make_request(self._device(0), _NOTHING, _NO_UPDATES), self._now)
        answer = self._shard.answer(self._device(0), workload.EVERYTHING)
        body = encode_sync(answer, applied, _NEXT_SYNC, Media.MSGPACK, "i8")

        def read(_: int) -> int:
            Received().take(decode_reply(body, Media.MSGPACK))
            return 0

        return read

    def _look_up(self) -> Operation:
        ids = [device_id.tobytes() for device_id in workload.make_ids(20_000, self._rng)]
        devices = Devices(len(ids), seed=1)
        for device_id in ids:
            devices.add(device_id)

        def look_up(i: int) -> int:
            for device_id in itertools.islice(ids, i % 16 * LOOKUPS, (i % 16 + 1) * LOOKUPS):
                devices.find(device_id)
            return 0

        return look_up

    def _restore(self) -> Operation:
        kept = Shard(workload.shard_settings(RESTORED_PATTERNS))
        for request in itertools.islice(self._first_syncs(), RESTORED_PATTERNS // PATTERNS_A_DEVICE):
            kept.apply(request, self._now)
        changes = [piece.change for piece in kept.pieces(RESTORED_PATTERNS)]
        settings = workload.shard_settings(RESTORED_PATTERNS)

        def restore(_: int) -> int:
            shard = Shard(settings)
            for change in changes:
                shard.restore(change)
            _exhaust(shard.restored())
            return 0

        return restore

    def _contribute(self) -> Operation:
        households = self._households
        buckets = households.films.reshape(-1) % np.int32(BUCKETS)
        inverse = inverse_norms(households.codes)
        starts, rows = np.arange(0, len(buckets) + 1, PATTERNS_A_DEVICE), np.arange(len(buckets), dtype=np.int32)
        columns = (buckets, households.codes, inverse, households.rates, households.counts)
        totals = empty_totals(BUCKETS, DIM)

        def count(i: int) -> int:
            sign = 1 if i % 2 == 0 else -1
            contribute(totals, starts, rows, *columns, limits.WEIGHT_COUNT_CAP, BOUNDS["patterns"].samples, sign)
            return 0

        return count

    def _commit(self) -> Operation:
        journal = Journal.open(Path(self._directory.name, "journal.db"), 1 << 30)
        record = self._rng.bytes(1_000)

        def commit(_: int) -> int:
            for _ in range(COMMITTED):
                journal.append(record)
            journal.commit()
            return COMMITTED * len(record)

        return commit


def _interpreter() -> Operation:
    def work(i: int) -> int:
        counted: dict[int, int] = {}
        for number in range(1_000):
            counted[number * i % 101] = counted.get(number % 97, 0) + 1
        return 0

    return work


def _exhaust(steps: Iterator[None]) -> None:
    for _ in steps:
        pass

"""Lives of TVs that sync with one shard, where replies get lost, others change everything and the shard restarts.

No sockets: the shard is called as the API calls it, and a TV puts together what it has as the client does, from the
bytes of replies. Beside it a second TV goes by handles alone. A *history* is all that one TV goes through from its
first sync until it loses what it has.
"""

from collections import Counter
from random import Random

import numpy as np
from msgspec import structs

from constellation.client.received import Received
from constellation.model import Answer, Applied, NextSync, Rows, SyncOptions, SyncRequest
from constellation.shard import Shard
from constellation.wire.media import Media
from constellation.wire.reply import decode_reply
from constellation.wire.sync import encode_sync
from tests.shard.material import START, batch, codebook, id_of, request, settings
from tests.shard.model import Pattern, patterns_of
from tests.shard.published import round_of

DEVICES, IDS, CODES = 7, 8, 12
"""Few, so that different devices have patterns with the same id, and the same direction."""
TVS = 4
BOUNDS = structs.replace(settings(devices=DEVICES, patterns=60, per_device=6), max_cursors=TVS - 1)
OPTIONS = [
    SyncOptions(similar=100, trending=50, embedding="i8"),
    SyncOptions(similar=100, trending=50, embedding="f16"),
    SyncOptions(similar=6, trending=2, embedding="i8"),
    SyncOptions(similar=3, trending=2, embedding="i8"),
    SyncOptions(similar=0, trending=0, embedding="i8"),
]
TOMBSTONE_KEY = bytes(32)


class Tv:
    """What one device has: as the client keeps it, and by handle."""

    def __init__(self, device: int, rng: Random) -> None:
        self.device = device
        self.options = rng.choice(OPTIONS)
        self.busy = rng.choice([0.0, 0.0, 0.0, 0.3])
        self.begins = rng.choice([0.0, 0.0, 1.0, 1.0])
        """How likely its first delta says anything."""
        self.syncs_left = rng.randint(2, 8)
        self.received = Received()
        self.unanswered: SyncRequest | None = None
        self.by_handle: dict[int, Pattern] = {}

    def take(self, answer: Answer, applied: Applied, media: Media) -> None:
        """Raises WrongDigest if client and shard do not agree."""
        body = encode_sync(answer, applied, NextSync(1, 1), media, self.options.embedding)
        self.received.take(decode_reply(body, media))
        if answer.reset:
            self.by_handle.clear()
        for handle in answer.gone.tolist():
            del self.by_handle[handle]
        told = zip(answer.handles.tolist(), answer.whole.tolist(), patterns_of(answer.similar), strict=True)
        for handle, whole, pattern in told:
            if not whole:
                (known, code, *_), (same, _, *facts) = self.by_handle[handle], pattern
                assert known == same
                pattern = (known, code, *facts)  # type: ignore[assignment]
            self.by_handle[handle] = pattern


class World:
    """A shard, its devices, and TVs that live one history after another."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now = float(START)
        self.sequence = 0
        self.rows = np.empty(0, np.int32)
        self.apart = self.rng.choice([0, 1, IDS, IDS])
        """Ids of two devices in a row: all the same, most of them, none."""
        self.shard = self._new_shard()
        self.tvs = [Tv(device, self.rng) for device in range(TVS)]
        self.lived = 0
        self.seen = Counter[str]()

    def step(self) -> None:
        """A TV syncs, or something else happens."""
        draw = self.rng.random()
        if draw < 0.7:
            self._sync(self.rng.randrange(TVS))
        elif draw < 0.9:
            self.shard.apply(self._request(self.rng.randrange(TVS, DEVICES), busy=1.0), self.now)
        elif draw < 0.93:
            self.now += self.rng.choice([0.5, 60, 4_000, -1_000])
        elif draw < 0.95:
            self.shard.forget(id_of(self.rng.randrange(DEVICES)), self.now)
        elif draw < 0.965:
            self._publish()
        elif draw < 0.98:
            tv = self.rng.choice(self.tvs)
            tv.options = self.rng.choice(OPTIONS)
        elif draw < 0.998:
            self.shard.maintain()
        else:
            self._restart()

    def _sync(self, place: int) -> None:
        tv = self.tvs[place]
        busy = tv.begins if tv.received.version is None else tv.busy
        sent = tv.unanswered if tv.unanswered and self.rng.random() < 0.7 else self._request(tv.device, busy)
        applied = self.shard.apply(sent, self.now)
        answer = self.shard.answer(sent.device_id, tv.options, tv.received.version)
        self._count(answer, applied)
        if self.rng.random() < 0.3:
            tv.unanswered = sent
            return
        tv.unanswered = None
        tv.take(answer, applied, Media.JSON if self.rng.random() < 0.1 else Media.MSGPACK)
        whole = self._everything()
        assert Counter(patterns_of(tv.received.similar)) == Counter(tv.by_handle.values()) == Counter(whole)
        assert tv.received.trending == self.shard.trending(tv.options.trending, self.now)
        tv.syncs_left -= 1
        if not tv.syncs_left:
            self.tvs[place] = Tv(tv.device, self.rng)
            self.lived += 1

    def _everything(self) -> list[Pattern]:
        """What the shard found for the TV just now, whatever it told of it."""
        similar = self.shard._patterns.gather(self.rows)
        self.shard._prototypes.put_into(similar, self.rows)
        return patterns_of(similar)

    def _count(self, answer: Answer, applied: Applied) -> None:
        self.seen["whole lists" if answer.reset else "deltas"] += 1
        self.seen["revised"] += bool((~answer.whole).any())
        self.seen["gone"] += bool(len(answer.gone))
        self.seen["ids of several"] += len(answer.gone) > len(answer.removed)
        self.seen["trends unchanged"] += answer.trending is None
        self.seen["resent"] += applied.accepted.duplicate

    def _request(self, device: int, busy: float) -> SyncRequest:
        """A delta; `busy` is how likely there is something in it."""
        draw, rng = self.rng.random() / busy if busy else 1.0, self.rng
        self.sequence += 1
        added = [self._pattern(device) for _ in range(rng.randint(1, 3))] if draw < 0.5 else []
        updated = [self._pattern(device) for _ in range(rng.randint(1, 2))] if 0.4 < draw < 0.9 else []
        removed = [self._pattern(device)[0]] if 0.8 < draw < 1.0 else []
        codes = [rng.randrange(CODES) for _ in added]
        return request(device, batch(added, codes), updated, removed, self.sequence)

    def _pattern(self, device: int) -> tuple[int, float, int]:
        number = self.rng.randrange(IDS) + self.apart * device
        return number, self.rng.choice([0.75, 0.8, 0.9, 0.9, 1.0]), self.rng.choice([1, 20, 500])

    def _publish(self) -> None:
        drawn = [(self.rng.randrange(CODES), 0.9, self.rng.randint(1, 3)) for _ in range(self.rng.randint(0, 4))]
        self.shard.publish(round_of(drawn, 1, int(self.now)), None)

    def _restart(self) -> None:
        before, self.shard = self.shard, self._new_shard()
        for piece in before.pieces(patterns_at_once=10):
            self.shard.restore(piece.change, piece.places)
        for _ in self.shard.restored():
            pass

    def _new_shard(self) -> Shard:
        """One that lets us see which rows it finds for a device: the same, whether it remembers some or seeks all."""
        shard = Shard(BOUNDS, tombstone_key=TOMBSTONE_KEY, codebook=codebook(1, size=8))
        find, renew = shard._asking.similar, shard._tables.rankings.renewed

        def similar(device: int, k: int, place: int = 0) -> Rows:
            self.rows = find(device, k, place)
            assert set(self.rows.tolist()) == set(find(device, k).tolist())
            return self.rows

        def renewed(place: int, device: int, k: int) -> Rows | None:
            rows = renew(place, device, k)
            self.seen["brought up to date"] += rows is not None
            return rows

        shard._asking.similar = similar  # type: ignore[method-assign]
        shard._tables.rankings.renewed = renewed  # type: ignore[method-assign]
        return shard

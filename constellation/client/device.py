"""One TV: what it learned, what it received, and the sync that exchanges them with a shard.

One delta is in flight at a time, as bytes under one sequence, and is sent unchanged until it is answered, over failed
syncs too: so the shard applies it exactly once. It is compressed with the newest dictionary, which the shard takes as
leave to answer with it; a shard that does not know it gets the same delta without, and all that follow. Clock,
randomness and HTTP session are the caller's.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import NamedTuple

import aiohttp
import numpy.typing as npt

from constellation.client.codebooks import Codebooks
from constellation.client.failures import BadReply, Refused, WrongDigest
from constellation.client.learned import Changes, Learned, Pattern, Told, quantise
from constellation.client.received import Received
from constellation.client.transport import Token, Transport
from constellation.errors import Problem, UnknownDictionary
from constellation.limits import ADDED_PER_DELTA_MAX, CHANGED_PER_DELTA_MAX
from constellation.model import Accepted, Context, PatternBatch, Trend
from constellation.wire.body import compress
from constellation.wire.compact import Held
from constellation.wire.dictionary import NO_DICTIONARY, newest
from constellation.wire.media import Media
from constellation.wire.reply import Reply, decode_reply, encode_delta

SYNC_PATH = "/api/v1/sync"
ROUNDS_MAX = 8
"""Different deltas that one sync tries before it gives up: a refused one is made smaller or gets a new sequence."""
LOOK_EVERY = 32
"""Syncs without a compact reply until a TV asks the shard which codebook it uses: some hours."""
LOOK_SOON = 1
"""The same after a reply in int8 though it asked for a compact one: the codebook has probably changed."""

_PATTERN_PATH = re.compile(r"delta\.patterns_(added|updated)\[(\d+)\]")


class SyncReport(NamedTuple):
    """What one sync did: the shard's account of the delta, and the cost. `reset`: the list of patterns came whole."""

    accepted: Accepted
    attempts: int
    bytes_up: int
    bytes_down: int
    reset: bool


class _Flight(NamedTuple):
    """One delta under way; `content` before compression."""

    sequence: int
    changes: Changes
    content: bytes


class Client:
    """A TV that learns and syncs. Not to be shared between event loops."""

    def __init__(
        self,
        url: str,
        device_id: uuid.UUID,
        session: aiohttp.ClientSession,
        *,
        rng: Random | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        codebooks: Codebooks | None = None,
        token: Token = None,
    ) -> None:
        """With codebooks replies come compact, where patterns have handles instead of ids; else in int8."""
        self.learned = Learned()
        self.received = Received()
        self.next_sync_s = 0.0
        self._device_id = device_id.bytes
        self._rng = rng or Random()
        self._clock = clock
        self._sequence = int(clock() * 1000)
        self._added_max = ADDED_PER_DELTA_MAX
        self._changed_max = CHANGED_PER_DELTA_MAX
        self._dictionary = newest()
        self._session, self._codebooks, self._token = session, codebooks, token
        self._held: Held | None = None
        self._look_in, self._looked = 0, False
        """Syncs until the shard is asked for its codebook; was it asked before?"""
        self._flight: _Flight | None = None
        self._syncing = asyncio.Lock()
        self._transport = Transport(f"{url.rstrip('/')}{SYNC_PATH}", session, self._rng, sleep, token)
        self._headers = {
            "Content-Type": Media.MSGPACK.value,
            "Content-Encoding": "zstd",
            "Accept-Encoding": "zstd",
            "X-Device-Id": str(device_id),
        }

    def learn(
        self,
        embedding: npt.ArrayLike,
        *,
        success_rate: float,
        sample_count: int,
        context: Context,
        pattern_id: uuid.UUID | None = None,
    ) -> uuid.UUID:
        """Keep a new pattern, or replace the one of that id. ValueError for an embedding that is none."""
        pattern_id = pattern_id or uuid.UUID(bytes=self._rng.randbytes(16), version=4)
        code, now = quantise(embedding), int(self._clock())
        self.learned.put(pattern_id.bytes, Pattern(code, success_rate, sample_count, context, now, now))
        return pattern_id

    def observe(self, pattern_id: uuid.UUID, *, success_rate: float, samples: int) -> None:
        """Fold in `samples` more uses of an own pattern, of which a share `success_rate` was liked."""
        self.learned.observe(pattern_id.bytes, success_rate, samples, int(self._clock()))

    def forget(self, pattern_id: uuid.UUID) -> None:
        """Drop an own pattern; the next sync takes it back from the shard too."""
        self.learned.forget(pattern_id.bytes)

    @property
    def shard_url(self) -> str:
        """The shard that the last sync was sent to, or the one to begin with."""
        return self._transport.url.removesuffix(SYNC_PATH)

    @property
    def neighbours(self) -> PatternBatch:
        """Patterns of other households that resemble this TV's taste, as of the last sync."""
        return self.received.similar

    @property
    def trending(self) -> list[Trend]:
        """What the region watches, best first, as of the last sync."""
        return self.received.trending

    async def sync(self) -> SyncReport:
        """Tell the shard what is new, take what it answers, and draw `next_sync_s`.

        Raises `SyncFailed`: `Unreachable` or `BadReply` (the delta stays in flight, as it does when the token is
        refused), `Refused` or `WrongDigest`.
        """
        async with self._syncing:
            await self._look()
            for _ in range(ROUNDS_MAX):
                flight = self._flight = self._flight or self._prepare()
                body = compress(flight.content, self._dictionary)
                try:
                    answered = await self._transport.post(body, self._headers, self._parameters())
                except Refused as refused:
                    if refused.status in (401, 403):
                        raise  # it is about us: the delta may have been taken at an attempt before, and stays in flight
                    if refused.code == UnknownDictionary.code and self._dictionary:
                        self._dictionary = NO_DICTIONARY
                        continue
                    self._flight = None
                    self._yield_to(refused, flight)
                    continue
                reply = self._decode(answered.body)
                self._flight = None
                if self._settle(flight, reply):
                    return SyncReport(reply.accepted, answered.attempts, len(body), answered.bytes_down, reply.reset)
            raise Refused(200, {"code": "unsettled", "detail": f"no delta was settled in {ROUNDS_MAX} rounds"})

    async def _look(self) -> None:
        """Get the codebook that the shard uses, at first and when replies have not been compact for a while."""
        if self._codebooks is None:
            return
        if self._look_in == 0:
            self._held = await self._codebooks.current(self.shard_url, self._session, self._token, anew=self._looked)
            self._look_in, self._looked = LOOK_EVERY, True
        self._look_in -= 1

    def _parameters(self) -> dict[str, str]:
        return {} if self._held is None else {"embedding": "compact", "codebook": str(self._held.version)}

    def _decode(self, body: bytes) -> Reply:
        """Raises `BadReply`; the next sync goes without a codebook then."""
        try:
            reply = decode_reply(body, Media.MSGPACK, self._held)
        except Problem as problem:
            if self._held is not None and self._codebooks is not None:
                self._codebooks.forget(self._held.version)
                self._held = None
            raise BadReply(problem.detail) from problem
        if reply.compact:
            self._look_in = LOOK_EVERY
        elif self._held is not None:
            self._look_in = min(self._look_in, LOOK_SOON)
        return reply

    def _prepare(self) -> _Flight:
        self._sequence += 1
        changes = self.learned.changes(self._added_max, self._changed_max)
        delta = self.learned.delta(changes, self.received.version, self._sequence)
        return _Flight(self._sequence, changes, encode_delta(self._device_id, delta, Media.MSGPACK, "i8"))

    def _settle(self, flight: _Flight, reply: Reply) -> bool:
        """Take a reply; False if the delta has to go again under another sequence, or the list has to come whole."""
        after_s, within_s = reply.next_sync.after_s, reply.next_sync.within_s
        self.next_sync_s = after_s + self._rng.random() * within_s
        if reply.accepted.duplicate and reply.last_sequence is not None and reply.last_sequence > flight.sequence:
            self._sequence = reply.last_sequence  # a clock set back: the shard took our sequence for an old one
            return False
        self.learned.settle(flight.changes, rejected=reply.accepted.rejected)
        try:
            self.received.take(reply)
        except WrongDigest:
            if self.received.version is None or reply.reset:
                raise
            self.received.version = None  # a patch of a list that was not the shard's: ask for the whole
            return False
        return True

    def _yield_to(self, refused: Refused, flight: _Flight) -> None:
        """Change what the next delta holds so that it may pass, or raise the refusal."""
        named = _PATTERN_PATH.match(refused.path)
        if refused.code == "sequence_conflict" and refused.last_sequence is not None:
            self._sequence = max(self._sequence, refused.last_sequence)
        elif refused.status == 413 or refused.code == "too_many_patterns":
            self._shrink(refused, flight.changes)
        elif refused.status == 422 and named is not None:
            self._leave_out(
                refused, flight.changes.added if named[1] == "added" else flight.changes.updated, int(named[2])
            )
        else:
            raise refused

    def _leave_out(self, refused: Refused, listed: Mapping[bytes, Told], place: int) -> None:
        """Keep the pattern at that place of a list to ourselves."""
        if place >= len(listed):
            raise refused
        self.learned.refuse(list(listed)[place])

    def _shrink(self, refused: Refused, changes: Changes) -> None:
        """Halve what one delta may hold; the rest goes with later syncs."""
        added, changed = len(changes.added), len(changes.updated) + len(changes.removed)
        if max(added, changed) <= 1:
            raise refused
        self._added_max, self._changed_max = max(1, added // 2), max(1, changed // 2)

"""TVs for locust: `locust -f bench/locustfile.py --host http://127.0.0.1:8080`, or `make load`.

Each user is a household as `constellation.fleet` has them, and its client's memory: deltas in msgpack and zstd with the
dictionary, int8 embeddings, the cursor of its last reply, a sequence, and a digest that every reply has to prove.
A user waits for its reply (a closed loop), so latencies leave out what waits to be sent: `constellation fleet` is open.
"""

import functools
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from locust import FastHttpUser, between, events, task
from locust.contrib.fasthttp import FastResponse

from constellation import catalogue
from constellation.client.learned import Learned, Pattern, quantise
from constellation.client.received import Received
from constellation.fleet import films
from constellation.fleet.households import draw_interests, make_patterns, watch
from constellation.fleet.tv import CONFIRMING_SHARE, FIRST_PATTERNS_MAX, NEW_PATTERNS, PATTERNS_MAX, QUIET_SHARE
from constellation.identity import DEVICE, Issuer, read_issuer
from constellation.limits import BODY_BYTES_MAX
from constellation.model import ID_BYTES
from constellation.wire.body import compress, decompress
from constellation.wire.dictionary import newest
from constellation.wire.media import Media
from constellation.wire.reply import decode_reply, encode_delta
from kernels.warm import warm

PATH = "/api/v1/sync?embedding=i8&similar=100&trending=50"
WAIT_S = 2.0, 6.0
"""Between two syncs of a user: a tenth of a second of a real TV's minute, so that few users are many TVs."""
TOKEN_S = 86_400
HEADERS = {
    "Content-Type": Media.MSGPACK.value,
    "Content-Encoding": "zstd",
    "Accept": Media.MSGPACK.value,
    "Accept-Encoding": "zstd",
}


@events.init_command_line_parser.add_listener
def _add_options(parser: Any) -> None:
    parser.add_argument("--token-key", default="", help="private key to issue the TVs' tokens with, where shards ask")
    parser.add_argument("--audience", default="constellation", help="of the tokens")


class Compressed(FastResponse):
    """A reply whose body is left as it came: locust's client does not know zstd, and its size is that on the wire."""

    def _content(self) -> Any:
        if self.headers is None or self.headers.get("content-encoding") != "zstd":
            return super()._content()
        body = self._response.read()
        self.release()
        return body


@events.init.add_listener
def _prepare(**_: Any) -> None:
    """Before the first user, who would hold up all others meanwhile."""
    _world()
    warm()


class Tv(FastHttpUser):
    """One household and what it holds."""

    wait_time = between(*WAIT_S)

    def on_start(self) -> None:
        self.client.client.response_type = Compressed
        self._world, self._rng = _world(), np.random.default_rng()
        self._device = uuid.uuid4()
        self._interests = draw_interests(self._world.popularity, self._rng)
        self._learned, self._received, self._keys = Learned(), Received(), list[bytes]()
        self._sequence = int(time.time() * 1e3)
        self._headers = HEADERS | self._token()
        self._discover(FIRST_PATTERNS_MAX)

    @task
    def sync(self) -> None:
        self._live()
        changes = self._learned.changes()
        self._sequence += 1
        delta = self._learned.delta(changes, self._received.version, self._sequence)
        body = compress(encode_delta(self._device.bytes, delta, Media.MSGPACK, "i8"), newest())
        with self.client.post(PATH, data=body, headers=self._headers, name="sync", catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {(response.content or b'')[:200]!r}")
                return
            try:
                told = decompress(response.content, response.headers.get("Content-Encoding", ""), BODY_BYTES_MAX)
                reply = decode_reply(told, Media.MSGPACK)
                self._received.take(reply)
            except Exception as error:  # whatever it is, this reply was no good
                response.failure(f"{type(error).__name__}: {error}")
                return
        self._learned.settle(changes, rejected=reply.accepted.rejected)

    def _live(self) -> None:
        draw = self._rng.random()
        if draw < QUIET_SHARE:
            return
        if draw < QUIET_SHARE + CONFIRMING_SHARE:
            key = self._keys[int(self._rng.integers(len(self._keys)))]
            self._learned.observe(key, 0.9, int(self._rng.integers(1, 20)), int(time.time()))
        else:
            self._discover(NEW_PATTERNS)

    def _discover(self, count: int) -> None:
        world, now = self._world, int(time.time())
        chosen = watch(world.neighbours, self._interests, count, self._rng)
        vectors = make_patterns(world.vectors, world.neighbours, chosen, self._rng)
        for film, vector in zip(chosen.tolist(), vectors, strict=True):
            key, context = self._rng.bytes(ID_BYTES), world.context(film, self._rng)
            rate, samples = float(self._rng.uniform(0.7, 1.0)), int(self._rng.integers(10, 60))
            self._learned.put(key, Pattern(quantise(vector), rate, samples, context, now, now))
            self._keys.append(key)
        for key in self._keys[:-PATTERNS_MAX]:
            self._learned.forget(key)
        del self._keys[:-PATTERNS_MAX]

    def _token(self) -> dict[str, str]:
        options = self.environment.parsed_options
        if options is None or not options.token_key:
            return {}
        issuer = _issuer(options.token_key, options.audience)
        token = issuer.issue(str(self._device), [DEVICE], TOKEN_S, str(self._device))
        return {"Authorization": f"Bearer {token}"}


@functools.cache
def _world() -> films.Films:
    return films.prepare(catalogue.load())


@functools.cache
def _issuer(key: str, audience: str) -> Issuer:
    """As `constellation token issue` has it."""
    return read_issuer(Path(key), audience)

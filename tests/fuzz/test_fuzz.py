"""Changed bodies by both doors against a real process that asks for tokens: no crash, no 5xx, and no memory that stays.

`CONSTELLATION_SOAK=1`: ten minutes, by another seed each time, which is printed; else a few seconds by the same.
"""

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest

from constellation.api.grpc import sync_pb2 as pb
from constellation.api.grpc.sync import SERVICE
from tests.api.process import Server, serving
from tests.fuzz.make import CORPUS
from tests.fuzz.mutations import Body, Mutations
from tests.identity.fleet import Fleet, bearer

SOAK = os.environ.get("CONSTELLATION_SOAK") == "1"
SECONDS = 600.0
COUNT = 1_500
"""Of bodies by each door, in the short form."""
WARM_SHARE = 0.25
"""After which memory has to stay as it is: by then what is bounded is there, and what is kept to be used again."""
GROWTH_BYTES_MAX = 24 << 20
STRANGERS_SHARE = 0.05
REFUSED = {400, 403, 409, 413, 415, 422}
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
MEDIA = {"json": "application/json", "msgpack": "application/msgpack"}


class Fuzzed:
    """A shard, what is sent to it by both doors, and what came of that."""

    def __init__(self, server: Server, fleet: Fleet, client: httpx.Client, channel: grpc.Channel) -> None:
        self.server, self.outcomes = server, Counter[str]()
        self._client, self._process = client, psutil.Process(server.child.pid)
        self._good, self._strange = fleet.issue("device"), list(fleet.bad().values())
        path = f"/{SERVICE}/"
        self._unary: dict[str, Any] = {
            "push": channel.unary_unary(f"{path}PushPatterns"),
            "pull": channel.unary_unary(f"{path}PullPatterns"),
        }
        self._stream: Any = channel.stream_stream(f"{path}StreamSync", response_deserializer=pb.StreamReply.FromString)

    def resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)

    def post(self, body: Body, rng: random.Random) -> None:
        token, expected = self._token(rng, REFUSED | {200}, {401})
        headers = {"Content-Type": MEDIA[body.form], "Content-Encoding": body.encoding, **bearer(token)}
        query = rng.choice(("", "?embedding=i8", "?embedding=compact&codebook=1", "?similar=0&trending=0"))
        try:
            reply = self._client.post(f"/api/v1/sync{query}", content=body.content, headers=headers)
        except httpx.TransportError:
            # What is too long may be answered, and the connection ended, before all of it was sent.
            assert len(body.content) > 256 << 10
            self.outcomes["cut"] += 1
        else:
            assert reply.status_code in expected, reply.text
            self.outcomes[f"{reply.status_code}"] += 1

    def call(self, body: Body, rng: random.Random) -> None:
        token, expected = self._token(rng, REFUSALS | {grpc.StatusCode.OK}, {grpc.StatusCode.UNAUTHENTICATED})
        metadata = (("authorization", f"Bearer {token}"),)
        try:
            if body.form == "push" and rng.random() < 0.25:
                self._streamed(body, metadata)
            else:
                self._unary[body.form](body.content, metadata=metadata, timeout=20)
            status = grpc.StatusCode.OK
        except grpc.RpcError as error:
            status = error.code()
        # The library refuses metadata of 8 KiB and more by itself, sometimes.
        assert status in expected or (len(token) > 4_096 and status is grpc.StatusCode.RESOURCE_EXHAUSTED), status
        self.outcomes[status.name] += 1

    def _streamed(self, body: Body, metadata: object) -> None:
        for reply in self._stream(iter([body.content, body.content]), metadata=metadata, timeout=20):
            assert not reply.HasField("problem") or reply.problem.code != "internal"

    def _token(self, rng: random.Random, known: set[Any], stranger: set[Any]) -> tuple[str, set[Any]]:
        """A token, and what may be answered to whoever has it."""
        return (rng.choice(self._strange), stranger) if rng.random() < STRANGERS_SHARE else (self._good, known)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    fleet = Fleet(tmp_path_factory.mktemp("fuzz"))
    # One device sends everything: its bucket of tokens has to hold it.
    room = ("--max-devices=1000", "--max-patterns=10000", "--device-burst=1000000", "--device-syncs-per-min=1000000")
    with (
        serving(*fleet.options, *room) as server,
        httpx.Client(base_url=server.url, timeout=30, headers={"Accept-Encoding": "identity"}) as client,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        yield Fuzzed(server, fleet, client, channel)


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: str(file.name))
def test_kept_bodies_are_good(fuzzed: Fuzzed, file: Path) -> None:
    form, content = file.name.split(".")[1], file.read_bytes()
    before, always = fuzzed.outcomes.copy(), random.Random(1)
    if form in MEDIA:
        fuzzed.post(Body(form, "identity", content), always)
    else:
        fuzzed.call(Body(form, "", content), always)
    (outcome,) = fuzzed.outcomes - before
    assert outcome in ("200", "OK") or ".found." in file.name or (file.stem == "titles.pull" and outcome == "NOT_FOUND")


def test_changed_bodies_neither_crash_it_nor_stay_in_its_memory(fuzzed: Fuzzed) -> None:
    seed = random.randrange(2**32) if SOAK else 1
    print(f"seed {seed}")
    rng, ends_at = random.Random(seed), time.monotonic() + SECONDS
    by_rest = iter(Mutations(CORPUS, ("json", "msgpack"), seed))
    by_grpc = iter(Mutations(CORPUS, ("push", "pull"), seed))
    warm_bytes = 0
    for number in itertools.count():
        left = (ends_at - time.monotonic()) / SECONDS if SOAK else 1 - number / COUNT
        if left <= 0:
            break
        if left <= 1 - WARM_SHARE and not warm_bytes:
            warm_bytes = fuzzed.resident_bytes()
        for send, body in ((fuzzed.post, next(by_rest)), (fuzzed.call, next(by_grpc))):
            try:
                send(body, rng)
            except Exception:
                print(f"number {number}, {body.form} {body.encoding}: {body.content[:4_000].hex()}")
                raise
    grown_bytes = fuzzed.resident_bytes() - warm_bytes
    print(f"{warm_bytes / 2**20:.1f} MiB, then {grown_bytes / 2**20:+.1f}; {fuzzed.outcomes.most_common()}")
    assert grown_bytes < GROWTH_BYTES_MAX
    assert fuzzed.server.child.poll() is None
    # Whatever came of it, everything was reached: what is good, what is refused by every rule, and who is not known.
    assert {"200", "400", "401", "413", "415", "422", "OK", "INVALID_ARGUMENT", "UNAUTHENTICATED"} <= set(
        fuzzed.outcomes
    )

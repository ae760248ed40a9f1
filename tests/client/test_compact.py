"""A TV that gets compact replies from a real shard, and what it does when it cannot."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from random import Random

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from constellation import codebook
from constellation.client import BadReply, Client, Codebooks, SyncClient, open_session
from constellation.codebook import CENTROIDS, default_codebook
from constellation.model import DIM, Context
from kernels.codes import inverse_norms, quantise
from tests.api.process import serving
from tests.client.peer import answer, peer
from tests.kernels.material import random_codes

CONTEXT = Context("evening", "weekend", "movie", ("drama",))
BOOK = default_codebook()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as server:
        yield server.url


def near(centroid: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A vector near one of the codebook, as those of films are."""
    noise = rng.standard_normal(DIM) * np.linalg.norm(BOOK.codes[centroid]) * 0.02
    vector: npt.NDArray[np.float32] = (BOOK.codes[centroid] + noise).astype(np.float32)
    return vector


def test_what_one_tv_learned_reaches_another_as_it_changes(url: str, rng: np.random.Generator) -> None:
    with SyncClient(url, uuid.uuid4()) as one, SyncClient(url, uuid.uuid4(), compact=True) as other:
        taste = near(3, rng)
        told = one.learn(taste, success_rate=0.95, sample_count=30, context=CONTEXT)
        one.sync()
        other.learn(near(3, rng), success_rate=0.9, sample_count=12, context=CONTEXT)
        cold = other.sync()
        first = other.neighbours
        assert (len(first), int(first.counts[0]), first.contexts[0]) == (1, 30, CONTEXT)
        assert float(first.rates[0]) == pytest.approx(0.95, abs=1 / 510 + 1e-6)
        assert not first.ids[0, :15].any()
        meant = quantise(taste.reshape(1, -1))
        cosine = (meant * inverse_norms(meant)[:, None] * first.codes * inverse_norms(first.codes)[:, None]).sum()
        assert cosine > 0.9
        one.observe(told, success_rate=0.95, samples=100)
        one.sync()
        warm = other.sync()
        assert other.neighbours.counts[0] == 128 and warm.bytes_down < cold.bytes_down
        np.testing.assert_array_equal(other.neighbours.codes, first.codes)
        one.forget(told)
        one.sync()
        other.sync()
        assert len(other.neighbours) == 0


def test_one_codebook_serves_many_tvs(url: str) -> None:
    async def run() -> None:
        async with open_session() as session:
            books = Codebooks()
            held = await asyncio.gather(*(books.current(url, session) for _ in range(5)))
            assert held[0] is not None and all(each is held[0] for each in held)
            assert held[0].version == BOOK.version

    asyncio.run(run())


def test_shard_without_a_quantiser_is_asked_for_int8(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("codebook") / "nine.bin"
    file.write_bytes(codebook.encode(codebook.build(9, {CENTROIDS: random_codes(1, 3, DIM).tobytes()})))
    with serving("--codebook", str(file)) as server, SyncClient(server.url, uuid.uuid4(), compact=True) as tv:
        tv.sync()
        reply = httpx.get(f"{server.url}/api/v1/info").json()
        assert reply["codebook_version"] == 9


class TestPeer:
    """What a shard at its worst says."""

    def test_damaged_codebook_leaves_a_tv_with_int8(self) -> None:
        info = answer(200, b'{"codebook_version": 1}')
        said = [info, answer(200, b"no codebook"), answer(404, {"code": "not_found"}), *[info] * 3]

        async def story(client: Client) -> None:
            with pytest.raises(Exception, match="404"):
                await client.sync()

        assert "?" not in told(said, story)[2]

    def test_block_that_cannot_be_read_is_a_bad_reply_and_the_next_sync_goes_without(self) -> None:
        info, book = answer(200, b'{"codebook_version": 1}'), answer(200, codebook.encode(BOOK))
        broken = answer(200, _reply(similar=b"\1\0\0\0\0\0\0\0\0"))

        async def story(client: Client) -> None:
            with pytest.raises(BadReply, match="stamp"):
                await client.sync()
            await client.sync()
            assert len(client.neighbours) == 0

        paths = told([info, book, broken, answer(200, _reply(similar=[]))], story)
        assert paths[2:] == ["/api/v1/sync?embedding=compact&codebook=1", "/api/v1/sync"]


def _reply(similar: object) -> dict[str, object]:
    shared = {"similar": similar, "trending": [], "global_version": 1, "reset": True, "removed": []}
    accepted = dict.fromkeys(("added", "filtered", "evicted", "updated", "removed", "rejected"), 0)
    return {
        "global": shared | {"digest": "ef46db3751d8e999"},
        "accepted": accepted | {"duplicate": False},
        "last_sequence": 1,
        "next_sync": {"after_s": 1, "within_s": 1},
    }


def told(answers: list[bytes], story: Callable[[Client], Awaitable[None]]) -> list[str]:
    """The paths that a TV asked for while it was told these answers."""

    async def run() -> list[str]:
        async with peer(*answers) as listening, open_session() as session:
            tv = uuid.UUID(int=7)
            await story(Client(listening.url, tv, session, rng=Random(1), codebooks=Codebooks()))
            return [heard.raw.split(b" ", 2)[1].decode() for heard in listening.heard]

    return asyncio.run(run())

"""The codebook over a socket, and samples: what is told and what is not."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from constellation import codebook
from constellation.api.keeping import load
from constellation.api.service import Service
from constellation.codebook import CENTROIDS
from constellation.codebooks import make
from constellation.config import Settings
from constellation.limits import SAMPLE_MAX
from constellation.model import DIM, Codes
from constellation.shard import Shard
from kernels.codes import quantise
from tests.api import bodies
from tests.api.direct import Direct
from tests.api.process import command, environment, serving
from tests.kernels.material import random_codes

SHIPPED = Path(make.__file__).with_name("1.bin").read_bytes()
SAMPLE = "/api/v1/sample"


def test_codebook_is_the_file_and_may_be_kept_for_ever(client: httpx.Client) -> None:
    reply = client.get("/api/v1/codebook/1")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/octet-stream")
    assert reply.content == SHIPPED
    assert reply.headers["etag"] == f'"{codebook.checksum(codebook.decode(SHIPPED))}"'


@pytest.mark.parametrize("version", ["2", "0", "-1", "01", "1.0", "latest", "%31%00"])
def test_other_versions_are_not_found(client: httpx.Client, version: str) -> None:
    reply = client.get(f"/api/v1/codebook/{version}")
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


def test_another_codebook_is_served_by_its_version(tmp_path: Path) -> None:
    content = codebook.encode(codebook.build(9, {CENTROIDS: random_codes(1, 3, DIM).tobytes(), "later": b"unknown"}))
    (tmp_path / "nine.bin").write_bytes(content)
    with serving("--codebook", str(tmp_path / "nine.bin")) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/api/v1/info").json()["codebook_version"] == 9
        assert client.get("/api/v1/codebook/9").content == content
        assert client.get("/api/v1/codebook/1").status_code == 404


def test_shard_groups_its_patterns_by_the_codebook_that_was_chosen() -> None:
    async def loaded() -> Service:
        settings = Settings(max_devices=9, max_patterns=99)
        nine = codebook.build(9, {CENTROIDS: random_codes(1, 3, DIM).tobytes()})
        service = Service(settings, Shard(settings, codebook=nine), nine)
        await load(service)
        return service

    shard = asyncio.run(loaded()).shard
    while shard.maintain():
        pass
    assert shard.codebook_version == 9


def test_damaged_codebook_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "bad.bin").write_bytes(SHIPPED[:-1])
    ended = subprocess.run(
        command("--codebook", str(tmp_path / "bad.bin")),
        env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--codebook" in ended.stderr and "bad.bin" in ended.stderr and "checksum" in ended.stderr


@pytest.fixture
def direct() -> Iterator[Direct]:
    called = Direct()
    yield called
    called.close()


def post(direct: Direct, seed: int, rate: float = 0.9) -> bytes:
    """A device with one pattern; its code."""
    vector = bodies.embedding(seed)
    added = bodies.pattern(embedding=vector, success_rate=rate)
    assert direct.post("/api/v1/sync", bodies.body(added)).status == 200
    return quantise(np.array([vector], np.float32)).tobytes()


def sampled(direct: Direct, query: str = "") -> Codes:
    reply = direct.get(SAMPLE + query)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/octet-stream")
    assert reply.headers["cache-control"] == "no-store"
    return np.frombuffer(reply.content, np.int8).reshape(-1, DIM)


def test_sample_tells_the_embeddings_that_are_served_and_nothing_else(direct: Direct) -> None:
    assert sampled(direct).size == 0
    served = {post(direct, seed) for seed in range(20)}
    post(direct, 99, rate=0.75)
    codes = [code.tobytes() for code in sampled(direct)]
    assert len(codes) == 20 and set(codes) == served


def test_sample_is_as_long_as_asked(direct: Direct) -> None:
    for seed in range(8):
        post(direct, seed)
    assert len(sampled(direct, "?limit=3")) == 3
    assert len(sampled(direct, f"?limit={SAMPLE_MAX}")) == 8


@pytest.mark.parametrize("limit", ["0", "10001", "-1", "x"])
def test_limit_of_a_sample_is_checked(direct: Direct, limit: str) -> None:
    problem = direct.get(f"{SAMPLE}?limit={limit}").json()
    assert (problem["status"], problem["code"], problem["path"]) == (422, "invalid_parameter", "query.limit")


def test_shard_that_is_not_ready_gives_no_sample(direct: Direct) -> None:
    direct.service.drain()
    assert direct.get(SAMPLE).status == 503


def test_aggregates_tell_no_pattern_of_a_household() -> None:
    shut = Direct(sharing="aggregates")
    reply = shut.get(SAMPLE)
    shut.close()
    assert (reply.status, reply.json()["code"]) == (403, "forbidden")

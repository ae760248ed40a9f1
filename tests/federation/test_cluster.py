"""A federation as an operator starts it: `serve --shards N`, its worker, real devices, and restarts."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import httpx
import pytest

from constellation import catalogue, codebook
from constellation.cli.main import main
from constellation.client import Client, open_session
from constellation.codebook import CENTROIDS, build
from constellation.slots import SLOTS, slot_of
from tests.api.process import START_S_MAX, STOP_S_MAX, environment, wait_for
from tests.kernels.material import random_codes
from tests.shard.material import context_of

SHARDS, DEVICES = 3, 18
ROUND_S_MAX = 60


class Cluster(NamedTuple):
    """The shards' URLs by number, the coordinator database's, and the process that has them all."""

    urls: list[str]
    coordinator: str
    child: "subprocess.Popen[bytes]"


@contextmanager
def cluster(folder: Path, round_every_s: int) -> Iterator[Cluster]:
    command = [sys.executable, "-m", "constellation", "serve", f"--shards={SHARDS}", f"--data-dir={folder}"]
    command += ["--port=0", "--grpc-port=0", "--metrics-port=0", "--max-patterns=10000", "--max-devices=1000"]
    with tempfile.NamedTemporaryFile() as output:
        child = subprocess.Popen(
            command, stdout=output, env=environment({"CONSTELLATION_INTERVAL": str(round_every_s)})
        )

        def found(what: str) -> list[str]:
            return re.findall(rf"^{what} (\S+)$", Path(output.name).read_text(), re.M)

        try:
            wait_for(lambda: child.poll() is not None or len(found("listening on")) == SHARDS, START_S_MAX)
            by_id = {httpx.get(f"{url}/api/v1/info").json()["shard_id"]: url for url in found("listening on")}
            yield Cluster([by_id[f"shard-{number}"] for number in range(SHARDS)], found("coordinator at")[0], child)
        finally:
            child.terminate()
            try:
                assert child.wait(2 * STOP_S_MAX) == 0
            finally:
                child.kill()


@asynccontextmanager
async def televisions(url: str) -> AsyncIterator[list[Client]]:
    """Devices whose first address is the same shard, a third of them on each by their slots."""
    async with open_session(DEVICES) as session:
        numbers = (uuid.UUID(int=number, version=4) for number in range(10_000))
        ids = {share: [] for share in range(SHARDS)}  # type: dict[int, list[uuid.UUID]]
        for device_id in numbers:
            share = slot_of(device_id.bytes) * SHARDS // SLOTS
            if len(ids[share]) < DEVICES // SHARDS:
                ids[share].append(device_id)
        yield [Client(url, device_id, session) for share in ids.values() for device_id in share]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="constellation-test-") as made:
        yield Path(made)


def test_federation_from_the_first_device_to_a_restart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def learn(urls: list[str]) -> None:
        vectors = catalogue.load().vectors()
        async with televisions(urls[0]) as tvs:
            for number, tv in enumerate(tvs):
                tv.learn(vectors[7], success_rate=0.9, sample_count=50, context=context_of(3))
                await tv.sync()
                assert tv.shard_url == urls[number // (DEVICES // SHARDS)], "it was sent to the shard of its slot"
                await tv.sync()

    async def received(url: str) -> int:
        """Prototypes that a device which nobody knows gets."""
        async with televisions(url) as tvs:
            await tvs[0].sync()
            return int(tvs[0].received.is_prototype.sum())

    with cluster(folder, round_every_s=1) as running:
        asyncio.run(_until_mapped(running.urls))
        asyncio.run(learn(running.urls))
        for url in running.urls:
            wait_for(lambda url=url: _stats(url)["prototypes"] == 1, ROUND_S_MAX)  # type: ignore[misc]
            assert asyncio.run(received(url)) == 1
            trends = httpx.get(f"{url}/api/v1/trending?region=global").json()["trending"]
            assert [trend["content_id"] for trend in trends] == ["genre:genre 3"]
        other = folder / "two.bin"
        other.write_bytes(codebook.encode(build(2, {CENTROIDS: random_codes(5, 8, 384).tobytes()})))
        assert main(["codebook", "publish", str(other), f"--coordinator-url={running.coordinator}"]) == 0
        for url in running.urls:
            wait_for(lambda url=url: httpx.get(f"{url}/api/v1/info").json()["codebook_version"] == 2, ROUND_S_MAX)  # type: ignore[misc]
        done = _stats(running.urls[0])["federation_round"]
        wait_for(lambda: _stats(running.urls[0])["federation_round"] > done + 2, ROUND_S_MAX)
        assert _stats(running.urls[0])["prototypes"] == 1
        assert main(["rounds", f"--coordinator-url={running.coordinator}"]) == 0
        assert "published" in capsys.readouterr().out

    with cluster(folder, round_every_s=3_600) as running:
        asyncio.run(_until_mapped(running.urls))
        for url in running.urls:
            stats = _stats(url)
            assert stats["prototypes"] == 1 and stats["patterns_stored"] == DEVICES // SHARDS
            assert asyncio.run(received(url)) == 1


def test_all_stop_with_the_first_that_ends(folder: Path) -> None:
    command = [sys.executable, "-m", "constellation", "serve", "--shards=2", f"--data-dir={folder}", "--storage=memory"]
    command += ["--port=0", "--grpc-port=0", "--metrics-port=0", "--max-patterns=10000", "--max-devices=1000"]
    with tempfile.NamedTemporaryFile() as output:
        with subprocess.Popen(command, stdout=output, stderr=output, env=environment()) as child:
            said = Path(output.name)
            wait_for(lambda: child.poll() is not None or said.read_text().count("listening on") == 2, START_S_MAX)
            shards = [int(pid) for pid in re.findall(r'"pid":(\d+)', said.read_text())]
            assert len(shards) == 2
            os.kill(shards[0], signal.SIGKILL)
            assert child.wait(2 * STOP_S_MAX) == 1
        assert "so all stop" in said.read_text()
        assert not Path(f"/proc/{shards[1]}").exists()


async def _until_mapped(urls: list[str]) -> None:
    """Every shard knows where all of them are, with every slot in one hand."""
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(ROUND_S_MAX):
            for url in urls:
                while True:
                    async with session.get(f"{url}/api/v1/shards") as response:
                        shards = (await response.json())["shards"]
                    slots = sorted(zip(*[iter(s for shard in shards for s in shard["slots"])] * 2, strict=True))
                    if [shard["url"] for shard in shards] == urls:
                        break
                    await asyncio.sleep(0.1)
                assert [last + 1 for _, last in slots[:-1]] == [first for first, _ in slots[1:]]
                assert (slots[0][0], slots[-1][1]) == (0, SLOTS - 1)


def _stats(url: str) -> dict[str, int]:
    found: dict[str, int] = httpx.get(f"{url}/api/v1/stats").json()
    return found

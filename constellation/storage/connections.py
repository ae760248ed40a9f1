"""Connections to PostgreSQL, whatever it holds: of several hosts to the one that takes writes.

Its errors tell whether to try again or what to do. Under the shard's database and the coordinator's.
"""

import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg

from constellation import limits

POSTGRES_MIN = 15

CONNECTIONS_MAX = 4
CONNECT_S_MAX = 5
"""For one host."""
COMMAND_S_MAX = 60

_PASSED_OVER = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""What leads to the next host."""
_PASSING = (
    asyncpg.InterfaceError,  # the connection is closed
    asyncpg.InternalClientError,  # it was lost while a command was under way: asyncpg goes on with the next on it
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""What may be over at the next attempt."""
_SESSION = {
    "application_name": "constellation",
    # A machine that vanished without a word gives up its claim within half a minute.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


class WrongDatabase(Exception):
    """The database cannot be used as it is; says what somebody has to do."""


class DatabaseUnavailable(Exception):
    """The database cannot be used now: not reachable, starting, read-only, full. Worth trying again."""


class Connections:
    """To one database. Made by `open_pool`."""

    def __init__(self, url: str, pool: Any) -> None:
        self.url = url
        self._pool = pool

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection of the pool. Raises `DatabaseUnavailable`, also in place of what the server says in the body."""
        try:
            with explained(self.url):
                async with self._pool.acquire(timeout=CONNECT_S_MAX * (len(_hosts(self.url)) + 1)) as connection:
                    yield connection
        except DatabaseUnavailable:
            # After a failover all of them lead to the wrong server.
            await self._pool.expire_connections()
            raise

    async def close(self) -> None:
        """Give up every connection; what is still running is cut off."""
        self._pool.terminate()
        with contextlib.suppress(OSError, TimeoutError, asyncpg.InterfaceError):
            await self._pool.close()


async def open_pool(url: str) -> Any:
    """Connect to `postgresql://…`, of several hosts to the one that takes writes.

    Raises `DatabaseUnavailable` if there is none, `WrongDatabase` if it refuses us or is too old.
    """
    with explained(url):
        try:
            connection = await connect_once(url)
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError, ValueError) as error:
            raise WrongDatabase(f"{_shown(url)} cannot be opened: {error}") from error
        version = connection.get_server_version().major
        await connection.close()
        if version < POSTGRES_MIN:
            raise WrongDatabase(f"{_shown(url)} is PostgreSQL {version}; {POSTGRES_MIN} or newer is needed")
        return await asyncpg.create_pool(url, min_size=0, max_size=CONNECTIONS_MAX, connect=connect_once)


def retry_after_s(failures: int, rng: random.Random) -> float:
    """How long to leave a database alone that failed so many times in a row: longer and longer, jittered, so that those
    who lost it do not come back at once."""
    longest_s: float = min(limits.FLUSH_RETRY_S_MAX, limits.FLUSH_EVERY_S * 2 ** min(failures, 10))
    return rng.uniform(longest_s / 2, longest_s)


async def connect_once(url: str, **options: Any) -> Any:
    """To the first host that takes writes. asyncpg itself stops at one that accepts and says nothing."""
    failures: list[Exception] = []
    for host in _hosts(url):
        try:
            return await asyncpg.connect(
                host,
                timeout=CONNECT_S_MAX,
                command_timeout=COMMAND_S_MAX,
                target_session_attrs="read-write",
                server_settings=_SESSION,
                **options,
            )
        except _PASSED_OVER as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    raise ConnectionError("; ".join(_told(failure) for failure in failures))


def _hosts(url: str) -> list[str]:
    """The URL for each of its hosts."""
    start, slashes, rest = url.partition("://")
    place = rest.partition("?")[0].partition("/")[0]
    user, at, hosts = place.rpartition("@")
    return [f"{start}{slashes}{user}{at}{host}{rest[len(place) :]}" for host in hosts.split(",")]


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what passes into `DatabaseUnavailable`; let through what is a mistake in the code or the data."""
    try:
        yield
    except (*_PASSED_OVER, *_PASSING) as error:
        if isinstance(error, ValueError):  # asyncpg's word for an argument that it cannot encode
            raise
        raise DatabaseUnavailable(f"{_shown(url)}: {_told(error)}") from error


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def _shown(url: str) -> str:
    """The address without what is secret in it."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2] or ",".join(parse_qs(parts.query).get("host", ["the local socket"]))
    return f"database {parts.path.lstrip('/') or 'of the default name'} at {hosts}"


async def make_database(url: str, name: str) -> str:
    """The URL of another database on the same server, which is made if there is none. Raises `DatabaseUnavailable`."""
    quoted = '"' + name.replace('"', '""') + '"'
    with explained(url):
        connection = await connect_once(url)
        try:
            with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                await connection.execute(f"CREATE DATABASE {quoted}")
        finally:
            await connection.close()
    return urlsplit(url)._replace(path=f"/{quote(name)}").geturl()

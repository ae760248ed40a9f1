"""Versioned migrations: SQL files `NNNN_name.sql` in the folder `migrations` of a package, numbered from 1.

Constraints, what must hold:
- Migrations run once, in order, whole or not at all, however many processes start at the same moment.
- A migration that a release has shipped is never changed; a new one follows it.
What must fail: a schema newer than this release, one of another kind.
"""

import contextlib
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

from constellation.storage.connections import WrongDatabase

LONG_COMMAND_S_MAX = 6 * 3_600
"""For what grows with the database: loading it, building its index, a migration."""

Migrations = list[tuple[str, str]]
"""Name and statements of each, in order; the first one makes schema version 1."""

_LOCK = 0x4D494752


def read(package: str) -> Migrations:
    folder = resources.files(package) / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1)), "migrations are numbered 1, 2, 3"
    return [(file.name.removesuffix(".sql"), file.read_text()) for file in files]


@contextlib.asynccontextmanager
async def alone(connection: Any) -> AsyncIterator[None]:
    """A transaction in which nobody else migrates this database."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})", timeout=LONG_COMMAND_S_MAX)
        yield


async def apply(connection: Any, known: Migrations) -> None:
    """Those that are missing. Within `alone`. Raises `WrongDatabase`."""
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version"
        " (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    applied = await _applied(connection)
    _check_kind(applied, known)
    current = max(applied, default=0)
    if current > len(known):
        raise WrongDatabase(
            f"the database has schema version {current}, this release knows up to {len(known)}:"
            " start the release that wrote it, or a newer one"
        )
    for version, (name, statements) in enumerate(known[current:], current + 1):
        await connection.execute(statements, timeout=LONG_COMMAND_S_MAX)
        await connection.execute("INSERT INTO schema_version (version, name) VALUES ($1, $2)", version, name)


async def check(connection: Any, known: Migrations, kind: str) -> None:
    """All are there, and no others; `kind` says what such a database holds. Raises `WrongDatabase`."""
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        raise WrongDatabase(f"the database holds no {kind}")
    applied = await _applied(connection)
    _check_kind(applied, known)
    current = max(applied, default=0)
    if current != len(known):
        raise WrongDatabase(
            f"the database has schema version {current}, this release reads {len(known)}: use the one that serves it"
        )


async def _applied(connection: Any) -> dict[int, str]:
    return dict(await connection.fetch("SELECT version, name FROM schema_version"))


def _check_kind(applied: dict[int, str], known: Migrations) -> None:
    for version, (name, _) in enumerate(known, 1):
        if applied.get(version, name) != name:
            raise WrongDatabase(
                f"the database holds something else ({applied[version]} where {name} belongs): give one of its own"
            )

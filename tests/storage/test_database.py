"""Connecting, migrating and claiming, against a real PostgreSQL."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import asyncpg
import pytest

from constellation.records import empty_change
from constellation.storage import connections, schema
from constellation.storage.connections import DatabaseUnavailable, WrongDatabase
from constellation.storage.copy import VECTOR
from constellation.storage.database import (
    Claim,
    DatabaseOwned,
    WrongJournal,
    connect,
)
from constellation.storage.writing import write
from tests.storage.conftest import JOURNAL, claimed, execute, opened
from tests.storage.proxy import CutProxy

OTHER_JOURNAL = b"another journal."


def refused(attempt: Coroutine[Any, Any, object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        asyncio.run(attempt)


async def migrated(url: str) -> None:
    async with opened(url):
        pass


def test_processes_that_start_together_migrate_once(url: str) -> None:
    async def scenario() -> None:
        await asyncio.gather(*(migrated(url) for _ in range(4)))
        await migrated(url)
        rows = await execute(url, "SELECT version, name FROM schema_version ORDER BY version")
        assert [tuple(row) for row in rows] == [(n, name) for n, (name, _) in enumerate(schema.migrations(), 1)]

    asyncio.run(scenario())


def test_schema_of_a_newer_release_is_refused(url: str) -> None:
    asyncio.run(migrated(url))
    asyncio.run(execute(url, "INSERT INTO schema_version VALUES (99, 'later', now())"))
    refused(migrated(url), WrongDatabase, "schema version 99, this release knows up to 1")


def test_failed_migration_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [("0001_first", "CREATE TABLE first ()"), ("0002_second", "CREATE TABLE second (); SELECT 1 / 0")]
    monkeypatch.setattr(schema, "migrations", lambda: broken)
    refused(migrated(url), asyncpg.DivisionByZeroError, "zero")
    tables = asyncio.run(execute(url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'"))
    assert tables == []


def test_too_old_a_server_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "POSTGRES_MIN", 99)
    refused(connect(url), WrongDatabase, "99 or newer is needed")


def test_too_old_an_extension_is_refused_with_what_to_run(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "PGVECTOR_MIN", (99, 1))
    refused(migrated(url), WrongDatabase, r"99\.1 or newer is needed.*ALTER EXTENSION vector UPDATE")


def test_user_who_may_not_create_the_extension_is_told_what_an_administrator_runs(url: str) -> None:
    role = f"plain_{url.rpartition('/test_')[2].partition('?')[0]}"
    asyncio.run(execute(url, f"CREATE ROLE {role} LOGIN"))
    asyncio.run(execute(url, f"GRANT ALL ON SCHEMA public TO {role}"))
    as_role = url.replace("//constellation@", f"//{role}@")
    refused(migrated(as_role), WrongDatabase, "CREATE EXTENSION vector;")
    asyncio.run(execute(url, "CREATE EXTENSION vector"))
    asyncio.run(migrated(as_role))


def test_vectors_are_kept_in_full_where_the_extension_has_no_halves(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "HALFVEC_SINCE", (99, 0))

    async def scenario() -> None:
        async with opened(url) as database:
            assert database.vector == VECTOR
            await database.pattern_index(on=True)
        monkeypatch.undo()  # a newer extension does not change the tables that are there
        async with opened(url) as database:
            assert database.vector == VECTOR

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda url: url.replace("/test_", "/no_such_"), WrongDatabase, "does not exist"),
        (lambda url: url.replace("//constellation@", "//nobody_there@"), WrongDatabase, "nobody_there"),
        (lambda url: "mysql://here/there", WrongDatabase, "mysql"),
        (lambda url: "postgresql://user:secret@127.0.0.1:1/some", DatabaseUnavailable, "database some at 127.0.0.1:1"),
    ],
)
def test_database_that_cannot_be_opened_is_named(url: str, change: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text) as raised:
        asyncio.run(connect(change(url)))
    assert "secret" not in str(raised.value)


def test_hosts_that_do_not_answer_are_passed_over(url: str) -> None:
    async def scenario() -> None:
        async with CutProxy(url) as dead, CutProxy(url) as alive:
            dead.cut()
            address = f"{dead.host}:{dead.port}"
            both = dead.url.replace(address, f"{dead.host}:1,{address},{alive.host}:{alive.port}")
            async with opened(both) as database, database.connection() as connection:
                assert await connection.fetchval("SELECT 1") == 1
            assert dead.accepted and alive.accepted
            alive.cut()
            with pytest.raises(DatabaseUnavailable, match=f"test_.* at {dead.host}:1,.*;.*;"):
                await connect(both)

    asyncio.run(scenario())


def test_host_that_says_nothing_is_passed_over(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECT_S_MAX", 0.5)

    async def scenario() -> None:
        async with CutProxy(url) as silent, CutProxy(url) as alive:
            silent.stall()
            both = silent.url.replace(f":{silent.port}", f":{silent.port},{alive.host}:{alive.port}")
            async with opened(both):
                assert silent.accepted and alive.accepted

    asyncio.run(scenario())


def test_server_that_takes_no_writes_is_passed_over(url: str) -> None:
    name = url.rpartition("/test_")[2].partition("?")[0]
    asyncio.run(execute(url, f"ALTER DATABASE test_{name} SET default_transaction_read_only = on"))
    refused(connect(url), DatabaseUnavailable, "None of the hosts match")


def test_what_a_demoted_server_says_is_unavailable_and_no_connection_to_it_is_kept(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            with pytest.raises(DatabaseUnavailable, match="read-only"):
                async with database.connection() as connection, connection.transaction(readonly=True):
                    demoted = connection.get_server_pid()
                    await connection.execute("DELETE FROM shards")
            async with database.connection() as connection:
                assert connection.get_server_pid() != demoted

    asyncio.run(scenario())


def test_cut_connection_is_unavailable_and_the_next_one_works(url: str) -> None:
    async def scenario() -> None:
        async with CutProxy(url) as proxy, opened(proxy.url) as database:
            with pytest.raises(DatabaseUnavailable):
                async with database.connection() as connection:
                    proxy.cut()
                    await connection.fetchval("SELECT 1")
            with pytest.raises(DatabaseUnavailable):
                async with database.connection():
                    pass
            proxy.restore()
            async with database.connection() as connection:
                assert await connection.fetchval("SELECT 1") == 1

    asyncio.run(scenario())


def test_each_claim_has_the_next_epoch_and_one_tombstone_key(url: str) -> None:
    async def scenario() -> None:
        claims = []
        for _ in range(3):
            async with opened(url) as database:
                claims.append(await claimed(database))
                claims.append(await claimed(database))
        assert [claim.epoch for claim in claims] == [1, 2, 3, 4, 5, 6]
        assert {len(claim.tombstone_key) for claim in claims} == {32}
        assert len({claim.tombstone_key for claim in claims}) == 1

    asyncio.run(scenario())


def test_second_owner_is_refused_by_name_until_the_first_is_gone(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as second:
            async with opened(url) as first:
                await first.claim("shard-1", JOURNAL, "pid 7 on tv-1")
                with pytest.raises(DatabaseOwned, match=r"pid 7 on tv-1 for shard shard-1 since 20\d\d-"):
                    await claimed(second)
                assert first.claimed and not second.claimed
            assert (await second.claim("shard-1", JOURNAL, "second")).epoch == 2

    asyncio.run(scenario())


def test_claim_whose_connection_was_cut_is_taken_again(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            first = await claimed(database)
            await execute(
                url,
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            await _until(lambda: not database.claimed)
            assert (await claimed(database)).epoch == first.epoch + 1

    asyncio.run(scenario())


async def _until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def test_another_shard_is_refused(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await claimed(database)
        async with opened(url) as database:
            with pytest.raises(WrongDatabase, match="that of shard shard-1, not of shard-2"):
                await claimed(database, "shard-2")

    asyncio.run(scenario())


async def claim_with(url: str, journal_id: bytes, accept_loss: bool = False) -> Claim:
    async with opened(url) as database:
        return await database.claim("shard-1", journal_id, "a test", accept_loss)


def test_another_journal_is_adopted_while_nothing_was_written(url: str) -> None:
    async def scenario() -> None:
        await claim_with(url, JOURNAL)
        assert (await claim_with(url, OTHER_JOURNAL)).position == 0
        assert (await claim_with(url, OTHER_JOURNAL)).journal_id == OTHER_JOURNAL

    asyncio.run(scenario())


def test_another_journal_is_refused_unless_the_loss_is_accepted(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as database:
            await write(database, await claimed(database), empty_change(70), 12)
        assert (await claim_with(url, JOURNAL)).position == 12
        with pytest.raises(WrongJournal, match="--accept-loss"):
            await claim_with(url, OTHER_JOURNAL)
        assert (await claim_with(url, JOURNAL)).position == 12
        adopted = await claim_with(url, OTHER_JOURNAL, accept_loss=True)
        assert (adopted.position, adopted.version) == (0, 70)
        assert (await claim_with(url, OTHER_JOURNAL)).position == 0

    asyncio.run(scenario())


def test_pattern_index_is_built_mended_and_dropped(url: str) -> None:
    async def built() -> list[tuple[bool, str]]:
        rows = await execute(
            url,
            "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indexrelid = to_regclass('patterns_embedding')",
        )
        return [tuple(row) for row in rows]

    async def scenario() -> None:
        async with opened(url) as database:
            for _ in range(2):
                await database.pattern_index(on=True)
            [(valid, definition)] = await built()
            assert valid
            assert "hnsw (embedding halfvec_cosine_ops) WITH (m='32', ef_construction='100')" in definition
            await execute(
                url, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'patterns_embedding'::regclass"
            )
            await database.pattern_index(on=True)
            assert [valid for valid, _ in await built()] == [True]
            for _ in range(2):
                await database.pattern_index(on=False)
            assert await built() == []

    asyncio.run(scenario())

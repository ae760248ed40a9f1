"""The coordinator database, as the one worker that leads uses it: a round from its opening to its end.

collecting -> merging -> published, or -> abandoned. What a round is lies in the database alone, so that whoever leads
next goes on from there.

Constraints, what must hold:
- Every method is one transaction. It proves and prolongs the lease: what an earlier holder still sends is refused.
- At most one round goes on, and no partial comes to it once it has left `collecting`.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

from constellation import codebook as codebooks
from constellation.federation.database import ROUND_ROW, CoordinatorDatabase, RoundRow
from constellation.federation.privacy import BudgetSpent, PrivacyBudget, Release
from constellation.federation.terms import MIN_DEVICES, Noise, RoundTerms
from constellation.limits import LEASE_S, ROUNDS_KEPT, SHARD_LIVE_S
from constellation.rounds import FederationResult

LEASE = "worker"
GROUP_KEY_BYTES = 16
HAS_SLOTS = "shard_id IN (SELECT shard_id FROM slots)"
"""One without has no devices: were it asked, it would be one of those that must stand behind a prototype."""


class LeaseLost(Exception):
    """Another worker leads."""


class NoRound(Exception):
    """A round is due and cannot be opened; says why."""


class Noised(NamedTuple):
    """How much noise rounds of aggregates have, and what all of a window may cost together."""

    noise: Noise
    budget: PrivacyBudget


class Wanted(NamedTuple):
    """What rounds shall be, beside what the shards demand."""

    noised: Noised | None = None
    robust: bool = False
    """The mean is that of `robust`."""


PLAIN = Wanted()


class Current(NamedTuple):
    """The round that goes on."""

    state: str
    terms: RoundTerms


class Leadership:
    """Made by `take_lead`. Every method raises `LeaseLost` and `DatabaseUnavailable`."""

    def __init__(self, database: CoordinatorDatabase, epoch: int) -> None:
        self._database, self._epoch = database, epoch

    async def release(self) -> None:
        """Let another worker go on at once; whatever this one still sends is refused."""
        async with self._step() as connection:
            await connection.execute("UPDATE leases SET epoch = epoch + 1, until = now() WHERE name = $1", LEASE)

    async def current(self) -> Current | None:
        async with self._step() as connection:
            row = await connection.fetchrow("SELECT state, terms FROM rounds WHERE state IN ('collecting', 'merging')")
        return None if row is None else Current(row["state"], msgspec.msgpack.decode(row["terms"], type=RoundTerms))

    async def open(self, interval_s: float, deadline_s: float, wanted: Wanted = PLAIN) -> RoundRow | None:
        """Open a round if none was opened since the last multiple of the interval (unix seconds); an interval of 0 is
        always over. No other goes on. Raises `NoRound`, also where the budget is spent."""
        async with self._step() as connection:
            # Divided by null a time is null, and a round is due.
            if not await connection.fetchval(
                "SELECT coalesce(floor(extract(epoch FROM max(opened_at)) / nullif($1::float8, 0))"
                " < floor(extract(epoch FROM now()) / nullif($1::float8, 0)), true) FROM rounds",
                interval_s,
            ):
                return None
            terms = await _terms(connection, wanted)
            row = await connection.fetchrow(
                "INSERT INTO rounds (number, state, opened_at, deadline, map_epoch, codebook_version, terms, expected)"
                " VALUES ($1, 'collecting', now(), now() + make_interval(secs => $2), $3, $4, $5, $6)"
                f" RETURNING {ROUND_ROW}",
                *(terms.round, deadline_s, terms.map_epoch, terms.codebook_version),
                *(msgspec.msgpack.encode(terms), len(terms.shards)),
            )
            await connection.execute("INSERT INTO partials SELECT $1, unnest($2::text[])", terms.round, [*terms.shards])
        return RoundRow(*row)

    async def close_collecting(self, number: int) -> RoundRow | None:
        """At the deadline, or when every shard that lives has reported: merge what there is, abandon if nothing is."""
        async with self._step() as connection:
            over = await connection.fetchval("SELECT deadline <= now() FROM rounds WHERE number = $1", number)
            reported, awaited = await connection.fetchrow(
                "SELECT count(content), count(*) FILTER (WHERE content IS NULL AND heartbeat > now() -"
                " make_interval(secs => $2)) FROM partials LEFT JOIN shards USING (shard_id) WHERE round = $1",
                *(number, SHARD_LIVE_S),
            )
            if not over and (awaited or not reported):
                return None
            # Waits for reports that are being kept: they count, and none comes after them.
            await connection.execute("SELECT FROM rounds WHERE number = $1 FOR UPDATE", number)
            reported = await connection.fetchval("SELECT count(content) FROM partials WHERE round = $1", number)
            if not reported:
                return await _end(connection, number, "abandoned", "no shard reported by the deadline")
            row = await connection.fetchrow(
                f"UPDATE rounds SET state = 'merging', reported = $2 WHERE number = $1 RETURNING {ROUND_ROW}",
                *(number, reported),
            )
        return RoundRow(*row)

    async def next_partial(self, number: int, after: str) -> tuple[str, bytes] | None:
        """Shard and content of the first partial behind that of shard `after`; all of them begin behind ''."""
        async with self._step() as connection:
            row = await connection.fetchrow(
                "SELECT shard_id, content FROM partials WHERE round = $1 AND shard_id > $2 AND content IS NOT NULL"
                " ORDER BY shard_id LIMIT 1",
                *(number, after),
            )
        return None if row is None else (row["shard_id"], row["content"])

    async def publish(
        self, result: FederationResult, content: bytes, why: str, budget: PrivacyBudget | None = None
    ) -> RoundRow:
        """`content` is the encoded result; `why`: what was refused. What its noise costs is entered with it. Partials
        of earlier rounds go, and rounds that are older than the last `ROUNDS_KEPT`."""
        async with self._step() as connection:
            if result.privacy is not None:
                await _enter(connection, result.number, budget)
            await connection.execute(
                "UPDATE rounds SET result = $2, reported = $3, devices = $4, patterns = $5, prototypes = $6,"
                " trends = $7 WHERE number = $1",
                *(result.number, content, result.shards_reported, result.devices, result.patterns),
                *(len(result.prototypes), sum(map(len, result.trends))),
            )
            await connection.execute("DELETE FROM partials WHERE round < $1", result.number)
            await connection.execute("DELETE FROM rounds WHERE number <= $1", result.number - ROUNDS_KEPT)
            return await _end(connection, result.number, "published", why)

    async def abandon(self, number: int, why: str) -> RoundRow:
        """Nothing of the round is published; why."""
        async with self._step() as connection:
            return await _end(connection, number, "abandoned", why)

    @contextlib.asynccontextmanager
    async def _step(self) -> AsyncIterator[Any]:
        async with self._database.connection() as connection, connection.transaction():
            held = await connection.execute(
                "UPDATE leases SET until = now() + make_interval(secs => $3) WHERE name = $1 AND epoch = $2",
                *(LEASE, self._epoch, LEASE_S),
            )
            if held == "UPDATE 0":
                raise LeaseLost
            yield connection


async def take_lead(database: CoordinatorDatabase, holder: str) -> Leadership | None:
    """The lead, unless another has it and was heard of in the last `LEASE_S`. Raises `DatabaseUnavailable`."""
    async with database.connection() as connection:
        epoch: int | None = await connection.fetchval(
            "INSERT INTO leases AS held VALUES ($1, $2, 1, now() + make_interval(secs => $3)) ON CONFLICT (name)"
            " DO UPDATE SET holder = excluded.holder, epoch = held.epoch + 1, until = excluded.until"
            " WHERE held.until <= now() RETURNING epoch",
            *(LEASE, holder, LEASE_S),
        )
    return None if epoch is None else Leadership(database, epoch)


async def _terms(connection: Any, wanted: Wanted) -> RoundTerms:
    """What the next round is held to: every shard that has slots, and the newest codebook that those who live have all
    got to, never an older one than before: a shard that was started again begins with that of its settings. Raises
    `NoRound`."""
    number, at = await connection.fetchrow(
        "SELECT coalesce(max(number), 0) + 1, extract(epoch FROM now())::bigint FROM rounds"
    )
    epoch = await connection.fetchval("SELECT epoch FROM map FOR SHARE")
    moving = await connection.fetchrow(
        "SELECT number, to_shard FROM moves JOIN shards ON shard_id = to_shard"
        " WHERE state = 'copied' AND heartbeat > now() - make_interval(secs => $1) LIMIT 1",
        SHARD_LIVE_S,
    )
    if moving is not None:
        raise NoRound(f"shard {moving['to_shard']} takes in the devices of move {moving['number']}")
    version = await connection.fetchval(
        "SELECT min(codebook_version) FROM shards WHERE heartbeat > now() - make_interval(secs => $1)"
        " AND codebook_version >= (SELECT coalesce(max(codebook_version), 1) FROM rounds WHERE state = 'published')"
        f" AND {HAS_SLOTS}",
        SHARD_LIVE_S,
    )
    if version is None:
        raise NoRound(f"no shard whose patterns are in buckets was heard of in the last {SHARD_LIVE_S} s")
    content = await connection.fetchval("SELECT content FROM codebooks WHERE version = $1", version)
    if content is None:
        raise NoRound(f"the shards use codebook {version}, which nobody has published")
    shards = await connection.fetch(f"SELECT shard_id, region, sharing FROM shards WHERE {HAS_SLOTS} ORDER BY shard_id")
    sharing = min(sharing for _, _, sharing in shards)  # aggregates, if that is what any of them gives
    noised = wanted.noised
    if noised is not None:
        if sharing != "aggregates":
            raise NoRound("noise is for aggregates: start every shard with --sharing aggregates, or give --epsilon 0")
        try:
            noised.budget.admit(await _releases(connection), noised.noise, at)
        except BudgetSpent as error:
            raise NoRound(str(error)) from error
    return RoundTerms(
        round=number,
        at=at,
        map_epoch=epoch,
        codebook_version=version,
        buckets=len(codebooks.decode(content)),
        shards={shard_id: region for shard_id, region, _ in shards},
        sharing=sharing,
        min_devices=MIN_DEVICES[sharing],
        noise=noised.noise if noised else None,
        group_key=secrets.token_bytes(GROUP_KEY_BYTES) if wanted.robust else b"",
    )


async def _releases(connection: Any) -> list[Release]:
    return [Release(*row) for row in await connection.fetch("SELECT at, multiplier, names_delta FROM releases")]


async def _enter(connection: Any, number: int, budget: PrivacyBudget | None) -> None:
    """The release of a round: what the noise of its terms costs alone, and with those of a budget's window."""
    content = await connection.fetchval("SELECT terms FROM rounds WHERE number = $1", number)
    terms = msgspec.msgpack.decode(content, type=RoundTerms)
    assert terms.noise is not None
    release = Release(terms.at, terms.noise.multiplier, terms.noise.names_delta)
    spent = None
    if budget is not None:
        within = [one for one in await _releases(connection) if one.at > terms.at - budget.window_s]
        spent = budget.spent([*within, release])
    await connection.execute(
        "INSERT INTO releases VALUES ($1, $2, $3, $4, $5, $6)",
        *(number, *msgspec.structs.astuple(release), terms.noise.privacy.epsilon, spent),
    )


async def _end(connection: Any, number: int, state: str, why: str) -> RoundRow:
    row = await connection.fetchrow(
        f"UPDATE rounds SET state = $2, why = $3, ended_at = clock_timestamp() WHERE number = $1 RETURNING {ROUND_ROW}",
        *(number, state, why),
    )
    return RoundRow(*row)
